"""Groups whose members come one by one, or in slices, from several processes: wait until a group is whole, then score.

rank 0: join("p", 3 answers) --\\
rank 1: join("p", 5 answers) ----> group "p": 8 of 8 --score--> each gets the rewards of its own answers
                                   or the deadline: who is there is scored, if they are two or more

Trainers that give a reward function one rollout, or a slice of a batch, need it to rank a whole group. A prompt that
comes twice at once fills one group after the other; a group holds answers to one prompt only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from rewards.texts import GroupOfTexts
from rewards.types import GroupScore


@dataclass(frozen=True, slots=True)
class Gathered:
    """rewards: of the answers that were brought, in their order; None = unscored.

    group_mean: of the group's scored answers, for trainers that cannot leave one out; None where none is scored.
    """

    rewards: list[float | None]
    group_mean: float | None
    group_size: int
    num_scored: int
    reliability: float | None


@dataclass(slots=True, eq=False)
class _Open:
    """A group that is not whole yet; `scoring` is there once it is `closed`."""

    first: GroupOfTexts
    timer: asyncio.TimerHandle
    texts: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    scoring: asyncio.Task[GroupScore | None] | None = None

    async def score(self) -> GroupScore | None:
        await self.closed.wait()
        assert self.scoring is not None
        return await asyncio.shield(self.scoring)  # giving up on it takes it from no other


class Gatherer:
    """One per service, in one event loop.

    Args:
        score: scores a whole group.
        deadline_s: how long the first of a group waits for the last.
    """

    def __init__(self, score: Callable[[GroupOfTexts], Awaitable[GroupScore]], *, deadline_s: float) -> None:
        self._score = score
        self._deadline_s = deadline_s
        self._open: dict[tuple[str, int], _Open] = {}
        self._known: dict[str, tuple[_Open, int]] = {}

    async def join(self, key: str, members: GroupOfTexts, size: int, *, ids: Sequence[str] | None = None) -> Gathered:
        """Brings answers to the group of that key and waits for their rewards.

        Args:
            ids: of the answers, one each: one that came before is the same answer asked about again, not a second one.

        Raises:
            Exception: what the scoring of the group raised.
        """
        brought: list[tuple[_Open, int]] = []
        for number, text in enumerate(members.candidates):
            if ids is not None and (known := self._known.get(ids[number])) is not None:
                brought.append(known)
                continue
            group = self._open.get((key, size))
            if group is None:
                timer = asyncio.get_running_loop().call_later(self._deadline_s, self._close, (key, size))
                group = self._open[key, size] = _Open(members, timer)
            brought.append((group, len(group.texts)))
            group.texts.append(text)
            if ids is not None:
                self._known[ids[number]] = brought[-1]
                group.ids.append(ids[number])
            if len(group.texts) == size:
                self._close((key, size))
        scores = {id(group): await group.score() for group, _ in brought}
        rewards = [_reward(scores[id(group)], slot) for group, slot in brought]
        last, _ = brought[-1]
        score = scores[id(last)]
        scored = [reward for reward in score.rewards if reward is not None] if score is not None else []
        return Gathered(
            rewards,
            sum(scored) / len(scored) if scored else None,
            len(last.texts),
            len(scored),
            score.reliability if score is not None else None,
        )

    @property
    def waiting(self) -> int:
        """Groups that are not whole yet."""
        return len(self._open)

    def _close(self, key: tuple[str, int]) -> None:
        """The group is whole, or its time is over."""
        group = self._open.pop(key)
        group.timer.cancel()
        group.scoring = asyncio.create_task(self._finish(group))
        group.closed.set()

    def _forget(self, group: _Open) -> None:
        for one in group.ids:
            del self._known[one]

    async def _finish(self, group: _Open) -> GroupScore | None:
        whole = group.first.model_copy(update={"candidates": list(group.texts)})
        try:
            score = await self._score(whole) if len(group.texts) > 1 else None
        except BaseException:
            self._forget(group)  # whoever comes back asks for another try
            raise
        # Whoever lost the connection may still come back for a while.
        asyncio.get_running_loop().call_later(self._deadline_s, self._forget, group)
        return score


def _reward(score: GroupScore | None, slot: int) -> float | None:
    return None if score is None else score.rewards[slot]


def group_key(members: GroupOfTexts, group: str | None = None) -> str:
    """Whose group answers belong to: they have prompt and fields in common, and what the trainer calls the group."""
    return repr((members.model_dump_json(include={"prompt", "fields"}), group))
