"""Budgets of judge calls: what a group may spend, who plays first when not all can, and what is handed on.

    open:    calls_per_group, calls_per_step / groups, rest of calls_per_run / groups --min--> a group's allowance
    scores:  what the step has left --hand_on--> groups whose topology would play on, in equal shares, until it is spent

A group whose topology cannot exceed its allowance streams as ever. One that can waits until it is complete and then
plays those first who have played least, so that what is there when the calls end says something about everybody.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

from rewards.config import CallBudget
from rewards.errors import RunStopped
from rewards.types import Pairing, Slate

Item = TypeVar("Item", Pairing, Slate)


class Purse:
    """Counts a run's calls against its budget; one for a training arena.

    Args:
        groups: groups that a step has.
        spent: calls that the run made before.
    """

    def __init__(self, budget: CallBudget, *, groups: int, spent: int = 0) -> None:
        self._budget = budget
        self._groups_per_step = self._groups = groups
        self._spent = spent
        self._earlier = 0  # calls of the present step's batches before this one
        self._last_step = 0

    def allowance(self) -> int | None:
        """Calls of one group of the next batch before anything is handed on; None: no bound.

        Raises:
            RunStopped: the run's calls are spent.
        """
        left = self.left(0)
        if self._budget.calls_per_run is not None and self._spent >= self._budget.calls_per_run:
            raise RunStopped(
                f"rewards.budget.calls_per_run: all {self._budget.calls_per_run} judge calls are spent; "
                "raise it and go on with --resume"
            )
        shares = [self._budget.calls_per_group, None if left is None else left // self._groups]
        return min((share for share in shares if share is not None), default=None)

    def left(self, used: int) -> int | None:
        """What a batch that has used `used` calls may still spend; None: no bound."""
        budget = self._budget
        step_left = None if budget.calls_per_step is None else budget.calls_per_step - self._earlier
        run_left = None if budget.calls_per_run is None else budget.calls_per_run - self._spent
        bounds = [bound for bound in (step_left, run_left) if bound is not None]
        return max(0, min(bounds) - used) if bounds else None

    def close_batch(self, used: int) -> None:
        """A batch is a step of its own unless `refill` says that the next one goes on with it."""
        self._spent += used
        self._last_step = self._earlier + used
        self._earlier, self._groups = 0, self._groups_per_step

    def refill(self, groups: int, *, calls_per_item: int) -> bool:
        """The next batch, of so many groups, belongs to the step of the last one; False: nothing is left for it."""
        self._earlier, self._groups = self._last_step, groups
        left = self.left(0)
        if left is None or left >= calls_per_item:
            return True
        self._earlier, self._groups = 0, self._groups_per_step
        return False

    @property
    def spent(self) -> int:
        return self._spent


def hand_on(wanting: Sequence[int], *, calls_left: int | None, calls_per_item: int, seed: int) -> dict[int, int | None]:
    """Matches or slates that each of the groups that want to play on gets now; None: no bound.

    Equal shares; when there is less than a match for each, lots decide who gets one.
    """
    if calls_left is None:
        return dict.fromkeys(wanting)
    matches = calls_left // calls_per_item
    if matches >= len(wanting) > 0:
        return dict.fromkeys(wanting, matches // len(wanting))
    lots = sorted(wanting, key=lambda group: _lot(seed, group, matches))
    return dict.fromkeys(lots[:matches], 1)


class Quota(Generic[Item]):
    """What may start in one play of a group: at most `max_items`, once everybody is there; None: no bound.

    Args:
        played: matches or slates that the group played before.
    """

    def __init__(self, max_items: int | None, played: Iterable[Item], *, seed: int) -> None:
        self._max_items = max_items
        self._played = list(played)
        self._started: dict[Item, None] = {}
        self._seed = seed

    def choose(self, items: Sequence[Item], complete: bool) -> Sequence[Item]:
        """Those of `items` that start now; whoever asks starts them all."""
        if self._max_items is None:
            return items
        if not complete:
            return []
        chosen = least_played_first(
            (item for item in items if item not in self._started),
            [*self._played, *self._started],
            num_items=self._max_items - len(self._started),
            seed=self._seed,
        )
        self._started |= dict.fromkeys(chosen)
        return chosen


def least_played_first(items: Iterable[Item], played: Iterable[Item], *, num_items: int, seed: int) -> list[Item]:
    """The first `num_items` matches or slates, each time one whose members have played least; lots break ties.

    Args:
        played: matches or slates that were started already.
    """
    counts = Counter(slot for item in played for slot in members_of(item))
    waiting = {item: _lot(seed, *members_of(item), item.round) for item in items}
    chosen: list[Item] = []

    def turn(item: Item) -> tuple[int, int, bytes]:
        counted = [counts[slot] for slot in members_of(item)]
        return sum(counted), max(counted), waiting[item]

    while waiting and len(chosen) < num_items:
        item = min(waiting, key=turn)
        del waiting[item]
        counts.update(members_of(item))
        chosen.append(item)
    return chosen


def members_of(item: Pairing | Slate) -> tuple[int, ...]:
    return item.members if isinstance(item, Slate) else (item.a, item.b)


def _lot(*parts: int) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()
