"""Rollouts and groups: what the engine sampled, kept as sampled from the engine to the loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from rewards.types import Candidate, GroupKey, GroupSink, ParsedAnswer, Prompt

IntArray = npt.NDArray[np.int32]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

FinishReason = Literal["stop", "length", "abort"]


@dataclass(frozen=True, slots=True)
class VersionSpan:
    """Answer tokens [start, end) were sampled by this policy version."""

    version: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Turn:
    """Answer tokens [start, end) of one speaker: the policy's own turns are learned from, tool results are not."""

    role: Literal["assistant", "tool"]
    start: int
    end: int


@dataclass(frozen=True, slots=True, eq=False)
class Rollout:
    """One sampled answer; identity `(key, index)`. Arrays have one entry per answer token.

    logprobs: natural log-probability of each sampled token under the sampling distribution (temperature applied).
    loss_mask: True where the policy chose the token, False for tool results.
    """

    key: GroupKey
    index: int
    seed: int
    token_ids: IntArray
    logprobs: FloatArray
    loss_mask: BoolArray
    text: str
    finish_reason: FinishReason
    versions: tuple[VersionSpan, ...]
    turns: tuple[Turn, ...]
    parsed: ParsedAnswer = field(default_factory=ParsedAnswer)

    @property
    def num_tokens(self) -> int:
        return len(self.token_ids)


@dataclass(frozen=True, slots=True, eq=False)
class Group:
    """The rollouts of one prompt. `rollouts[i]` is None where slot i was given up."""

    key: GroupKey
    prompt: Prompt
    prompt_token_ids: IntArray
    rollouts: tuple[Rollout | None, ...]


@dataclass(frozen=True, slots=True)
class SamplingSpec:
    """How the answers of a request are sampled. Full sampling only: top-p, top-k and penalties break the ratio."""

    max_tokens: int
    temperature: float
    ignore_eos: bool = False
    """Force every answer to `max_tokens` (benchmarks)."""
    stop: tuple[str, ...] = ()
    """Texts that end an answer. The text ends with the stop, the token ids with the token that completed it."""


@dataclass(frozen=True, slots=True, eq=False)
class GroupRequest:
    """A group to be sampled: one seed per rollout."""

    key: GroupKey
    prompt: Prompt
    prompt_token_ids: IntArray
    seeds: tuple[int, ...]
    sampling: SamplingSpec


class Sampler(Protocol):
    """Samples groups and pushes rollouts into the sink as they finish."""

    async def sample(self, requests: Sequence[GroupRequest], sink: GroupSink | None = None) -> list[Group]: ...


class Task(Protocol):
    """Makes prompts and parses answers."""

    def train_prompts(self) -> Sequence[Prompt]: ...
    def heldout_prompts(self) -> Sequence[Prompt]: ...
    def parse(self, prompt: Prompt, answer: str) -> ParsedAnswer: ...


@dataclass(frozen=True, slots=True)
class EngineStats:
    """Counters of a pool since its start."""

    tokens_generated: int = 0
    rollouts_finished: int = 0
    rollouts_lost: int = 0
    restarts: int = 0
    versions: dict[str, int] = field(default_factory=dict)


def candidate_of(rollout: Rollout) -> Candidate:
    """What the reward side sees of a rollout: the parsed answer if the task names one, else the whole text."""
    return Candidate(
        id=f"{rollout.key}/{rollout.index}",
        text=rollout.parsed.parts.get("answer", rollout.text),
        num_tokens=rollout.num_tokens,
        parsed=rollout.parsed,
    )
