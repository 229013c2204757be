"""Judges and sinks of a recipe: which is made, and that what was opened is closed however the body ends."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import TypeAdapter

from launch import judging
from launch.desk import cache_path, make_desk, open_cache
from launch.judging import make_sink, open_judge, open_rewards, pairwise
from rewards.arena import Arena
from rewards.config import RewardsConfig, TournamentRewards
from rewards.errors import UserError
from rewards.judge_config import JudgeConfig, PanelJudge, PanelMember, PythonJudge, RewardModelJudge, VerdictTokensJudge
from rewards.judges.panel import Panel
from rewards.scoring import ScorerSink
from rewards.types import Call, Candidate, GroupKey, Prompt, Ranking
from rl.evaluation import outcome_of
from rollouts.engine import EngineSpec
from rollouts.tiny import build_tiny_tokenizer
from tests.rewards.tiny_reward_models import build_tiny_both

CLOSED: list[str] = []
KEY = GroupKey("g")


class ClosingJudge:
    def compare(self, prompt: Prompt, first: Candidate, second: Candidate) -> float:
        return float(len(first.text) > len(second.text))

    async def close(self) -> None:
        CLOSED.append("judge")


def words(prompt: Prompt, candidate: Candidate) -> float:
    return float(len(candidate.text.split()))


PYTHON = PythonJudge(kind="python", target=f"{__name__}:ClosingJudge", verdict="hard", symmetric=True)
VERDICT_TOKENS = VerdictTokensJudge(kind="verdict_tokens", model="folder", max_model_len=128, kv_cache_gib=0.25)


def rewards(**values: Any) -> RewardsConfig:
    return TypeAdapter(RewardsConfig).validate_python(values)


TOURNAMENT = rewards(
    kind="tournament", judge=PYTHON, aggregator={"kind": "win_rate"}, gates=({"kind": "length", "max_words": 3},)
)
SCORER = rewards(kind="scorer", target=f"{__name__}:words", gates=({"kind": "length", "max_words": 3},))


@pytest.fixture(autouse=True)
def nothing_closed_yet() -> None:
    CLOSED.clear()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> list[EngineSpec]:
    """Engines that are never started: their specs, in order; `CLOSED` says when they end."""
    started: list[EngineSpec] = []

    async def start(spec: EngineSpec, **options: Any) -> str:
        started.append(spec)
        return "handle"

    async def stop(handle: str) -> None:
        assert handle == "handle"
        CLOSED.append("engine")

    monkeypatch.setattr(judging, "start_engine", start)
    monkeypatch.setattr(judging, "stop_engine", stop)
    monkeypatch.setattr(judging, "resolve_model", Path)
    monkeypatch.setattr(judging, "load_tokenizer", lambda model: build_tiny_tokenizer())
    return started


# --- judges -------------------------------------------------------------------------------------------------------


async def test_members_of_a_panel_are_opened_and_closed_one_by_one(engine: list[EngineSpec]) -> None:
    members = tuple(PanelMember(judge=judge, name=f"m{n}") for n, judge in enumerate((PYTHON, VERDICT_TOKENS)))
    async with open_judge(PanelJudge(kind="panel", members=members), device="cpu", seed=0) as judge:
        assert isinstance(judge, Panel)
        assert [member.name for member in judge.members] == ["m0", "m1"]
        assert [spec.model for spec in engine] == ["folder"]
        assert CLOSED == []
    assert CLOSED == ["engine", "judge"]


async def test_a_judge_is_closed_when_the_context_ends() -> None:
    async with open_judge(PYTHON, device="cpu", seed=0) as judge:
        assert (judge.kind, CLOSED) == ("hard", [])
    assert CLOSED == ["judge"]


@pytest.mark.parametrize("config", [PYTHON, VERDICT_TOKENS], ids=lambda config: config.kind)
async def test_a_judge_is_closed_when_the_body_fails(
    config: JudgeConfig, engine: list[EngineSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rewards.judges.verdict_tokens.VerdictTokens.close", ClosingJudge.close)
    with pytest.raises(RuntimeError, match="the body"):
        async with open_judge(config, device="cpu", seed=0):
            raise RuntimeError("the body")
    closed = ["judge"] + ["engine"] * len(engine)
    assert closed == CLOSED


async def test_a_verdict_tokens_judge_gets_an_engine_of_its_own(engine: list[EngineSpec]) -> None:
    async with open_judge(VERDICT_TOKENS, device="cpu", seed=4) as judge:
        assert judge.name == "verdict_tokens:folder"
        assert CLOSED == []
    (spec,) = engine
    assert (spec.model, spec.max_model_len, spec.config.kv_cache_gib) == ("folder", 128, 0.25)
    assert (spec.device, spec.seed, spec.transfer) == ("cpu", 4, None)
    assert CLOSED == ["engine"]


@pytest.mark.parametrize("head", ["scalar", "preference_embedding"])
async def test_a_reward_model_by_vllm_gets_an_engine_that_pools(
    head: Literal["scalar", "preference_embedding"], engine: list[EngineSpec], tmp_path: Path
) -> None:
    model = build_tiny_both(tmp_path)
    config = RewardModelJudge(kind="reward_model", model=str(model), engine="vllm", head=head, max_tokens=200)
    async with open_judge(config, device="cpu", seed=4) as judge:
        assert judge.name == f"reward_model:{model}"
    (spec,) = engine
    assert (spec.backbone, spec.max_model_len, spec.config.dtype, spec.transfer) == (
        "LlamaForCausalLM",
        200,
        "float32",
        None,
    )
    assert CLOSED == ["engine"]


async def test_a_judge_that_cannot_be_made_leaves_no_engine(
    engine: list[EngineSpec], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(model: Path) -> None:
        raise ValueError("no tokenizer")

    monkeypatch.setattr(judging, "load_tokenizer", fail)
    with pytest.raises(ValueError, match="no tokenizer"):
        async with open_judge(VERDICT_TOKENS, device="cpu", seed=0):
            pass
    assert CLOSED == ["engine"]


async def test_rewards_of_a_scorer_need_no_judge() -> None:
    async with open_rewards(SCORER, device="cpu", seed=0) as judge:
        assert judge is None
    async with open_rewards(TOURNAMENT, device="cpu", seed=0) as judge:
        assert judge is not None
    assert CLOSED == ["judge"]


# --- sinks --------------------------------------------------------------------------------------------------------


async def score(sink: Arena | ScorerSink) -> list[float | None]:
    key = GroupKey("g")
    await sink.open(key, Prompt("p", "text"), 3)
    for index, text in enumerate(["one", "one two three four five", "one two"]):
        await sink.add(key, index, Candidate(str(index), text))
    await sink.close(key)
    scored = (await sink.scores())[key]
    assert scored.gate_failures == {"length": (1,)}
    return scored.rewards


async def test_a_tournament_makes_an_arena_with_the_recipes_gates() -> None:
    calls: list[Call | Ranking] = []
    async with open_rewards(TOURNAMENT, device="cpu", seed=0) as judge:
        sink = make_sink(TOURNAMENT, judge, seed=0, carry_prior=True, on_call=lambda key, call: calls.append(call))
        assert isinstance(sink, Arena)
        shortest, gated, longest = await score(sink)
    assert len(calls) == 1
    assert gated is not None
    assert shortest is not None
    assert longest is not None
    assert gated < shortest < longest


async def test_a_scorer_makes_a_sink_that_calls_the_target() -> None:
    sink = make_sink(SCORER, None, seed=0, carry_prior=True)
    assert isinstance(sink, ScorerSink)
    assert await score(sink) == [1.0, 0.0, 2.0]


@pytest.mark.parametrize(
    ("name", "fault"),
    [("ClosingJudge", "cannot be called with (prompt, candidate): too many"), ("PYTHON", "is no function")],
)
def test_a_scorer_that_cannot_be_called_is_told_before_it_is(name: str, fault: str) -> None:
    scorer = rewards(kind="scorer", target=f"{__name__}:{name}")
    with pytest.raises(UserError, match=re.escape(f"rewards.target '{__name__}:{name}' {fault}")):
        make_sink(scorer, None, seed=0, carry_prior=True)


async def test_only_a_sink_that_carries_its_prior_remembers() -> None:
    config = rewards(kind="tournament", judge=PYTHON, aggregator={"kind": "empirical_bayes"})
    async with open_rewards(config, device="cpu", seed=0) as judge:
        for carries in (True, False):
            sink = make_sink(config, judge, seed=0, carry_prior=carries)
            await sink.open(GroupKey("g"), Prompt("p", "text"), 2)
            for index, text in enumerate(["a", "bb"]):
                await sink.add(GroupKey("g"), index, Candidate(str(index), text))
            await sink.close(GroupKey("g"))
            await sink.scores()
            assert (sink.prior is not None) == carries


async def test_evaluation_plays_each_pair_once_whatever_training_plays() -> None:
    for topology in ({"kind": "k_wise"}, {"kind": "single_elimination", "seeding": "anchor"}):
        config = rewards(kind="tournament", judge=PYTHON, topology=topology)
        async with open_rewards(config, device="cpu", seed=0) as judge:
            sink = make_sink(pairwise(config), judge, seed=0, carry_prior=False)
            key = GroupKey("pair")
            await sink.open(key, Prompt("p", "text"), 2)
            for index, text in enumerate(["short", "a longer one"]):
                await sink.add(key, index, Candidate(str(index), text))
            (scored,) = (await sink.scores()).values()
        assert outcome_of(scored) == 1.0
    assert pairwise(SCORER) is SCORER


# --- what sinks over one judge share ------------------------------------------------------------------------------

ASKED: list[str] = []


def longer(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    ASKED.append(first.text)
    return float(len(first.text) > len(second.text))


def test_where_the_cache_lies(tmp_path: Path) -> None:
    assert cache_path(TOURNAMENT, tmp_path) == tmp_path / "judge_cache.sqlite"
    assert cache_path(TOURNAMENT, None) is None
    named = TOURNAMENT.model_copy(update={"cache": "/shared/verdicts.sqlite"})
    assert cache_path(named, None) == cache_path(named, tmp_path) == Path("/shared/verdicts.sqlite")
    assert cache_path(TOURNAMENT.model_copy(update={"cache": False}), tmp_path) is None
    assert cache_path(SCORER, tmp_path) is None


@pytest.mark.parametrize(("version", "asked"), [("1", 3), (None, 6)])
async def test_training_and_evaluation_share_verdicts_where_the_judge_is_known(
    version: str | None, asked: int, tmp_path: Path
) -> None:
    judge_config = PYTHON.model_copy(update={"target": f"{__name__}:longer", "version": version})
    config = TOURNAMENT.model_copy(update={"judge": judge_config, "gates": ()})
    ASKED.clear()
    async with (
        open_judge(judge_config, device="cpu", seed=0) as judge,
        open_cache(tmp_path / "c.sqlite") as cache,
    ):
        desk = await make_desk(config, judge, cache=cache)
        sinks = [make_sink(one, judge, seed=0, carry_prior=False, desk=desk) for one in (config, pairwise(config))]
        for sink in sinks:
            await sink.open(KEY, Prompt("p", "task"), 3)
            for index, text in enumerate(("one", "three words here", "two words")):
                await sink.add(KEY, index, Candidate(str(index), text))
            assert (await sink.scores())[KEY].num_calls == 3
    assert len(ASKED) == asked


def shorter(prompt: Prompt, first: Candidate, second: Candidate) -> float:
    ASKED.append(first.text)
    return float(len(first.text) < len(second.text))


async def test_members_of_a_panel_remember_each_for_itself_and_calibration_is_told(tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "p", "better": "much longer", "worse": "short"}')
    members = [
        {"judge": {"kind": "python", "target": f"{__name__}:{name}", "verdict": "hard", "version": "1"}}
        for name in ("longer", "shorter")
    ]
    panel = {"kind": "panel", "members": members, "reputation": {}}
    keys = {"kind": "tournament", "judge": panel, "calibration": {"file": str(pairs)}}
    config = TypeAdapter(RewardsConfig).validate_json(json.dumps(keys))
    assert isinstance(config, TournamentRewards)
    seen: list[Call | Ranking] = []
    asked: list[tuple[int, int, int]] = []
    for _ in range(2):
        ASKED.clear()
        async with open_judge(config.judge, device="cpu", seed=0) as judge, open_cache(tmp_path / "c") as cache:
            desk = await make_desk(config, judge, cache=cache)
            sink = make_sink(
                config, judge, seed=0, carry_prior=True, on_call=lambda key, call: seen.append(call), desk=desk
            )
            await sink.open(KEY, Prompt("p", "task"), 2)
            for index, text in enumerate(("one", "three")):
                await sink.add(KEY, index, Candidate(str(index), text))
            score = (await sink.scores())[KEY]
        asked.append((len(ASKED), score.num_calls, score.num_cached))
    assert asked == [(6, 4, 0), (0, 4, 4)], "two members, two orders, and one known pair each"
    assert len(seen) == 12
