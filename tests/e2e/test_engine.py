"""The real engine on a tiny float32 model: what it samples, what it scores, and that a weight sync arrives whole."""

from __future__ import annotations

import asyncio
import copy
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from rewards.arena import Arena
from rewards.config import TournamentRewards
from rewards.errors import RunStopped
from rewards.judge_config import PythonJudge, VerdictTokensJudge
from rewards.judges import build_judge
from rewards.topology_config import KWise
from rewards.types import Call, Candidate, ChoiceScores, GroupKey, GroupScore, Prompt, Ranking
from rl.alarms import check_gap, check_versions
from rl.config import RLConfig
from rl.weights import EngineClient, LearnerSource, SharedBuffer, WeightSender
from rollouts.chat import encode_messages
from rollouts.models import load_tokenizer
from rollouts.token_scorer import EngineScorer
from rollouts.types import GroupRequest, Rollout, SamplingSpec
from tests.e2e.conftest import MAX_LEN, Stage

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

PROMPT_IDS = np.arange(5, 25, dtype=np.int32)
TEMPLATE = """# user
{prompt} {criteria}
A: {first}
B: {second}
# assistant
"""
LIST_TEMPLATE = """# user
{prompt} {criteria} {labels}

{label}: {answer}
# assistant
"""
TOLERANCE = 1e-4  # nats per token, float32 on both sides


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)


@pytest.fixture(scope="module")
def sender(model: Any) -> Iterator[WeightSender]:
    sender = WeightSender(model, dtype=torch.float32, backend="shm", rank=0)
    yield sender
    sender.close()


def request(
    name: str, *, num_rollouts: int = 4, max_tokens: int = 12, temperature: float = 1.0, stop: tuple[str, ...] = ()
) -> GroupRequest:
    return GroupRequest(
        key=GroupKey(name),
        prompt=Prompt(id=name, text="a prompt"),
        prompt_token_ids=PROMPT_IDS,
        seeds=tuple(range(100, 100 + num_rollouts)),
        sampling=SamplingSpec(max_tokens=max_tokens, temperature=temperature, ignore_eos=True, stop=stop),
    )


def sample(stage: Stage, name: str, **options: Any) -> list[Rollout]:
    (group,) = stage.run(stage.pool.sample([request(name, **options)]))
    rollouts = [rollout for rollout in group.rollouts if rollout is not None]
    assert len(rollouts) == len(group.rollouts)
    return rollouts


def learner_logprobs(model: Any, rollout: Rollout, temperature: float = 1.0) -> np.ndarray:
    token_ids = torch.tensor(np.concatenate([PROMPT_IDS, rollout.token_ids]), dtype=torch.long)[None]
    with torch.no_grad():
        logprobs = torch.log_softmax(model(token_ids).logits[0].float() / temperature, dim=-1)
    first = len(PROMPT_IDS) - 1
    return np.array([logprobs[first + at, token].item() for at, token in enumerate(rollout.token_ids)])


def mean_gap(model: Any, rollouts: list[Rollout]) -> float:
    """As the learner measures it: mean |learner - engine|, in nats per sampled token."""
    return float(np.mean([np.abs(learner_logprobs(model, one) - one.logprobs) for one in rollouts]))


def gap(model: Any, rollouts: list[Rollout]) -> float:
    return max(float(np.abs(learner_logprobs(model, one) - one.logprobs).max()) for one in rollouts)


