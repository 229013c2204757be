"""The arena: a GroupSink that judges groups by tournaments while their rollouts still arrive.

    sampler --open/add/close--> Arena --one Tournament task per group--> calls --limiter--> Judge
                                  |
    trainer <------scores()-------+   waits for all tournaments, fits them as one batch, adds gated rollouts, forgets

One event loop owns everything. The limiter bounds calls at work; arenas may share one. An exception that is not a
JudgeFailure is a bug: it cancels every tournament and leaves through `scores`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from rewards.aggregators import build_aggregator, reward_unit
from rewards.batch_rounds import all_or_none, play_rounds
from rewards.budget import Purse, hand_on
from rewards.calling import Caller
from rewards.config import CallBudget, TournamentRewards
from rewards.gate_rewards import merge_gated
from rewards.topologies import build_topology
from rewards.tournament import PriorScorer, Tournament
from rewards.types import BatchTopology, Call, Candidate, Gate, GroupKey, GroupScore, Judge, Prior, Prompt, Strengths


class Arena:
    """Scores groups by tournaments; implements `rewards.types.GroupSink`.

    Args:
        judge: asked about pairs; opened and closed by whoever made it.
        gates: checked when a rollout arrives; those that fail never play.
        seed: of brackets, seats and jitter.
        prior: what the aggregator starts from; None = its documented default.
        carry_prior: keep what a batch taught for the next one (training); otherwise every batch starts from `prior`.
        limiter: bounds concurrent calls; default: one of our own with `config.calls.max_concurrency` places.
        on_call: told of every finished call.
        prior_scorer: a cheap look at every candidate that plays, for topologies that seed by it.
        groups_per_step: how many groups share a step's budget; None = `config.budget` does not apply, as in evaluation.
        calls_spent: of the run's budget, before this arena.
    """

    def __init__(
        self,
        config: TournamentRewards,
        judge: Judge,
        gates: Sequence[Gate] = (),
        *,
        seed: int = 0,
        prior: Prior | None = None,
        carry_prior: bool = True,
        limiter: asyncio.Semaphore | None = None,
        on_call: Callable[[GroupKey, Call], None] | None = None,
        prior_scorer: PriorScorer | None = None,
        groups_per_step: int | None = None,
        calls_spent: int = 0,
    ) -> None:
        self.prior = prior
        """The aggregator's memory: plain JSON, for checkpoints."""
        self._config = config
        self._judge = judge
        self._gates = tuple(gates)
        self._seed = seed
        self._carry_prior = carry_prior
        self._on_call = on_call
        self._prior_scorer = prior_scorer
        self._topology = build_topology(config.topology)
        self._aggregator = build_aggregator(config.aggregator, min_verdicts=config.min_verdicts)
        self._caller = Caller(judge, config.calls, limiter or asyncio.Semaphore(config.calls.max_concurrency))
        budget = config.budget if groups_per_step is not None else CallBudget()
        self._purse = Purse(budget, groups=groups_per_step or 1, spent=calls_spent)
        self._calls_per_match = 2 if config.orders == "both" and not judge.symmetric else 1
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
        max_matches = None if allowance is None else allowance // self._calls_per_match
        if max_matches is not None and self._topology.max_matches(num_candidates) <= max_matches:
            max_matches = None
        self._tasks[key] = asyncio.create_task(self._play(tournament, max_matches), name=f"tournament {key}")

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
        tournaments = [self._tournaments.pop(key) for key in keys]
        for key in keys:
            del self._tasks[key]
        await self._play_on(tournaments)
        self._purse.close_step(sum(tournament.num_calls for tournament in tournaments))
        logs = [tournament.log(self._judge) for tournament in tournaments]
        fitted, prior = await asyncio.to_thread(self._aggregator.fit, logs, self.prior)
        if self._carry_prior:
            self.prior = prior
        return {
            tournament.key: self._score(tournament, strengths)
            for tournament, strengths in zip(tournaments, fitted, strict=True)
        }

    def _play(self, tournament: Tournament, max_matches: int | None) -> Coroutine[Any, Any, None]:
        return tournament.play(
            self._topology.playable,
            self._judge,
            self._caller,
            self._config.orders,
            self._on_call,
            max_matches=max_matches,
        )

    async def _play_on(self, tournaments: Sequence[Tournament]) -> None:
        """What the batch plans together, or what the budget's first shares left to be played."""

        def calls_left() -> int | None:
            return self._purse.left(sum(tournament.num_calls for tournament in tournaments))

        if isinstance(self._topology, BatchTopology):
            await play_rounds(
                self._topology,
                tournaments,
                self._judge,
                self._caller,
                self._config.orders,
                self._on_call,
                calls_left=calls_left,
            )
            return
        most = self._config.budget.calls_per_group
        while True:
            wanting = {
                number: tournament
                for number, tournament in enumerate(tournaments)
                if (most is None or tournament.num_calls + self._calls_per_match <= most)
                and self._topology.playable(tournament.state)
            }
            shares = hand_on(
                list(wanting), calls_left=calls_left(), calls_per_match=self._calls_per_match, seed=self._seed
            )
            if not shares:
                return
            for number, share in shares.items():
                own = None if most is None else (most - wanting[number].num_calls) // self._calls_per_match
                shares[number] = min((bound for bound in (share, own) if bound is not None), default=None)
            await all_or_none(self._play(wanting[number], share) for number, share in shares.items())

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
        matches, failures = tournament.matches, tournament.failures()
        unit = reward_unit(self._config.aggregator, self._judge.kind)
        return GroupScore(
            rewards=merge_gated(strengths.rewards, tournament.survivors, tournament.vetoed, unit),
            reliability=strengths.reliability,
            baseline_ids=[0] * tournament.num_candidates,
            matches=matches,
            kind=self._judge.kind,
            strengths=strengths.strengths,
            stderrs=strengths.stderrs,
            gate_failures={name: tuple(slots) for name, slots in tournament.gate_failures.items() if slots},
            num_calls=sum(len(match.calls) for match in matches),
            num_failed=failures.total(),
            failures=dict(failures),
        )
