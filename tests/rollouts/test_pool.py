"""The pure parts of the pool: cores, Ray options, rollouts. Sampling itself is tested in tests/e2e."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from rewards.errors import RunStopped
from rewards.types import Candidate, GroupKey, ParsedAnswer, Prompt, TextSpan
from rollouts.config import EngineConfig
from rollouts.engine import EngineSpec, SampledAnswer
from rollouts.engine_slot import role_of
from rollouts.janitor import Footprint
from rollouts.pool import EnginePool, actor_options, make_rollout, share_cores
from rollouts.tiny import build_tiny_tokenizer
from rollouts.types import GroupRequest, SamplingSpec, Turn, VersionSpan, candidate_of

CORES = st.lists(st.integers(0, 500), min_size=1, max_size=20, unique=True)


# --- cores --------------------------------------------------------------------------------------------------------


def test_cores_are_dealt_out_in_runs_of_neighbours() -> None:
    assert share_cores(2, [0, 1, 2, 3]) == [(0, 1), (2, 3)]
    assert share_cores(1, [4, 9]) == [(4, 9)]
    assert share_cores(2, [0, 1, 2]) == [(0, 1), (2,)]
    assert share_cores(3, [0, 1]) == [(0,), (1,), (0,)]


@given(st.integers(1, 24), CORES)
def test_every_engine_gets_a_core_and_none_is_idle(num_engines: int, cores: list[int]) -> None:
    shares = share_cores(num_engines, cores)
    assert len(shares) == num_engines
    assert all(shares)
    dealt = [core for share in shares for core in share]
    if num_engines <= len(cores):
        assert dealt == cores  # in order, each exactly once
        sizes = [len(share) for share in shares]
        assert max(sizes) - min(sizes) <= 1
    else:
        assert set(dealt) == set(cores)
        assert max(map(dealt.count, cores)) - min(map(dealt.count, cores)) <= 1


def test_the_cores_that_this_process_may_use_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {6, 2})
    assert share_cores(2) == [(2,), (6,)]


# --- Ray options --------------------------------------------------------------------------------------------------


def spec(device: str, tensor_parallel_size: int = 1) -> EngineSpec:
    config = EngineConfig(tensor_parallel_size=tensor_parallel_size)
    return EngineSpec(model="m", max_model_len=64, config=config, device=device)  # type: ignore[arg-type]


def test_a_cpu_engine_takes_no_slot_and_never_restarts_half_loaded() -> None:
    options = actor_options(spec("cpu"))
    assert options.keys() == {"num_cpus", "max_concurrency", "max_restarts"}
    assert (options["num_cpus"], options["max_restarts"]) == (0, 0)
    assert options["max_concurrency"] > 4096  # more than any step's rollouts, which all wait in one actor


@pytest.mark.parametrize(("size", "share", "gpus"), [(1, 1.0, 1), (4, 1.0, 4), (1, 0.45, 0.45)])
def test_a_gpu_engine_takes_a_gpu_per_rank_or_its_share_of_one(size: int, share: float, gpus: float) -> None:
    assert actor_options(spec("cuda", size), gpu_share=share)["num_gpus"] == gpus


def test_a_bundle_places_the_engine() -> None:
    group: Any = object()
    strategy = actor_options(spec("cuda"), (group, 3))["scheduling_strategy"]
    assert isinstance(strategy, PlacementGroupSchedulingStrategy)
    assert (strategy.placement_group, strategy.placement_group_bundle_index) == (group, 3)


# --- rollouts -----------------------------------------------------------------------------------------------------

REQUEST = GroupRequest(
    key=GroupKey("step1-0"),
    prompt=Prompt("p", "text"),
    prompt_token_ids=np.array([1, 2], dtype=np.int32),
    seeds=(5, 6, 7),
    sampling=SamplingSpec(max_tokens=4, temperature=1.0),
)
ANSWER = SampledAnswer(
    token_ids=np.array([9, 8, 7], dtype=np.int32),
    logprobs=np.array([-1, -2, -3], dtype=np.float32),
    text=" an answer ",
    finish_reason="length",
    versions=(VersionSpan(0, 0, 2), VersionSpan(1, 2, 3)),
)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("engine", "actor"),
        ("VLLM::EngineCor:12", "core-12"),
        ("VLLM::Worker_TP1:13", "worker-13"),
        ("python3.11:14", "python3.11-14"),
        ("a/b:15", "a_b-15"),
    ],
)
def test_an_engines_processes_go_by_their_roles(name: str, role: str) -> None:
    assert role_of(name) == role


def test_a_rollout_keeps_what_was_sampled() -> None:
    parsed = ParsedAnswer(parts={"answer": "an answer"})
    rollout = make_rollout(REQUEST, 2, ANSWER, parsed)
    assert (rollout.key, rollout.index, rollout.seed) == (REQUEST.key, 2, 7)
    assert rollout.token_ids is ANSWER.token_ids
    assert rollout.logprobs is ANSWER.logprobs
    assert (rollout.text, rollout.finish_reason, rollout.versions) == (" an answer ", "length", ANSWER.versions)
    assert rollout.loss_mask.tolist() == [True] * 3
    assert rollout.turns == (Turn("assistant", 0, 3),)
    assert rollout.parsed is parsed
    assert rollout.num_tokens == 3


def test_judges_see_the_parsed_answer_or_else_the_whole_text() -> None:
    parsed = ParsedAnswer(parts={"answer": "an answer"}, malformed="no list")
    candidate = candidate_of(make_rollout(REQUEST, 1, ANSWER, parsed))
    assert candidate == Candidate("step1-0#0/1", "an answer", 3, parsed)
    assert candidate_of(make_rollout(REQUEST, 0, ANSWER, ParsedAnswer(parts={"plan": "x"}))).text == " an answer "


async def test_what_stops_a_run_while_it_samples_surfaces_as_it_is() -> None:
    class Spent:
        async def open(self, key: GroupKey, prompt: Prompt, num_candidates: int) -> None:
            raise RunStopped("the budget is spent")

    spec = EngineSpec(model="m", max_model_len=8, config=EngineConfig(), device="cpu")
    pool = EnginePool([spec], parse=lambda prompt, text: ParsedAnswer(), deadline_s=1.0)
    with pytest.raises(RunStopped, match="the budget is spent"):
        await pool.sample([REQUEST, replace(REQUEST, key=GroupKey("step1-1"))], cast(Any, Spent()))
    assert pool._outstanding == [0]


async def test_what_is_waited_for_has_a_name() -> None:
    spec = EngineSpec(model="m", max_model_len=8, config=EngineConfig(), device="cpu")
    pool = EnginePool([spec, spec], parse=lambda prompt, text: ParsedAnswer(), deadline_s=1.0)
    assert pool.unfinished() == []
    pool._unfinished = {(GroupKey("step1-1"), 0), (GroupKey("step1-0"), 2)}
    pool.slots[1]._replacement = replacement = asyncio.create_task(asyncio.sleep(0))
    assert pool.unfinished() == ["a new engine 1", "rollout step1-0#0/2", "rollout step1-1#0/0"]
    await replacement


def test_only_engines_that_are_at_work_are_killed_and_their_processes_once(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = EngineSpec(model="m", max_model_len=8, config=EngineConfig(), device="cpu")
    pool = EnginePool([spec], parse=lambda prompt, text: ParsedAnswer(), deadline_s=1.0)
    (slot,) = pool.slots
    slot.handle = object()
    slot._footprint, slot._pids = Footprint(os.uname().nodename, (11, 12), ()), {"engine": 11, "VLLM::EngineCor:12": 12}
    killed: list[Any] = []
    monkeypatch.setattr("rollouts.engine_slot.ray.kill", killed.append)
    monkeypatch.setattr("rollouts.engine_slot.os.kill", lambda pid, signal: killed.append(pid))
    assert not pool.kill_engines()
    assert killed == []
    pool._unfinished = {(GroupKey("step1-1"), 0)}
    assert pool.kill_engines()
    assert killed == [slot.handle, 11, 12]
    assert pool.kill_engines()  # before anybody noticed: the kernel may have given the numbers to others
    assert killed == [slot.handle, 11, 12, slot.handle]
    assert pool.processes() == {}


# --- segments -----------------------------------------------------------------------------------------------------


def test_spans_of_an_answer_become_segments_by_its_own_tokens() -> None:
    tokenizer = build_tiny_tokenizer()
    text = "<a>é</a><b>"
    token_ids = np.array([*tokenizer.encode(text, add_special_tokens=False), 2], dtype=np.int32)
    answer = replace(ANSWER, text=text, token_ids=token_ids)
    parsed = ParsedAnswer(spans=(TextSpan(0, "a", 0, 8), TextSpan(1, "b", 8, 11)))
    pool = EnginePool([], parse=lambda prompt, text: parsed, deadline_s=1.0, tokenizer=tokenizer)
    first, second = pool._parse(REQUEST, answer).segments
    assert (first.start, first.end, second.end) == (0, second.start, len(token_ids))
    assert tokenizer.decode(token_ids[: first.end].tolist()) == "<a>é</a>"
    with pytest.raises(ValueError, match="need the pool's tokenizer"):
        EnginePool([], parse=lambda prompt, text: parsed, deadline_s=1.0)._parse(REQUEST, answer)
    assert (
        EnginePool([], parse=lambda prompt, text: ParsedAnswer(), deadline_s=1.0)._parse(REQUEST, answer)
        == ParsedAnswer()
    )
