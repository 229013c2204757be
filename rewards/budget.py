"""Budgets of judge calls: what a group may spend, who plays first when not all can, and what is handed on.

    open:    calls_per_group, calls_per_step / groups, rest of calls_per_run / groups --min--> a group's allowance
    scores:  what the step has left --hand_on--> groups whose topology would play on, in equal shares, until it is spent
    call:    tokens and money left for it? --no--> it is not asked, and there is no match; the aggregator does without
audit:   a second judge in training (`rewards/audit.py`) has its part of all of it, by the calls it is to make

A group whose topology cannot exceed its allowance streams as ever. One that can waits until it is complete and then
plays those first who have played least, so that what is there when the calls end says something about everybody.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from rewards.config import CallBudget
from rewards.errors import RunStopped
from rewards.types import Pairing, Slate

Item = TypeVar("Item", Pairing, Slate)


@dataclass(frozen=True, slots=True)
class Spend:
    """What judging took. Calls that the cache answered are not in it."""

    calls: int = 0
    tokens: int = 0
    cost: float = 0.0

    def __add__(self, other: Spend) -> Spend:
        return Spend(self.calls + other.calls, self.tokens + other.tokens, self.cost + other.cost)


class Purse:
    """Holds a run's spending against its budget; one for a training arena.

    Calls are counted out beforehand. What a call takes in tokens and money is known afterwards: allowances go by the
    mean of the calls so far, and when they are spent nobody may ask. A group or step counts every verdict, also those
    from the cache, so that what is played does not depend on what was asked before; the run counts what was asked.

    Args:
        groups: groups that a step has.
        spent: what the run spent before.
    """

    def __init__(self, budget: CallBudget, *, groups: int, spent: Spend = Spend()) -> None:
        self._budget = budget
        self._groups_per_step = self._groups = groups
        self._before = spent  # before the present step
        self._step = Spend()
        self._earlier = 0  # verdicts of the present step's batches before this one
        self._last_step = (self._before, self._step, self._earlier)
        self._at_work = 0

    def allowance(self, calls_per_item: int = 1, *, beside: int = 0) -> int | None:
        """Calls of one group of the next batch before anything is handed on; None: no bound.

        Args:
            calls_per_item: of a match or slate.
            beside: calls about known pairs that come with the group; they are in the step's budget, not in the group's.

        Raises:
            RunStopped: the run's calls, tokens or money are spent, or do not last for a match.
        """
        for key, limit, spent, what in (
            ("calls_per_run", self._budget.calls_per_run, self._before.calls, "judge calls"),
            ("tokens_per_run", self._budget.tokens_per_run, self._before.tokens, "tokens of the judge"),
            ("cost_per_run", self._budget.cost_per_run, self._before.cost, "of the money for the judge"),
        ):
            if limit is None:
                continue
            per_call = 1.0 if key == "calls_per_run" else spent / max(1, self._before.calls)
            if spent >= limit or limit - spent < calls_per_item * per_call:
                share = "all" if spent >= limit else f"{spent:g} of"
                rest = "" if spent >= limit else ", and a match takes more than is left"
                raise RunStopped(
                    f"rewards.budget.{key}: {share} {limit:g} {what} are spent{rest}; raise it and go on with --resume"
                )
        left = self.left(0)
        shares = [self._budget.calls_per_group, None if left is None else max(0, left // self._groups - beside)]
        return min((share for share in shares if share is not None), default=None)

    def left(self, used: int) -> int | None:
        """Calls that a batch that has used `used` may still make; None: no bound."""
        budget = self._budget
        used += self._earlier
        bounds = [] if budget.calls_per_step is None else [budget.calls_per_step - used]
        if budget.calls_per_run is not None:
            bounds.append(budget.calls_per_run - self._before.calls - used)
        so_far = self.spent
        for left, taken in ((self._tokens_left(), so_far.tokens), (self._cost_left(), so_far.cost)):
            if left is not None and left <= 0:
                bounds.append(0)
            elif left is not None and taken > 0 and so_far.calls:
                bounds.append(math.floor(left * so_far.calls / taken))
        return max(0, min(bounds)) if bounds else None

    def may_ask(self) -> bool:
        """Whether tokens and money last for one more call beside those at work, if it takes what calls took so far."""
        so_far, more = self.spent, self._at_work
        per_call = max(so_far.calls, 1)
        for left, taken in ((self._tokens_left(), so_far.tokens), (self._cost_left(), so_far.cost)):
            if left is not None and left <= more * taken / per_call:
                return False
        return True

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a call that is being made."""
        self._at_work += 1
        try:
            yield
        finally:
            self._at_work -= 1

    def paid(self, tokens: int, cost: float, calls: int = 1) -> None:
        """A call that asked has ended; with what else was asked for its sake it was so many."""
        self._step += Spend(calls, tokens, cost)

    def close_batch(self, used: int) -> None:
        """A batch that used so many verdicts is a step of its own unless `refill` says that the next one goes on."""
        self._last_step = (self._before, self._step, self._earlier + used)
        self._close_step()

    def refill(self, groups: int, *, calls_per_item: int) -> bool:
        """The next batch, of so many groups, belongs to the step of the last one; False: nothing is left for it."""
        self._before, self._step, self._earlier = self._last_step
        self._groups = groups
        left = self.left(0)
        if left is None or left >= calls_per_item:
            return True
        self._close_step()
        return False

    def _close_step(self) -> None:
        self._before, self._step, self._earlier = self.spent, Spend(), 0
        self._groups = self._groups_per_step

    @property
    def spent(self) -> Spend:
        return self._before + self._step

    def _tokens_left(self) -> int | None:
        budget = self._budget
        step = None if budget.tokens_per_step is None else budget.tokens_per_step - self._step.tokens
        run = None if budget.tokens_per_run is None else budget.tokens_per_run - self.spent.tokens
        return min((left for left in (step, run) if left is not None), default=None)

    def _cost_left(self) -> float | None:
        budget = self._budget
        step = None if budget.cost_per_step is None else budget.cost_per_step - self._step.cost
        run = None if budget.cost_per_run is None else budget.cost_per_run - self.spent.cost
        return min((left for left in (step, run) if left is not None), default=None)


def split_budget(budget: CallBudget, rate: float) -> tuple[CallBudget, CallBudget]:
    """The part of the judge that trains, and that of the second one; together they are the whole.

    Args:
        rate: calls of the second judge for each one of the first. Tokens and money are parted as calls are.
    """
    part = rate / (1.0 + rate)
    own: dict[str, int | float] = {}
    for name in ("calls_per_step", "calls_per_run", "tokens_per_step", "tokens_per_run"):
        if (limit := getattr(budget, name)) is not None:
            own[name] = math.floor(part * limit + 1e-9)
    for name in ("cost_per_step", "cost_per_run"):
        if (limit := getattr(budget, name)) is not None:
            own[name] = part * limit
    rest = {name: getattr(budget, name) - share for name, share in own.items()}
    return budget.model_copy(update=rest), CallBudget().model_copy(update=own)


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
