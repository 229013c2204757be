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
from rewards.json_reply import last_object
from rewards.judges.rubric_prompts import RubricPrompts, load_prompts
from rewards.rubric_config import Criterion, RubricJudge
from rewards.rubrics.aggregate import Judged, aggregate, by_criterion
from rewards.rubrics.reading import comparison_schema, read_comparison, read_written, written_schema
from rewards.rubrics.store import CriteriaStore, MemoryStore
from rewards.types import Candidate, Completer, Completion, Message, Prompt, Verdict, VerdictKind

LABELS = ("A", "B")
MAX_REASON = 2000
"""Characters of the criteria's reasons that a verdict keeps."""
MAX_REMEMBERED = 4096
"""Questions with bad replies, and prompts with members, that are remembered; the oldest go first."""


class RubricOf:
    """Verdict: a score in [-2, 2], or who is better (`rewards/rubrics/aggregate.py`); by criterion in `criteria`.

    A reply that leaves a criterion out, or says what it was not asked, is no verdict. It may lean to one seat: not
    symmetric. A question whose reply was bad gets another seed when it is asked again.

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
        self.name = f"rubric:{config.endpoint.model}"
        self.kind: VerdictKind = config.verdict
        self._config = config
        self._completer = completer
        self._prompts = prompts
        self._store = store or MemoryStore()
        self._seed = seed
        self._bad: dict[int, int] = {}
        self._members: dict[str, tuple[Candidate, ...]] = {}
        self._writing: dict[str, asyncio.Lock] = {}

    async def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> Verdict:
        """Raises JudgeFailure without a verdict on every criterion; what else the completer raises passes through."""
        criteria, spent = self._config.rubric.criteria, Completion("")
        if self._config.criteria_from == "prompt":
            written, spent = await self._written(prompt, (first, second))
            criteria = (*criteria, *written)
        extra = self._written_bounds if self._config.criteria_from == "pair" else (0, 0)
        reply, cost = await self._ask(
            self._prompts.comparison(prompt, first, second, criteria, seed=self._seed),
            comparison_schema(criteria, LABELS, extra=extra),
            lambda reply: read_comparison(reply, criteria, LABELS, extra=extra),
        )
        score = aggregate(reply, self._config.rubric.part_weights)
        return Verdict(
            score if self.kind == "score" else self._winner(score),
            reason=_reasons(reply),
            tokens_in=spent.tokens_in + cost.tokens_in,
            tokens_out=spent.tokens_out + cost.tokens_out,
            cost=spent.cost + cost.cost,
            criteria=by_criterion(reply, frozenset(criterion.id for criterion in criteria)),
        )

    async def wants_members(self, prompt: Prompt) -> bool:
        """Only where criteria are written once per prompt, and those of this prompt are not yet."""
        if self._config.criteria_from != "prompt" or prompt.id in self._members:
            return False
        return await self._store.get(self._key(prompt)) is None

    def meet(self, prompt: Prompt, members: Sequence[Candidate]) -> None:
        self._members[prompt.id] = tuple(members)
        _forget_oldest(self._members)

    async def close(self) -> None:
        await self._completer.close()

    @property
    def _written_bounds(self) -> tuple[int, int]:
        return self._config.min_criteria, self._config.max_criteria

    def _winner(self, score: float) -> float:
        margin = self._config.min_margin
        return 1.0 if score > margin else 0.0 if score < -margin else 0.5

    async def _written(
        self, prompt: Prompt, pair: tuple[Candidate, Candidate]
    ) -> tuple[tuple[Criterion, ...], Completion]:
        """The prompt's criteria, and what writing them cost whoever had to."""
        key = self._key(prompt)
        async with self._writing.setdefault(key, asyncio.Lock()):
            if (kept := await self._store.get(key)) is not None:
                return _criteria_from(kept), Completion("")
            # Nobody was introduced: a pair outside a group. In an order that does not depend on the seats.
            members = self._members.get(prompt.id) or tuple(sorted(pair, key=lambda one: (one.text, one.id)))
            written, cost = await self._ask(
                self._prompts.writing(prompt, members, seed=self._seed),
                written_schema(),
                lambda reply: read_written(reply, self._config.rubric.criteria, self._written_bounds),
            )
            await self._store.put(key, json.dumps([criterion.model_dump() for criterion in written]))
            self._members.pop(prompt.id, None)
        _forget_oldest(self._writing)
        return written, cost

    async def _ask(self, messages: Sequence[Message], schema: Mapping[str, Any], read: Any) -> tuple[Any, Completion]:
        question = hash(tuple((message.role, message.text) for message in messages))
        completion = await self._completer.complete(messages, seed=self._bad.get(question, 0), schema=schema)
        try:
            said = read(last_object(completion)[0])
        except JudgeFailure:
            self._bad[question] = self._bad.get(question, 0) + 1
            _forget_oldest(self._bad)
            raise
        self._bad.pop(question, None)
        return said, completion

    def _key(self, prompt: Prompt) -> str:
        """What written criteria depend on, the answers aside that they were written from."""
        config = self._config
        parts = (self.name, self._prompts.version, config.guidance, *map(str, self._written_bounds))
        parts += (config.rubric.model_dump_json(), prompt.id, prompt.text)
        return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _criteria_from(kept: str) -> tuple[Criterion, ...]:
    return tuple(Criterion.model_validate(entry) for entry in json.loads(kept))


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