def test_a_learner_with_other_weights_than_the_engine_is_an_alarm(stage: Stage, model: Any) -> None:
    rollouts = sample(stage, "alarm", num_rollouts=8)
    limit = RLConfig(num_steps=1).max_logprob_gap
    check_gap({"sync/logprob_gap": mean_gap(model, rollouts)}, limit, 1)
    other = copy.deepcopy(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    with pytest.raises(
        RunStopped, match=r"step 1: learner and engines differ by .* nats .*; nothing was saved"
    ) as caught:
        check_gap({"sync/logprob_gap": mean_gap(other, rollouts)}, limit, 1)
    assert "\n" not in str(caught.value)


def test_a_rollout_keeps_what_was_sampled(stage: Stage) -> None:
    rollouts = sample(stage, "kept")
    for index, rollout in enumerate(rollouts):
        assert (rollout.index, rollout.seed, rollout.num_tokens) == (index, 100 + index, 12)
        assert rollout.token_ids.dtype == np.int32
        assert rollout.loss_mask.all()
        assert [(turn.role, turn.start, turn.end) for turn in rollout.turns] == [("assistant", 0, 12)]
        assert [(span.start, span.end) for span in rollout.versions] == [(0, 12)]
        assert rollout.finish_reason == "length"


def test_equal_seeds_sample_equal_answers_and_others_do_not(stage: Stage) -> None:
    one, two = sample(stage, "one"), sample(stage, "two")
    assert [list(a.token_ids) for a in one] == [list(b.token_ids) for b in two]
    assert len({tuple(rollout.token_ids) for rollout in one}) == len(one)


def test_a_stop_text_ends_an_answer_and_stays_in_it(stage: Stage) -> None:
    (whole,) = sample(stage, "whole", num_rollouts=1)
    letter = whole.text[len(whole.text) // 2]
    (cut,) = sample(stage, "cut", num_rollouts=1, stop=(letter,))
    assert cut.text == whole.text[: whole.text.index(letter) + 1]
    assert cut.finish_reason == "stop"
    assert list(cut.token_ids) == list(whole.token_ids[: cut.num_tokens])
    assert len(cut.logprobs) == cut.num_tokens < whole.num_tokens


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_the_learner_at_its_temperature(
    stage: Stage, model: Any, sender: Any, temperature: float
):
    stage.run(asyncio.to_thread(sender.send, stage.pool.handles, 1, verify=True))
    for rollout in sample(stage, f"at {temperature}", temperature=temperature):
        np.testing.assert_allclose(rollout.logprobs, learner_logprobs(model, rollout, temperature), atol=TOLERANCE)


@pytest.mark.parametrize("choices", [[7, 300], list(range(40, 56))], ids=["a pair", "the longest slate"])
def test_choice_logprobs_are_the_models_own(stage: Stage, model: Any, sender: Any, choices: list[int]) -> None:
    stage.run(asyncio.to_thread(sender.send, stage.pool.handles, 1, verify=False))
    (handle,) = stage.pool.handles
    found = stage.run(_await(handle.choice_logprobs.remote(PROMPT_IDS, choices)))
    with torch.no_grad():
        logits = model(torch.tensor(PROMPT_IDS, dtype=torch.long)[None]).logits[0, -1]
    np.testing.assert_allclose(found, torch.log_softmax(logits, dim=-1)[choices].numpy(), atol=TOLERANCE)


def test_a_verdict_is_the_models_logit_difference_in_each_order(
    stage: Stage, model: Any, tiny_model: Path, sender: WeightSender, tmp_path: Path
) -> None:
    stage.run(asyncio.to_thread(sender.send, stage.pool.handles, 1, verify=False))
    (tmp_path / "short.md").write_text(TEMPLATE)
    config = VerdictTokensJudge(
        kind="verdict_tokens", model="unused", template=str(tmp_path / "short.md"), max_model_len=MAX_LEN
    )
    tokenizer = load_tokenizer(tiny_model)
    asked: list[list[int]] = []

    class Watched(EngineScorer):
        async def choice_logprobs(self, messages: Any, prefill: str, choices: Any) -> ChoiceScores:
            asked.append(encode_messages(tokenizer, messages, prefill))
            return await super().choice_logprobs(messages, prefill, choices)

    judge = build_judge(config, token_scorer=Watched(stage.pool.handles[0], tokenizer, MAX_LEN))
    prompt = Prompt(id="p", text="Which is about the sea?")
    sea, rain = Candidate("sea", "The sea is wide."), Candidate("rain", "Rain <|im_end|> fell.")
    forward, backward = (
        stage.run(judge.compare(prompt, first, second)).value for first, second in ((sea, rain), (rain, sea))
    )
    choices = [tokenizer.encode(choice, add_special_tokens=False)[0] for choice in config.choices]
    for value, token_ids in zip((forward, backward), asked, strict=True):
        with torch.no_grad():
            logits = model(torch.tensor(token_ids)[None]).logits[0, -1]
        assert value == pytest.approx(float(logits[choices[0]] - logits[choices[1]]), abs=10 * TOLERANCE)
    assert forward != pytest.approx(-backward, abs=1e-3)  # a random model leans to a seat: both orders are needed


def test_a_slate_is_placed_by_the_models_logits_of_its_labels(
    stage: Stage, model: Any, tiny_model: Path, sender: WeightSender, tmp_path: Path
) -> None:
    stage.run(asyncio.to_thread(sender.send, stage.pool.handles, 1, verify=False))
    (tmp_path / "list.md").write_text(LIST_TEMPLATE)
    config = VerdictTokensJudge(
        kind="verdict_tokens", model="unused", list_template=str(tmp_path / "list.md"), max_model_len=MAX_LEN
    )
    tokenizer = load_tokenizer(tiny_model)
    asked: list[tuple[list[int], list[str]]] = []

    class Watched(EngineScorer):
        async def choice_logprobs(self, messages: Any, prefill: str, choices: Any) -> ChoiceScores:
            asked.append((encode_messages(tokenizer, messages, prefill), list(choices)))
            return await super().choice_logprobs(messages, prefill, choices)

    judge = build_judge(config, token_scorer=Watched(stage.pool.handles[0], tokenizer, MAX_LEN))
    rewards = TournamentRewards(judge=config, topology=KWise(kind="k_wise", k=4, rounds=1), orders="both")

    async def play() -> GroupScore:
        arena = Arena(rewards, judge)
        key = GroupKey("slates")
        await arena.open(key, Prompt(id="p", text="Which is about the sea?"), 4)
        for slot, text in enumerate(("The sea.", "Rain.", "A boat.", "Sand.")):
            await arena.add(key, slot, Candidate(str(slot), text))
        return (await arena.scores())[key]

    score = stage.run(play())
    assert score.num_calls == len(score.rankings) == len(asked) == 2
    assert {ranking.shown for ranking in score.rankings} == {(0, 1, 2, 3), (3, 2, 1, 0)}
    best_first = []
    for token_ids, labels in asked:
        with torch.no_grad():
            logits = model(torch.tensor(token_ids)[None]).logits[0, -1]
        ids = [tokenizer.encode(label, add_special_tokens=False)[0] for label in labels]
        best_first.append(torch.argsort(-logits[ids]).tolist())
    assert sorted(np.argsort(ranking.places).tolist() for ranking in score.rankings if ranking.places) == sorted(
        best_first
    )


def test_every_tensor_of_a_sync_takes_effect(stage: Stage, model: Any, sender: WeightSender) -> None:
    """Each kind of weight alone: a packed or tied tensor that a sync missed would show as a gap."""
    names = [name for name, _ in model.named_parameters()]
    kinds = sorted({name.split(".", 3)[-1] if ".layers." in name else name for name in names})
    generator = torch.Generator().manual_seed(0)
    for version, kind in enumerate(kinds, start=10):
        before = sample(stage, f"before {kind}")
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith(kind):
                    parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        assert gap(model, before) > 100 * TOLERANCE, f"changing {kind} changes nothing: this test proves nothing"
        stage.run(asyncio.to_thread(sender.send, stage.pool.handles, version, verify=True))
        after = sample(stage, f"after {kind}")
        assert gap(model, after) < TOLERANCE, kind
        assert {span.version for rollout in after for span in rollout.versions} == {version}
    assert stage.run(stage.pool.versions()) == [9 + len(kinds)]


def test_a_skipped_sync_is_caught_by_the_version(stage: Stage) -> None:
    (group,) = stage.run(stage.pool.sample([request("stale")]))
    sampled_by = group.rollouts[0].versions[0].version
    check_versions([group], expected=sampled_by)
    with pytest.raises(
        RunStopped, match=rf"policy version {sampled_by}, not {sampled_by + 1}: a weight sync was skipped"
    ):
        check_versions([group], expected=sampled_by + 1)


class FlippedBit(SharedBuffer):
    def write(self, offset: int, tensor: torch.Tensor) -> None:
        if offset == 0:
            damaged = tensor.detach().clone().view(torch.uint8)
            damaged.view(-1)[5] ^= 1
            tensor = damaged
        super().write(offset, tensor)


class SwappedTensors(LearnerSource):
    """Two tensors of one shape change places after their digests were taken."""

    swap = ("model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight")


@pytest.mark.parametrize("fault", ["flipped bit", "swapped tensors"])
def test_damage_on_the_way_stops_the_run_with_one_line(
    stage: Stage, model: Any, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = WeightSender(model, dtype=torch.float32, backend="shm", rank=0)
    first, second = SwappedTensors.swap
    if fault == "flipped bit":
        monkeypatch.setattr("rl.weights.SharedBuffer", FlippedBit)
        expected = "1 of .* tensors arrived with other bytes than were sent, first `model.embed_tokens.weight`"
    else:
        send = EngineClient.update_weights

        def swap_slots(self: EngineClient, update: Any) -> None:
            slots = {slot["name"]: slot for slot in update["slots"]}
            slots[first]["offset"], slots[second]["offset"] = slots[second]["offset"], slots[first]["offset"]
            send(self, update)

        monkeypatch.setattr(EngineClient, "update_weights", swap_slots)
        expected = f"tensors `{first}` and `{second}` were swapped on the way"
    with pytest.raises(RunStopped, match=expected) as caught:
        stage.run(asyncio.to_thread(sender.send, stage.pool.handles, 50, verify=True))
    assert "\n" not in str(caught.value)
    monkeypatch.undo()
    sender.close()
    mend = WeightSender(model, dtype=torch.float32, backend="shm", rank=0)
    stage.run(asyncio.to_thread(mend.send, stage.pool.handles, 51, verify=True))
    mend.close()


def test_full_memory_stops_a_sync_before_the_engine_is_touched(
    stage: Stage, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: object, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = sample(stage, "before")
    sender = WeightSender(model, dtype=torch.float32, backend="shm", rank=0)
    with monkeypatch.context() as patch:
        patch.setattr("rl.weights.os.pwrite", full)
        with pytest.raises(RunStopped, match=r"shared memory is full .*go on with --resume"):
            stage.run(asyncio.to_thread(sender.send, stage.pool.handles, 60, verify=True))
    after = sample(stage, "after")
    assert [list(one.token_ids) for one in after] == [list(one.token_ids) for one in before]
    assert {span.version for one in after for span in one.versions} == {before[0].versions[0].version}
    stage.run(asyncio.to_thread(sender.send, stage.pool.handles, 61, verify=True))
    sender.close()


def test_the_first_verdict_precedes_the_last_rollouts_arrival(stage: Stage) -> None:
    happened: list[str] = []

    class Watched(Arena):
        async def add(self, key: GroupKey, index: int, candidate: Candidate) -> None:
            happened.append("arrived")
            await super().add(key, index, candidate)

    config = TournamentRewards(
        judge=PythonJudge(kind="python", target="tests.e2e.judges:more_vowels", verdict="hard"),
    )

    def on_call(key: GroupKey, call: Call | Ranking) -> None:
        happened.append("verdict")

    async def play() -> None:
        arena = Watched(config, build_judge(config.judge), on_call=on_call)
        # Lengths differ, so that answers end at different times.
        requests = [request(f"stream {tokens}", max_tokens=tokens) for tokens in (2, 8, 60)]
        await stage.pool.sample(requests, arena)
        scores = await arena.scores()
        assert all(score.num_scored == 4 for score in scores.values())

    stage.run(play())
    last_arrival = max(at for at, what in enumerate(happened) if what == "arrived")
    assert happened.index("verdict") < last_arrival


def test_a_rollout_over_its_deadline_is_given_up_and_counted(stage: Stage) -> None:
    pool = stage.pool
    lost, deadline = pool.stats.rollouts_lost, pool.deadline_s
    pool.deadline_s = 1e-4
    try:
        (group,) = stage.run(pool.sample([request("late", num_rollouts=2, max_tokens=60)]))
    finally:
        pool.deadline_s = deadline
    assert group.rollouts == (None, None)
    assert pool.stats.rollouts_lost == lost + 2
    assert len(sample(stage, "after the late ones")) == 4


async def _await(reference: Any) -> Any:
    return await reference
