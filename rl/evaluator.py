"""The held-out evaluations of a run: the starting model's answers, kept once, and the games against them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any

from rewards.errors import RunStopped
from rewards.types import GroupKey, GroupScore, GroupSink
from rl.alarms import check_versions
from rl.config import EvaluationConfig
from rl.evaluation import judge_agreement
from rl.heldout import Games, Pair, judge_pairs, judged_alone, pair_answers, tally
from rl.seams import Engines, Store
from rollouts.types import Group, GroupRequest

OpenAudit = Callable[[], AbstractAsyncContextManager[GroupSink]]


@dataclass
class Evaluator:
    """requests(step): what is sampled after `step`; 0 = the starting model's answers."""

    config: EvaluationConfig
    seed: int
    engines: Engines
    sink: GroupSink
    store: Store
    requests: Callable[[int], list[GroupRequest]]

    last_games: Games | None = field(default=None, init=False)
    _start_answers: list[Group] = field(default_factory=list, init=False)

    async def prepare(self, *, resumed: bool) -> None:
        """The starting model's answers: from disk, or sampled now.

        Raises:
            RunStopped: a resumed run has lost them; its engines hold other weights by now.
        """
        saved = self.store.load_start_answers()
        if saved is None:
            if resumed:
                raise RunStopped(
                    "the starting model's held-out answers are gone (evaluation/start.parquet); restore it"
                )
            saved = await self.engines.sample(self.requests(0))
            self.store.save_start_answers(saved)
        self._start_answers = saved

    def is_due(self, step: int, *, last_step: int) -> bool:
        every = self.config.every
        return step == last_step or (every is not None and step % every == 0)

    async def evaluate(self, step: int) -> Games:
        """Play and keep what was played."""
        answers = await self.engines.sample(self.requests(step))
        check_versions(answers, expected=step)
        pairs = pair_answers(self._start_answers, answers)
        games = self._tally(pairs, await judge_pairs(pairs, self.sink))
        self.store.save_evaluation(step, games.rows)
        self.last_games = games
        return games

    async def audit(self, games: Games, open_audit: OpenAudit) -> dict[str, Any]:
        """A second, different judge on the same pairs: its win rate, its calls, and how often both agree."""
        async with open_audit() as sink:
            scores = await judge_pairs(games.pairs, sink)
        second = self._tally(games.pairs, scores)
        agreement = judge_agreement(games.outcomes, second.outcomes)
        judged = judged_alone(games.pairs, second.outcomes, games.ungated, self.config, seed=self.seed)
        facts = {"judged": judged, "agreement": agreement.to_json(), "judge_calls": second.num_calls}
        return second.result | facts

    def _tally(self, pairs: Sequence[Pair], scores: Mapping[GroupKey, GroupScore]) -> Games:
        prompt_ids = [group.prompt.id for group in self._start_answers]
        return tally(prompt_ids, pairs, scores, self.config, seed=self.seed)
