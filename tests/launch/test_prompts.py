"""A run's requests: pure in (seed, step), and prompts that do not fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import pytest

from launch.prompts import RunPrompts
from recipes.load import load_recipe
from recipes.schema import Recipe
from rewards.errors import UserError
from rewards.types import ParsedAnswer, Prompt
from rollouts.chat import encode_prompt
from rollouts.prompts import make_prompt
from rollouts.tiny import build_tiny_tokenizer
from rollouts.types import GroupRequest, SamplingSpec
from tests.launch.fakes import FULL
from tests.rl.fakes import make_group

TOKENIZER = build_tiny_tokenizer()
SMALL = (
    *("evaluation.num_prompts=3", "evaluation.rollouts_per_prompt=2", "evaluation.temperature=0.5", "task.heldout=4"),
    *("rollouts.prompts_per_step=4", "rollouts.group_size=2", "rl.min_group=2", "rollouts.temperature=0.9"),
)


@dataclasses.dataclass
class FixedTask:
    train: Sequence[Prompt]
    heldout: Sequence[Prompt]

    def train_prompts(self) -> Sequence[Prompt]:
        return self.train

    def heldout_prompts(self) -> Sequence[Prompt]:
        return self.heldout

    def parse(self, prompt: Prompt, answer: str) -> ParsedAnswer:
        return ParsedAnswer()


def prompts(name: str, count: int) -> list[Prompt]:
    return [make_prompt([{"role": "user", "content": f"{name} {n}"}], {}) for n in range(count)]


def recipe(*overrides: str) -> Recipe:
    return load_recipe(FULL, [*SMALL, *overrides]).recipe


def encode(*overrides: str, train: int = 10, heldout: int = 4) -> RunPrompts:
    return RunPrompts.encode(
        recipe(*overrides), FixedTask(prompts("train", train), prompts("heldout", heldout)), TOKENIZER
    )


def plain(requests: list[GroupRequest]) -> list[tuple[object, ...]]:
    return [(r.key, r.prompt, r.prompt_token_ids.tolist(), r.seeds, r.sampling) for r in requests]


def test_requests_are_pure_in_seed_and_step() -> None:
    run, resumed, other = encode(), encode(), encode("seed=4")
    run.train_requests(1)
    for step in (1, 2, 50):
        assert plain(run.train_requests(step)) == plain(resumed.train_requests(step))
        assert plain(run.heldout_requests(step)) == plain(resumed.heldout_requests(step))
        assert plain(run.train_requests(step)) != plain(other.train_requests(step))
    assert {request.seeds for request in run.heldout_requests(0)}.isdisjoint(
        request.seeds for request in other.heldout_requests(0)
    )


def test_a_steps_requests_by_hand() -> None:
    first, *others = encode().train_requests(3)
    assert [str(request.key) for request in (first, *others)] == [f"step3-{slot}#0" for slot in range(4)]
    assert len(first.seeds) == 2
    assert first.sampling == SamplingSpec(max_tokens=48, temperature=0.9, ignore_eos=False)
    np.testing.assert_array_equal(first.prompt_token_ids, encode_prompt(TOKENIZER, first.prompt.messages))
    assert first.prompt_token_ids.dtype == np.int32


def test_a_refill_has_prompts_names_and_seeds_of_its_own() -> None:
    run, resumed = encode(train=20), encode(train=20)
    first, second = run.refill_requests(3, 1, 4), run.refill_requests(3, 2, 2)
    assert plain(second) == plain(resumed.refill_requests(3, 2, 4))[:2]  # without the first, and of more
    assert [str(request.key) for request in second] == ["step3-refill2-0#0", "step3-refill2-1#0"]
    requests = [*run.train_requests(3), *first, *second]
    assert len({request.prompt.id for request in requests}) == len(requests) == 10
    assert len({seed for request in requests for seed in request.seeds}) == 20
    assert first[0].sampling == run.train_requests(3)[0].sampling


def test_an_epoch_shows_every_prompt_once_and_the_next_in_another_order() -> None:
    run = encode(train=8)
    shown = [request.prompt.id for step in (1, 2, 3, 4) for request in run.train_requests(step)]
    assert sorted(shown[:8]) == sorted(shown[8:]) == sorted(prompt.id for prompt in prompts("train", 8))
    assert shown[:8] != shown[8:]


def test_held_out_prompts_are_the_same_at_every_step_and_sampled_anew() -> None:
    run = encode()
    before, after = run.heldout_requests(0), run.heldout_requests(10)
    assert [request.prompt for request in before] == [request.prompt for request in after] == prompts("heldout", 3)
    assert [str(request.key) for request in after] == [f"heldout10-{slot}#0" for slot in range(3)]
    assert before[0].sampling == SamplingSpec(max_tokens=48, temperature=0.5, ignore_eos=False)
    assert all(len(request.seeds) == 2 for request in before)


def test_no_two_rollouts_of_a_run_share_a_seed() -> None:
    run = encode("rollouts.ignore_eos=true", "rollouts.stop=['. ']")
    requests = [request for step in range(1, 9) for request in run.train_requests(step) + run.heldout_requests(step)]
    seeds = [seed for request in requests for seed in request.seeds]
    assert len(set(seeds)) == len(seeds) == 8 * (4 * 2 + 3 * 2)
    assert all(request.sampling.ignore_eos and request.sampling.stop == (". ",) for request in requests)


# --- what does not fit --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "heldout", "message"),
    [
        (3, 4, "3 training prompts are fewer than rollouts.prompts_per_step = 4; add prompts or lower it"),
        (4, 2, "2 held-out prompts are fewer than evaluation.num_prompts = 3; hold out more in your task, or lower "
         "evaluation.num_prompts"),
    ],
)  # fmt: skip
def test_too_few_prompts_are_the_users(train: int, heldout: int, message: str) -> None:
    with pytest.raises(UserError) as caught:
        encode(train=train, heldout=heldout)
    assert str(caught.value) == f"task: {message}"
    assert len(encode(train=4, heldout=3).train) == 4


@pytest.mark.parametrize("where", ["train", "heldout"])
def test_a_prompt_that_is_too_long_is_named_with_its_beginning(where: str) -> None:
    texts = {"train": prompts("train", 4), "heldout": prompts("heldout", 3)}
    long = make_prompt([{"role": "user", "content": "A very long text\nindeed. " + "zq" * 400}], {})
    texts[where][1] = long
    num_tokens = len(encode_prompt(TOKENIZER, long.messages))
    with pytest.raises(UserError) as caught:
        RunPrompts.encode(recipe(), FixedTask(**texts), TOKENIZER)
    message = str(caught.value)
    assert message.startswith(
        f"prompt {long.id} has {num_tokens} tokens, more than rollouts.max_prompt_tokens = 300; raise it or shorten"
    )
    assert "A very long text" in message
    assert "\n" not in message


def test_the_limit_is_inclusive_and_unused_held_out_prompts_may_be_longer() -> None:
    length = len(encode_prompt(TOKENIZER, prompts("heldout", 1)[0].messages))
    unused = make_prompt([{"role": "user", "content": "zq" * 400}], {})
    task = FixedTask(prompts("train", 4), [*prompts("heldout", 3), unused])
    assert len(RunPrompts.encode(recipe(f"rollouts.max_prompt_tokens={length}"), task, TOKENIZER).heldout) == 3
    with pytest.raises(UserError, match="max_prompt_tokens"):
        RunPrompts.encode(recipe(f"rollouts.max_prompt_tokens={length - 1}"), task, TOKENIZER)


def test_a_heldout_prompt_comes_once_and_a_training_prompt_as_often_as_it_likes() -> None:
    once, again = prompts("heldout", 2), prompts("heldout", 1)
    with pytest.raises(UserError, match=f"held-out prompt {again[0].id} comes twice"):
        RunPrompts.encode(recipe(), FixedTask(prompts("train", 10), [*once, *again]), TOKENIZER)
    RunPrompts.encode(recipe(), FixedTask(prompts("train", 5) * 2, [*prompts("heldout", 3), *again]), TOKENIZER)


@pytest.mark.parametrize(
    "other",
    [
        encode("evaluation.num_prompts=2"),
        encode("evaluation.rollouts_per_prompt=1"),
        RunPrompts.encode(recipe(), FixedTask(prompts("train", 10), prompts("new", 4)), TOKENIZER),
    ],
)
def test_the_heldout_prompts_of_a_resumed_run_are_those_that_the_starting_model_answered(other: RunPrompts) -> None:
    run = encode()
    start_answers = [
        make_group(f"v0-{slot}", [2] * len(request.seeds), prompt_id=request.prompt.id)
        for slot, request in enumerate(run.heldout_requests(0))
    ]
    run.check_answered(start_answers)
    run.check_answered(None)
    with pytest.raises(UserError, match="are not those that the run's starting model answered") as caught:
        other.check_answered(start_answers)
    assert "\n" not in str(caught.value)
