"""The arena: a GroupSink that judges groups by tournaments while their rollouts still arrive.

    sampler --open/add/close--> Arena --one Tournament task per group--> calls --limiter--> Judge
                                  |
    trainer <------scores()-------+   waits for all tournaments, fits them as one batch, adds gated rollouts, forgets

One event loop owns everything. The limiter bounds calls at work; arenas may share one. An exception that is not a
JudgeFailure is a bug: it cancels every tournament and leaves through `scores`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rewards.aggregators import build_aggregator, reward_unit
from rewards.batch_rounds import all_or_none
from rewards.budget import Purse, hand_on
from rewards.calling import Caller
from rewards.config import CallBudget, TournamentRewards
from rewards.game import build_game
from rewards.gate_rewards import merge_gated
from rewards.tournament import PriorScorer, Tournament
from rewards.types import (
    CallHandler,
    Candidate,
    Gate,
    GroupKey,
    GroupScore,
    Judge,
    ListJudge,
    Prior,
    Prompt,
    Strengths,
)


class Arena:
    """Scores groups by tournaments; implements `rewards.types.GroupSink`.

    Args:
        judge: asked about pairs, or about slates where the topology names slates; opened and closed by whoever made it.
        gates: checked when a rollout arrives; those that fail never play.
        seed: of brackets, seats and jitter.
        prior: what the aggregator starts from; None = its documented default.
        carry_prior: keep what a batch taught for the next one (training); otherwise every batch starts from `prior`.
        limiter: bounds concurrent calls; default: one of our own with `config.calls.max_concurrency` places.
        on_call: told of every finished call.
        prior_scorer: a cheap look at every candidate that plays, for topologies that seed by it.
        groups_per_step: how many groups share a step's budget; None = `config.budget` does not apply, as in evaluation.
        calls_spent: of the run's budget, before this arena.

    Raises:
        UserError: the topology names slates and the judge cannot rank, or the other way round.
    """

    def __init__(
        self,
        config: TournamentRewards,
        judge: Judge | ListJudge,
        gates: Sequence[Gate] = (),
        *,
        seed: int = 0,
        prior: Prior | None = None,
        carry_prior: bool = True,
        limiter: asyncio.Semaphore | None = None,
        on_call: CallHandler | None = None,
        prior_scorer: PriorScorer | None = None,
        groups_per_step: int | None = None,
        calls_spent: int = 0,
    ) -> None:
        self.prior = prior
        """The aggregator's memory: plain JSON, for checkpoints."""
        self._config = config
        self._symmetric = judge.symmetric
        self._gates = tuple(gates)
        self._seed = seed
        self._carry_prior = carry_prior
        self._prior_scorer = prior_scorer
        self._aggregator = build_aggregator(config.aggregator, min_verdicts=config.min_verdicts)
        caller = Caller(judge, config.calls, limiter or asyncio.Semaphore(config.calls.max_concurrency))
        self._game = build_game(config, judge, caller, on_call)
        self._budget = config.budget if groups_per_step is not None else CallBudget()
        self._purse = Purse(self._budget, groups=groups_per_step or 1, spent=calls_spent)
        self._calls_per_item = 2 if config.orders == "both" and not judge.symmetric else 1
        self._tournaments: dict[GroupKey, Tournament] = {}
        self._tasks: dict[GroupKey, asyncio.Task[None]] = {}

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
        """A group begins. Raises RunStopped where the run's budget of calls is spent."""
        if key in self._tournaments:
            raise ValueError(f"group {key} is already open")
        tournament = Tournament(
            key, prompt, num_candidates, self._gates, seed=self._seed, prior_scorer=self._prior_scorer
        )
        self._tournaments[key] = tournament
        allowance = self._purse.allowance()
        max_items = None if allowance is None else allowance // self._calls_per_item
        if max_items is not None and self._game.topology.max_matches(num_candidates) <= max_items:
            max_items = None
        self._tasks[key] = asyncio.create_task(self._game.play(tournament, max_items), name=f"tournament {key}")

    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None:
        """A rollout has finished. ValueError refuses an unknown or closed group and a slot that came before."""
        self._tournament(key).add(index, candidate)

    async def close(self, key: GroupKey) -> None:
        self._tournament(key).close()

    async def scores(self) -> dict[GroupKey, GroupScore]:
        """Waits for the groups that are open now, aggregates them as one batch and forgets them.

        Raises:
            Exception: whatever a judge raised that is not a JudgeFailure; all tournaments are cancelled.
        """
        keys = sorted(self._tasks)
        if not keys:
            return {}
        try:
            done, _ = await asyncio.wait([self._tasks[key] for key in keys], return_when=asyncio.FIRST_EXCEPTION)
            for task in done:
                task.result()
        except BaseException:
            await self.stop()
            raise
        tournaments = [self._tournaments[key] for key in keys]
        for key in keys:
            del self._tasks[key]
        await self._game.finish(tournaments, lambda: self._calls_left(tournaments))
        await self._hand_on(tournaments)
        for key in keys:
            del self._tournaments[key]
        self._purse.close_batch(sum(tournament.num_calls for tournament in tournaments))
        logs = [tournament.log(self._game.kind, self._symmetric) for tournament in tournaments]
        fitted, prior = await asyncio.to_thread(self._aggregator.fit, logs, self.prior)
        if self._carry_prior:
            self.prior = prior
        return {
            tournament.key: self._score(tournament, strengths)
            for tournament, strengths in zip(tournaments, fitted, strict=True)
        }

    def refill(self, num_groups: int) -> bool:
        """The groups that are opened next share the budget of the step that was scored last; False: it is spent."""
        return self._purse.refill(num_groups, calls_per_item=self._calls_per_item)

    def _calls_left(self, tournaments: Sequence[Tournament]) -> int | None:
        return self._purse.left(sum(tournament.num_calls for tournament in tournaments))

    async def _hand_on(self, tournaments: Sequence[Tournament]) -> None:
        """Plays what the groups' first shares of the budget left to be played, until the step's budget is spent."""
        most = self._budget.calls_per_group
        while True:
            own = {
                number: None if most is None else (most - tournament.num_calls) // self._calls_per_item
                for number, tournament in enumerate(tournaments)
                if self._game.topology.playable(tournament.state)
            }
            shares = hand_on(
                [number for number, matches in own.items() if matches is None or matches > 0],
                calls_left=self._calls_left(tournaments),
                calls_per_item=self._calls_per_item,
                seed=self._seed,
            )
            if not shares:
                return
            await all_or_none(
                self._game.play(
                    tournaments[number], min((n for n in (share, own[number]) if n is not None), default=None)
                )
                for number, share in shares.items()
            )

    def unfinished(self) -> list[str]:
        """What the judge has been asked and not settled yet, for whoever watches the clock."""
        return [waiting for key in sorted(self._tournaments) for waiting in self._tournaments[key].unfinished()]

    async def stop(self) -> None:
        """Cancels all tournaments and forgets them; no task of ours is left."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        self._tournaments.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _tournament(self, key: GroupKey) -> Tournament:
        if key not in self._tournaments:
            raise ValueError(f"group {key} is not open")
        return self._tournaments[key]

    def _score(self, tournament: Tournament, strengths: Strengths) -> GroupScore:
        matches, rankings, failures = tournament.matches, tournament.rankings, tournament.failures()
        unit = reward_unit(self._config.aggregator, self._game.kind)
        return GroupScore(
            rewards=merge_gated(strengths.rewards, tournament.survivors, tournament.vetoed, unit),
            reliability=strengths.reliability,
            baseline_ids=[0] * tournament.num_candidates,
            matches=matches,
            kind=self._game.kind,
            strengths=strengths.strengths,
            stderrs=strengths.stderrs,
            gate_failures={name: tuple(slots) for name, slots in tournament.gate_failures.items() if slots},
            num_calls=sum(len(match.calls) for match in matches) + len(rankings),
            num_failed=failures.total(),
            failures=dict(failures),
            rankings=rankings,
        )
