"""A model compares two answers criterion by criterion; what that comes to is computed here, not by the model.

criteria_from: rubric   compare -----------------------------------------> one call
               pair     compare --the model writes criteria of its own---> one call
               prompt   meet(three of the group) ...
                        compare --first of the prompt: a call that writes--> kept --> one call
                                  others of the prompt wait for it (one lock per prompt)
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rewards.errors import JudgeFailure
from rewards.judge_config import judge_name
from rewards.judges.rubric_prompts import RubricPrompts, load_prompts
from rewards.judges.voting import Voters, merge
from rewards.rubric_config import Criterion, RubricJudge
from rewards.rubrics.aggregate import Judged, aggregate, by_criterion
from rewards.rubrics.reading import comparison_schema, read_comparison, read_written, written_schema
from rewards.rubrics.store import CriteriaStore, MemoryStore
from rewards.types import Candidate, Completer, Completion, Prompt, Verdict, VerdictKind

LABELS = ("A", "B")
MAX_REASON = 2000
"""Characters of the criteria's reasons that a verdict keeps."""
MAX_REMEMBERED = 4096
"""Prompts with members that are remembered; the oldest go first."""


class RubricOf:
    """Verdict: a score in [-2, 2], or who is better (`rewards/rubrics/aggregate.py`); by criterion in `criteria`.

    A reply that leaves a criterion out, or says what it was not asked, is no verdict; of several votes it is a missing
    one (`voting.py`). Criteria are written by one reply, whatever the votes. It may lean to one seat: not symmetric.

    Args:
        completer: belongs to the judge, which closes it.
        store: where the criteria of prompts are kept; default: in memory.
        seed: of the fences around the texts.
    """

    symmetric = False

    def __init__(
        self,
        config: RubricJudge,
        completer: Completer,
        prompts: RubricPrompts,
        *,
        store: CriteriaStore | None = None,
        seed: int = 0,
    ) -> None:
        self.name = judge_name(config)
        self.kind: VerdictKind = config.merged_kind(config.verdict)
        self.requests_per_call = config.votes  # and one where criteria are written, which `Verdict.written` says
        self._config = config
        self._completer = completer
        self._prompts = prompts
        self._store = store or MemoryStore()
        self._seed = seed
        self._voters = Voters(completer, config.votes)
        self._members: dict[str, tuple[Candidate, ...]] = {}
        self._writing: dict[str, asyncio.Lock] = {}

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises JudgeFailure without a verdict on every criterion; what else the completer raises passes through."""
        criteria, spent, wrote = self._config.rubric.criteria, Completion(""), 0
        if self._config.criteria_from == "prompt":
            written, spent, wrote = await self._written(prompt, (first, second))
            criteria = (*criteria, *written)
        extra = self._written_bounds if self._config.criteria_from == "pair" else (0, 0)
        try:
            votes, cost = await self._voters.ask(
                self._prompts.comparison(prompt, first, second, criteria, seed=self._seed),
                comparison_schema(criteria, LABELS, extra=extra),
                lambda reply, _: read_comparison(reply, criteria, LABELS, extra=extra),
            )
        except JudgeFailure as failure:
            failure.tokens_in += spent.tokens_in
            failure.tokens_out += spent.tokens_out
            failure.cost += spent.cost
            failure.written = wrote
            raise
        merged = merge([self._value(vote) for vote in votes], self._config.verdict, majority=self._config.has_majority)
        known = frozenset(criterion.id for criterion in criteria)
        return Verdict(
            merged.value,
            reason=_reasons(votes[merged.spokesman]),
            tokens_in=spent.tokens_in + cost.tokens_in,
            tokens_out=spent.tokens_out + cost.tokens_out,
            cost=spent.cost + cost.cost,
            written=wrote,
            criteria=_mean_by_criterion([by_criterion(vote, known) for vote in votes]),
        )

    async def wants_members(self, prompt: Prompt) -> bool:
        """Only where criteria are written once per prompt, and those of this prompt are not yet."""
        if self._config.criteria_from != "prompt" or (key := self._key(prompt)) in self._members:
            return False
        return await self._store.get(key) is None

    def meet(self, prompt: Prompt, members: Sequence[Candidate]) -> None:
        self._members[self._key(prompt)] = tuple(members)
        _forget_oldest(self._members)

    async def close(self) -> None:
        await self._completer.close()

    @property
    def _written_bounds(self) -> tuple[int, int]:
        return self._config.min_criteria, self._config.max_criteria

    def _value(self, judged: Sequence[Judged]) -> float:
        """One vote's."""
        score, margin = aggregate(judged, self._config.rubric.part_weights), self._config.min_margin
        if self._config.verdict == "score":
            return score
        return 1.0 if score > margin else 0.0 if score < -margin else 0.5

    async def _written(
        self, prompt: Prompt, pair: tuple[Candidate, Candidate]
    ) -> tuple[tuple[Criterion, ...], Completion, int]:
        """The prompt's criteria, and what writing them cost whoever had to, in tokens and in requests."""
        key = self._key(prompt)
        async with self._writing.setdefault(key, asyncio.Lock()):
            if (kept := await self._store.get(key)) is not None:
                return _criteria_from(kept), Completion(""), 0
            # Nobody was introduced: a pair outside a group. In an order that does not depend on the seats.
            members = self._members.get(key) or tuple(sorted(pair, key=lambda one: (one.text, one.id)))
            (written,), cost = await self._voters.ask(
                self._prompts.writing(prompt, members, seed=self._seed),
                written_schema(),
                lambda reply, _: read_written(reply, self._config.rubric.criteria, self._written_bounds),
                votes=1,
            )
            await self._store.put(key, json.dumps([criterion.model_dump() for criterion in written]))
            self._members.pop(key, None)
        _forget_oldest(self._writing)
        return written, cost, 1

    def _key(self, prompt: Prompt) -> str:
        """What written criteria depend on, the answers aside that they were written from."""
        config = self._config
        parts = (self.name, self._prompts.version, config.guidance, *map(str, self._written_bounds))
        parts += (config.rubric.model_dump_json(), prompt.id, prompt.text)
        return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _criteria_from(kept: str) -> tuple[Criterion, ...]:
    return tuple(Criterion.model_validate(entry) for entry in json.loads(kept))


def _mean_by_criterion(votes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Over the votes that say anything of it: criteria written in the same call may differ from vote to vote."""
    values: dict[str, list[float]] = {}
    for vote in votes:
        for name, value in vote.items():
            values.setdefault(name, []).append(value)
    return {name: sum(said) / len(said) for name, said in values.items()}


def _reasons(judged: Sequence[Judged]) -> str:
    """One line: every criterion that told the two apart, with its value, evidence and reason."""
    told = [f"{one.criterion.id} {one.value:+.2g}: {one.evidence} | {one.reason}" for one in judged if one.value]
    return " ".join("; ".join(told).split())[:MAX_REASON] or "no criterion tells them apart"


def _forget_oldest(remembered: dict[Any, Any]) -> None:
    while len(remembered) > MAX_REMEMBERED:
        del remembered[next(iter(remembered))]


def build_rubric(
    config: RubricJudge,
    completer: Completer,
    *,
    seed: int,
    base_dir: Path | None,
    store: CriteriaStore | None = None,
) -> RubricOf:
    """Raises UserError where a template is at fault."""
    return RubricOf(config, completer, load_prompts(config, base_dir), store=store, seed=seed)
