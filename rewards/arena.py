"""The arena: a GroupSink that judges groups by tournaments while their rollouts still arrive.

    sampler --open/add/close--> Arena --one Tournament task per group--> calls --limiter--> Judge
                                  |
    trainer <------scores()-------+   waits for all tournaments, fits them as one batch, adds gated rollouts, forgets

One event loop owns everything. The limiter bounds calls at work; arenas may share one. An exception that is not a
JudgeFailure is a bug: it cancels every tournament and leaves through `scores`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from rewards.aggregators import build_aggregator, reward_unit
from rewards.asking import Asker
from rewards.budget import Purse, Spend, hand_on
from rewards.calibration import Calibration
from rewards.calling import Caller, Line
from rewards.config import CallBudget, CallLimits, TournamentRewards
from rewards.game import build_game
from rewards.gate_rewards import apply_factors, merge_gated, soft_factor
from rewards.introduce import num_wanting
from rewards.judges.panel import Panel
from rewards.limiter import Limiter, LocalLimiter
from rewards.router import Router
from rewards.rubrics.win_rates import criterion_win_rates
from rewards.together import all_or_none
from rewards.tournament import PriorScorer, Tournament
from rewards.types import (
    AnyGate,
    CallHandler,
    Candidate,
    GroupKey,
    GroupScore,
    Judge,
    KnownAnswer,
    ListJudge,
    Prior,
    Prompt,
    SoftGate,
    Strengths,
)

PANEL = "panel"
"""Key of a panel's reputations beside the aggregator's own in what is carried."""


class Arena:
    """Scores groups by tournaments; implements `rewards.types.GroupSink`.

    Args:
        judge: asked about pairs, or about slates where the topology names slates; opened and closed by whoever made it.
        gates: checked when a rollout arrives; those that fail a hard one never play, soft ones take from the reward.
        seed: of brackets, seats and jitter.
        prior: what the aggregator starts from; None = its documented default.
        carry_prior: keep what a batch taught for the next one (training); otherwise every batch starts from `prior`.
        limiter: bounds calls at work and calls a minute; default: one of our own, as `config.calls` says.
        on_call: told of every finished call.
        prior_scorer: a cheap look at every candidate that plays, for topologies that seed by it.
        groups_per_step: how many groups share a step's budget; None = `config.budget` does not apply, as in evaluation.
        spent: of the run's budget, before this arena.
        lines: what this arena shares with others that ask the same judge, by the judge's name.
        calibration: pairs with a known answer, asked beside the matches.

    Raises:
        UserError: the topology names slates and the judge cannot rank, or the other way round.
    """

    def __init__(
        self,
        config: TournamentRewards,
        judge: Judge | ListJudge,
        gates: Sequence[AnyGate] = (),
        *,
        seed: int = 0,
        prior: Prior | None = None,
        carry_prior: bool = True,
        limiter: Limiter | None = None,
        on_call: CallHandler | None = None,
        prior_scorer: PriorScorer | None = None,
        groups_per_step: int | None = None,
        spent: Spend = Spend(),
        lines: Mapping[str, Line] = MappingProxyType({}),
        calibration: Calibration | None = None,
    ) -> None:
        self._panel = judge if isinstance(judge, Panel) else None
        self.prior = prior
        self._config = config
        self._gates = tuple(gates)
        self._soft_weights = {gate.name: gate.weight for gate in self._gates if isinstance(gate, SoftGate)}
        self._seed = seed
        self._carry_prior = carry_prior
        self._prior_scorer = prior_scorer
        self._router = Router(**config.router.model_dump()) if config.router is not None else None
        self._aggregator = build_aggregator(config.aggregator, min_verdicts=config.min_verdicts)
        self._budget = config.budget if groups_per_step is not None else CallBudget()
        self._purse = Purse(self._budget, groups=groups_per_step or 1, spent=spent)
        limiter = limiter or local_limiter(config.calls)
        self._asker = Asker(
            judge,
            lambda one: Caller(one, config.calls, limiter, line=lines.get(one.name, Line()), purse=self._purse),
            orders=config.orders,
            close_margin=config.close_margin,
            merge=config.merge,
        )
        self._game = build_game(config, self._asker, on_call)
        self._on_call = on_call
        self._calibration = calibration
        self._calls_per_item = self._asker.calls_per_item
        self._tournaments: dict[GroupKey, Tournament] = {}
        self._tasks: dict[GroupKey, asyncio.Task[None]] = {}
        self._tests: dict[GroupKey, asyncio.Task[list[KnownAnswer]]] = {}

    @property
    def prior(self) -> Prior | None:
        """The aggregator's memory, and a panel's reputations beside it: plain JSON, for checkpoints."""
        state = self._panel.state if self._panel is not None else None
        return self._prior if state is None else {**(self._prior or {}), PANEL: state}

    @prior.setter
    def prior(self, prior: Prior | None) -> None:
        if self._panel is not None and prior is not None and PANEL in prior:
            self._panel.state = prior[PANEL]
        if prior is not None and PANEL in prior:
            prior = {name: value for name, value in prior.items() if name != PANEL} or None
        self._prior = prior

    async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
        """A group begins. Raises RunStopped where the run's budget is spent."""
        if key in self._tournaments:
            raise ValueError(f"group {key} is already open")
        tournament = Tournament(
            key,
            prompt,
            num_candidates,
            self._gates,
            seed=self._seed,
            prior_scorer=self._prior_scorer,
            router=self._router,
        )
        self._tournaments[key] = tournament
        drawn = self._calibration.draw(key, self._seed) if self._calibration is not None else []
        to_write = await num_wanting(self._asker.judge, prompt)
        allowance = self._purse.allowance(self._calls_per_item + to_write, beside=len(drawn) * self._asker.num_judges)
        max_items = None if allowance is None else max(0, allowance - to_write) // self._calls_per_item
        if max_items is not None and self._game.topology.max_matches(num_candidates) <= max_items:
            max_items = None
        self._tasks[key] = asyncio.create_task(self._game.play(tournament, max_items), name=f"tournament {key}")
        if drawn:
            self._tests[key] = asyncio.create_task(
                self._asker.test(key, drawn, self._seed, self._on_call), name=f"calibration {key}"
            )

    async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None:
        """A rollout has finished. ValueError refuses an unknown or closed group and a slot that came before."""
        self._tournament(key).add(index, candidate)

    async def close(self, key: GroupKey) -> None:
        self._tournament(key).close()

    async def scores(self) -> dict[GroupKey, GroupScore]:
        """Waits for the groups that are open now, aggregates them as one batch and forgets them.

        Raises:
            Exception: whatever a judge raised that is not a JudgeFailure, in whatever round; all tournaments are
                cancelled, those of groups that were opened since as well.
        """
        try:
            return await self._scores()
        except BaseException:
            await self.stop()
            raise

    async def _scores(self) -> dict[GroupKey, GroupScore]:
        keys = sorted(self._tasks)
        if not keys:
            return {}
        waited = [*(self._tasks[key] for key in keys), *(self._tests[key] for key in keys if key in self._tests)]
        done, _ = await asyncio.wait(waited, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        tournaments = [self._tournaments[key] for key in keys]
        for key in keys:
            del self._tasks[key]
        known = {key: tuple(self._tests.pop(key).result()) for key in keys if key in self._tests}
        beside = sum(map(len, known.values()))
        await self._game.finish(tournaments, lambda: self._calls_left(tournaments, beside))
        await self._hand_on(tournaments, beside)
        for key in keys:
            del self._tournaments[key]
        self._purse.close_batch(_used(tournaments) + beside)
        asker = self._asker
        logs = [tournament.log(self._game.kind, asker.symmetric, asker.merge) for tournament in tournaments]
        fitted, prior = await asyncio.to_thread(self._aggregator.fit, logs, self._prior)
        if self._carry_prior:
            self._prior = prior
            if self._panel is not None:
                await asyncio.to_thread(self._panel.learn, logs, [a for answers in known.values() for a in answers])
        return {
            tournament.key: self._score(tournament, strengths, known.get(tournament.key, ()))
            for tournament, strengths in zip(tournaments, fitted, strict=True)
        }

    def refill(self, num_groups: int) -> bool:
        """The groups that are opened next share the budget of the step that was scored last; False: it is spent."""
        return self._purse.refill(num_groups, calls_per_item=self._calls_per_item)

    def _calls_left(self, tournaments: Sequence[Tournament], beside: int) -> int | None:
        """beside: calls about known pairs."""
        return self._purse.left(_used(tournaments) + beside)

    async def _hand_on(self, tournaments: Sequence[Tournament], beside: int) -> None:
        """Plays what the groups' first shares of the budget left to be played, until the step's budget is spent."""
        most = self._budget.calls_per_group
        while True:
            own = {
                number: None if most is None else (most - _used([tournament])) // self._calls_per_item
                for number, tournament in enumerate(tournaments)
                if self._game.topology.playable(tournament.state)
            }
            shares = hand_on(
                [number for number, matches in own.items() if matches is None or matches > 0],
                calls_left=self._calls_left(tournaments, beside),
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
        tasks, tournaments = [*self._tasks.values(), *self._tests.values()], list(self._tournaments.values())
        self._tasks.clear()
        self._tests.clear()
        self._tournaments.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *(tournament.stop_checks() for tournament in tournaments), return_exceptions=True)

    def _tournament(self, key: GroupKey) -> Tournament:
        if key not in self._tournaments:
            raise ValueError(f"group {key} is not open")
        return self._tournaments[key]

    def _score(
        self, tournament: Tournament, strengths: Strengths, known_answers: tuple[KnownAnswer, ...]
    ) -> GroupScore:
        matches, rankings, failures = tournament.matches, tournament.rankings, tournament.failures()
        unit = reward_unit(self._config.aggregator, self._game.kind)
        said = tournament.gate_scores
        factors = {slot: soft_factor(said[slot], self._soft_weights) for slot in tournament.survivors}
        rewards = apply_factors(strengths.rewards, factors, unit)
        return GroupScore(
            rewards=merge_gated(rewards, tournament.survivors, tournament.vetoed, unit),
            reliability=strengths.reliability,
            baseline_ids=[0] * tournament.num_candidates,
            matches=matches,
            kind=self._game.kind,
            strengths=strengths.strengths,
            stderrs=strengths.stderrs,
            gate_failures={name: tuple(sorted(slots)) for name, slots in tournament.gate_failures.items() if slots},
            gate_scores={
                name: [said.get(slot, {}).get(name) for slot in range(tournament.num_candidates)]
                for name in self._soft_weights
            },
            gate_factors=[factors.get(slot) for slot in range(tournament.num_candidates)] if self._soft_weights else [],
            num_calls=tournament.num_calls,
            num_failed=failures.total(),
            failures=dict(failures),
            rankings=rankings,
            num_cached=tournament.num_cached,
            per_criterion=criterion_win_rates(matches, tournament.num_candidates),
            known_answers=known_answers,
        )


def _used(tournaments: Sequence[Tournament]) -> int:
    """Calls of a budget: those about matches, and those that wrote criteria."""
    return sum(tournament.num_calls + tournament.num_written for tournament in tournaments)


def local_limiter(calls: CallLimits) -> LocalLimiter:
    """The limiter of one process."""
    return LocalLimiter(
        calls.max_concurrency,
        requests_per_minute=calls.limits.requests_per_minute,
        tokens_per_minute=calls.limits.tokens_per_minute,
    )
