"""Reward models on CPU: the number that transformers gives, skew symmetry, cycles, one forward pass per answer."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.chat_tokens import encode_messages
from rewards.errors import JudgeFailure, UserError
from rewards.judge_config import RewardModelJudge
from rewards.judges import build_judge
from rewards.judges.kept import Kept, KeptTasks
from rewards.judges.reward_model import RewardModel
from rewards.judges.reward_pooling import ScalarPooling
from rewards.judges.reward_reader import Embedding, EmbeddingReader, ScalarReader, preference
from rewards.types import Candidate, Message, Prompt
from rollouts.tiny import PAD, build_tiny_model
from tests.rewards.tiny_reward_models import build_tiny_both, build_tiny_preference, build_tiny_scalar

PROMPT = Prompt("p", "Write about the sea.")
ANSWERS = ("The sea.", "", "Ships cross it.", f"The sea.{PAD}", "Ünï ☃")


@pytest.fixture(scope="module")
def scalar(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_scalar(tmp_path_factory.mktemp("reward") / "scalar")


@pytest.fixture(scope="module")
def embedding(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_preference(tmp_path_factory.mktemp("reward") / "preference")


def test_the_scalar_is_the_one_that_the_model_gives(scalar: Path) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    reader = ScalarReader(scalar, max_tokens=512)
    tokenizer = AutoTokenizer.from_pretrained(scalar)
    model = AutoModelForSequenceClassification.from_pretrained(scalar).eval()
    for answer in ("The sea.", "Ships cross it."):
        turns = [{"role": "user", "content": PROMPT.text}, {"role": "assistant", "content": answer}]
        text = tokenizer.apply_chat_template(turns, tokenize=False)
        with torch.inference_mode():
            expected = model(**tokenizer(text, add_special_tokens=False, return_tensors="pt")).logits[0, 0]
        assert reader.read((PROMPT.text, answer)) == pytest.approx(float(expected), abs=1e-5)


def test_an_answer_that_ends_with_the_padding_token_is_read_to_its_end(scalar: Path) -> None:
    """The classifier skips padding at the end, and the answer's text must not become it."""
    reader = ScalarReader(scalar, max_tokens=512)
    assert reader.read(("p", "The sea.")) != reader.read(("p", f"The sea.{PAD}"))


@pytest.mark.parametrize("head", ["scalar", "preference_embedding"])
async def test_a_reward_does_not_depend_on_who_is_beside_it(head: str, scalar: Path, embedding: Path) -> None:
    model = scalar if head == "scalar" else embedding
    config = RewardModelJudge.model_validate({"kind": "reward_model", "model": str(model), "head": head})
    together, alone = build_judge(config), build_judge(config)
    pairs = list(itertools.permutations([Candidate(str(n), text) for n, text in enumerate(ANSWERS)], 2))
    values = await asyncio.gather(*(together.compare(PROMPT, *pair) for pair in pairs))
    for pair, verdict in list(zip(pairs, values, strict=True))[::3]:
        assert (await alone.compare(PROMPT, *pair)).value == verdict.value
    await together.close()
    await alone.close()


