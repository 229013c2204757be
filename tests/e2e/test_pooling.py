"""Reward models in vLLM's pooling runner give what transformers gives. One engine, two heads over one backbone."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import numpy as np
import pytest

from launch.devices import judge_engine_spec
from rewards.errors import JudgeFailure
from rewards.judge_config import RewardModelJudge
from rewards.judges import build_judge
from rewards.types import Candidate, Judge, ListJudge, Prompt
from rollouts.engine_slot import start_engine, stop_engine
from rollouts.models import load_tokenizer
from rollouts.pool import actor_options
from rollouts.pooler import EnginePooler
from rollouts.tiny import PAD
from tests.e2e.conftest import Stage
from tests.rewards.tiny_reward_models import build_tiny_both

pytestmark = pytest.mark.e2e

PROMPT, OTHER = Prompt("p", "Write about the sea."), Prompt("q", "And now about ships, at some length.")
ANSWERS = ("The sea.", "", "Ships cross it.", f"The sea.{PAD}", "Ünï ☃", "x y " * 40)
CANDIDATES = [Candidate(str(number), text) for number, text in enumerate(ANSWERS)]


async def preferences(judge: Judge) -> np.ndarray:
    pairs = [(prompt, *pair) for prompt in (PROMPT, OTHER) for pair in itertools.permutations(CANDIDATES, 2)]
    return np.array([verdict.value for verdict in await asyncio.gather(*(judge.compare(*pair) for pair in pairs))])


async def compare_engines(model: Path) -> None:
    config = RewardModelJudge(kind="reward_model", model=str(model), engine="vllm", kv_cache_gib=0.25, max_tokens=256)
    spec = judge_engine_spec(config, model, "cpu", seed=0)
    assert spec.config.dtype == "float32"
    handle = await start_engine(spec, **actor_options(spec))
    try:
        pooler = EnginePooler(handle, load_tokenizer(model), config.max_tokens)
        for head in ("scalar", "preference_embedding"):
            judge = build_judge(config.model_copy(update={"head": head}), state_pooler=pooler)
            plain = build_judge(config.model_copy(update={"head": head, "engine": "transformers"}))
            ours, theirs = await preferences(judge), await preferences(plain)
            assert np.ptp(theirs) > 1.0  # the answers are told apart
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
            assert isinstance(judge, ListJudge)
            assert isinstance(plain, ListJudge)
            assert await judge.rank(PROMPT, CANDIDATES) == await plain.rank(PROMPT, CANDIDATES)
            with pytest.raises(JudgeFailure, match=r"tokens are more than judge\.max_tokens"):
                await judge.compare(PROMPT, Candidate("0", "x y " * 200), Candidate("1", "x"))
            await judge.close()
            await plain.close()
    finally:
        await stop_engine(handle)


def test_both_heads_by_vllm_and_by_transformers(stage: Stage, tmp_path: Path) -> None:
    """The stage's Ray is all that is needed of it."""
    stage.run(compare_engines(build_tiny_both(tmp_path)))
