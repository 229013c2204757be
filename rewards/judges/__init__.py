"""Judges: one file per kind, its config in `rewards/config.py`, its builder here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rewards.chat_endpoint import ChatEndpoint
from rewards.judge_config import (
    ChatJudge,
    EmbeddingJudge,
    JudgeConfig,
    LikelihoodJudge,
    PanelJudge,
    ProgramJudge,
    PythonJudge,
    RewardModelJudge,
    VerdictTokensJudge,
)
from rewards.judges.chat import build_chat
from rewards.judges.embedding import build_embedding
from rewards.judges.likelihood import build_likelihood
from rewards.judges.panel import build_panel
from rewards.judges.program import build_program
from rewards.judges.python import build_python
from rewards.judges.reward_model import build_reward_model
from rewards.judges.rubric import build_rubric
from rewards.judges.verdict_tokens import build_verdict_tokens
from rewards.rubric_config import RubricJudge
from rewards.rubrics.store import CriteriaStore
from rewards.types import Completer, Judge, StatePooler, TokenScorer


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a judge may need from whoever builds it."""

    token_scorer: TokenScorer | None
    completer: Completer | None
    resolve_model: Callable[[str], Path]
    seed: int
    base_dir: Path | None
    criteria_store: CriteriaStore | None = None
    state_pooler: StatePooler | None = None


def _embedding(config: EmbeddingJudge, around: Surroundings) -> Judge:
    return build_embedding(config, around.resolve_model(config.model))


def _likelihood(config: LikelihoodJudge, around: Surroundings) -> Judge:
    return build_likelihood(config, around.resolve_model(config.model))


def _verdict_tokens(config: VerdictTokensJudge, around: Surroundings) -> Judge:
    if around.token_scorer is None:
        raise ValueError("a verdict_tokens judge needs a token_scorer")
    return build_verdict_tokens(config, around.token_scorer, seed=around.seed, base_dir=around.base_dir)


def _python(config: PythonJudge, around: Surroundings) -> Judge:
    return build_python(config)


def _rubric(config: RubricJudge, around: Surroundings) -> Judge:
    return build_rubric(
        config,
        around.completer or ChatEndpoint(config.endpoint),
        seed=around.seed,
        base_dir=around.base_dir,
        store=around.criteria_store,
    )


def _chat(config: ChatJudge, around: Surroundings) -> Judge:
    completer = around.completer or ChatEndpoint(config.endpoint)
    return build_chat(config, completer, seed=around.seed, base_dir=around.base_dir)


def _reward_model(config: RewardModelJudge, around: Surroundings) -> Judge:
    return build_reward_model(config, around.resolve_model(config.model), around.state_pooler)


def _program(config: ProgramJudge, around: Surroundings) -> Judge:
    return build_program(config)


def _panel(config: PanelJudge, around: Surroundings) -> Judge:
    judges = [BUILDERS[member.judge.kind](member.judge, around) for member in config.members]
    return build_panel(config, judges)


BUILDERS: Mapping[str, Callable[[Any, Surroundings], Judge]] = MappingProxyType(
    {
        "embedding": _embedding,
        "likelihood": _likelihood,
        "verdict_tokens": _verdict_tokens,
        "python": _python,
        "rubric": _rubric,
        "chat": _chat,
        "reward_model": _reward_model,
        "program": _program,
        "panel": _panel,
    }
)


def build_judge(
    config: JudgeConfig,
    *,
    token_scorer: TokenScorer | None = None,
    completer: Completer | None = None,
    resolve_model: Callable[[str], Path] = Path,
    seed: int = 0,
    base_dir: Path | None = None,
    criteria_store: CriteriaStore | None = None,
    state_pooler: StatePooler | None = None,
) -> Judge:
    """The judge of a recipe. Whoever builds it closes it.

    Args:
        token_scorer: the causal model that a verdict_tokens judge asks; it stays the caller's.
        state_pooler: the backbone that a reward_model judge with `engine: vllm` asks; it stays the caller's.
        completer: what a chat or rubric judge asks instead of its endpoint; the judge closes it.
        resolve_model: from a config's model name to its directory (`rollouts.models.resolve_model` knows packages and
            the hub); by itself this module takes directories only.
        seed: of the fences around the texts that a model reads.
        base_dir: where a template's relative path starts; default: the working directory.
        criteria_store: where a rubric judge keeps the criteria of prompts; default: in memory.

    Raises:
        UserError: model, template, plug-in, schema or endpoint's key are at fault.
    """
    around = Surroundings(token_scorer, completer, resolve_model, seed, base_dir, criteria_store, state_pooler)
    return BUILDERS[config.kind](config, around)