def test_the_embedding_by_hand(embedding: Path) -> None:
    """Against the formula written out: v = V h_last, l = K softmax(W h_prompt / sqrt(H))."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    reader = EmbeddingReader(embedding, max_tokens=512)
    weights = load_file(embedding / "model.safetensors")
    tokenizer, model = AutoTokenizer.from_pretrained(embedding), AutoModel.from_pretrained(embedding).eval()
    first = tokenizer.apply_chat_template([{"role": "user", "content": "p"}], tokenize=False)
    whole = first + "<|im_start|>assistant\nThe sea.<|im_end|>\n"
    ids = tokenizer(whole, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        hidden = model(**ids).last_hidden_state[0]
    at_prompt = len(tokenizer(first, add_special_tokens=False)["input_ids"]) - 1
    v = (weights["value_head.weight"] @ hidden[-1]).tolist()
    gates = [float(x) / 4.0 for x in weights["prompt_head.weight"] @ hidden[at_prompt]]  # H = 16
    scales = [2.0 * math.exp(gate) / sum(map(math.exp, gates)) for gate in gates]
    read = reader.read(("p", "The sea."))
    np.testing.assert_allclose(read.vector_K2.ravel(), v, atol=1e-4)
    np.testing.assert_allclose(read.scales_K, scales, atol=1e-4)
    other = reader.read(("p", "Ships."))
    (a, b), (c, d) = read.vector_K2
    (e, f), (g, h) = other.vector_K2
    expected = scales[0] * (a * f - b * e) + scales[1] * (c * h - d * g)
    assert preference(read, other) == pytest.approx(expected, abs=1e-4)


def test_without_a_prompt_head_blocks_count_alike(tmp_path: Path) -> None:
    reader = EmbeddingReader(build_tiny_preference(tmp_path, num_blocks=3, with_prompt_head=False), max_tokens=512)
    np.testing.assert_array_equal(reader.read(("p", "x")).scales_K, np.ones(3))


@given(st.lists(st.floats(-9, 9), min_size=8, max_size=8), st.lists(st.floats(0, 5), min_size=2, max_size=2))
def test_preferences_are_skew_symmetric(numbers: list[float], scales: list[float]) -> None:
    one, other = (Embedding(np.array(v).reshape(2, 2), np.array(scales)) for v in (numbers[:4], numbers[4:]))
    assert preference(one, other) == -preference(other, one)
    assert preference(one, one) == 0.0


async def test_rock_paper_scissors_is_a_cycle_and_level_in_a_slate() -> None:
    """Unit vectors at 0, 120 and 240 degrees: each beats the next by sin 120, so all sums over the others are 0."""
    angles = {"rock": 0.0, "scissors": 2 * math.pi / 3, "paper": 4 * math.pi / 3}

    def read(pair: tuple[str, str]) -> Embedding:
        angle = angles[pair[1]]
        return Embedding(np.array([[math.cos(angle), math.sin(angle)]]), np.ones(1))

    judge = RewardModel("gpm", Kept("gpm", read), lambda one, other: round(preference(one, other), 9))
    players = [Candidate(name, name) for name in angles]
    for one, other in zip(players, [*players[1:], players[0]], strict=True):
        assert (await judge.compare(PROMPT, one, other)).value == pytest.approx(math.sin(2 * math.pi / 3), abs=1e-8)
    assert (await judge.rank(PROMPT, players)).places == (0, 0, 0)
    await judge.close()


async def test_every_answer_is_read_once() -> None:
    read: list[tuple[str, str]] = []

    def count(pair: tuple[str, str]) -> float:
        read.append(pair)
        return float(len(pair[1]))

    judge = RewardModel("rm", Kept("rm", count), lambda one, other: one - other)
    candidates = [Candidate(str(n), "x" * n) for n in range(6)]
    pairs = list(itertools.combinations(candidates, 2))
    values = await asyncio.gather(*(judge.compare(PROMPT, *pair) for pair in pairs))
    assert [verdict.value for verdict in values] == [len(a.text) - len(b.text) for a, b in pairs]
    assert (await judge.rank(PROMPT, candidates)).places == (5, 4, 3, 2, 1, 0)
    assert len(read) == 6
    await judge.close()


class Backbone:
    """A `StatePooler` over transformers, where vLLM stands in a run."""

    def __init__(self, directory: Path) -> None:
        from transformers import AutoModel, AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(directory)
        self._model = AutoModel.from_pretrained(directory).eval()
        self.asked: list[str] = []

    async def last_state(self, messages: Sequence[Message]) -> Sequence[float]:
        import torch

        self.asked.append(messages[-1].text)
        ids = encode_messages(self._tokenizer, messages, answers=False)
        with torch.inference_mode():
            return self._model(torch.tensor([ids])).last_hidden_state[0, -1].tolist()


@pytest.mark.parametrize(("head", "num_passes"), [("scalar", len(ANSWERS)), ("preference_embedding", len(ANSWERS) + 1)])
async def test_an_engine_that_pools_gives_what_transformers_gives(head: str, num_passes: int, tmp_path: Path) -> None:
    directory = build_tiny_both(tmp_path)
    keys = {"kind": "reward_model", "model": str(directory), "head": head}
    backbone = Backbone(directory)
    pooled = build_judge(RewardModelJudge.model_validate(keys | {"engine": "vllm"}), state_pooler=backbone)
    plain = build_judge(RewardModelJudge.model_validate(keys))
    pairs = list(itertools.permutations([Candidate(str(n), text) for n, text in enumerate(ANSWERS)], 2))
    ours = [verdict.value for verdict in await asyncio.gather(*(pooled.compare(PROMPT, *pair) for pair in pairs))]
    theirs = [verdict.value for verdict in await asyncio.gather(*(plain.compare(PROMPT, *pair) for pair in pairs))]
    np.testing.assert_allclose(np.array(ours), np.array(theirs), atol=1e-4)
    assert len(backbone.asked) == num_passes  # each answer once; the prompt once, where block scales follow from it
    await pooled.close()
    await plain.close()


async def test_an_engine_at_work_is_not_waited_for_when_the_judge_closes() -> None:
    started = asyncio.Event()

    class Slow:
        async def last_state(self, messages: Sequence[Message]) -> Sequence[float]:
            started.set()
            await asyncio.Event().wait()
            return []

    kept: KeptTasks[str, Sequence[float]] = KeptTasks(lambda text: Slow().last_state([]))
    asked = asyncio.create_task(kept.get(["a"]))
    await started.wait()
    await kept.close()
    with pytest.raises(asyncio.CancelledError):
        await asked


async def test_what_is_too_long_has_no_verdict(scalar: Path) -> None:
    judge = build_judge(RewardModelJudge(kind="reward_model", model=str(scalar), max_tokens=64))
    with pytest.raises(JudgeFailure) as caught:
        await judge.compare(PROMPT, Candidate("0", "x y " * 99), Candidate("1", "x"))
    assert (caught.value.cause, caught.value.retryable) == ("refused", False)
    await judge.close()


def test_models_of_another_kind_are_refused(scalar: Path, embedding: Path, tmp_path: Path) -> None:
    def build(directory: Path, head: str) -> None:
        config = {"kind": "reward_model", "model": str(directory), "head": head}
        build_judge(RewardModelJudge.model_validate(config))

    with pytest.raises(UserError, match="cannot be loaded"):
        build(tmp_path / "nowhere", "scalar")
    with pytest.raises(UserError, match="has 2 outputs"):
        build(build_tiny_scalar(tmp_path / "two", num_labels=2), "scalar")
    with pytest.raises(UserError, match=r"no weights for score\.weight"):
        build(build_tiny_model(tmp_path / "causal"), "scalar")
    with pytest.raises(UserError, match=r"no value_head\.weight"):
        build(scalar, "preference_embedding")
    with pytest.raises(UserError, match=r"no weights for score\.weight"):
        ScalarPooling(embedding, Backbone(embedding))
    with pytest.raises(UserError, match="has 2 outputs, not one"):
        ScalarPooling(tmp_path / "two", Backbone(embedding))
    (build_tiny_scalar(tmp_path / "base") / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match="has no chat template"):
        build(tmp_path / "base", "scalar")
