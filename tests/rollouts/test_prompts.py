from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import UserError
from rewards.types import Prompt
from rollouts.prompts import make_prompt, prompt_id, prompt_order, refill_order, split_prompts


def prompts(texts: list[str], **fields: str) -> list[Prompt]:
    return [make_prompt([{"role": "user", "content": text}], {"text": text, **fields}) for text in texts]


def texts(chosen: list[Prompt]) -> list[str]:
    return [prompt.text for prompt in chosen]


def test_prompt_text_is_what_the_user_asks() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    prompt = make_prompt(messages, {"text": "Hi"})
    assert (prompt.text, prompt.messages, prompt.fields) == ("Hi", tuple(messages), {"text": "Hi"})


def test_id_depends_on_the_messages_alone_and_is_pinned() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    assert prompt_id(messages) == "d7760b4ba3077c46"
    assert prompts(["Hi"])[0].id == prompts(["Hi"], extra="1")[0].id == prompt_id(messages)
    assert prompt_id([{"role": "system", "content": "Hi"}]) != prompt_id(messages)
    assert prompt_id([*messages, *messages]) != prompt_id(messages)


@given(
    given_texts=st.lists(st.sampled_from("abcdefghijkl"), min_size=2, max_size=30),
    heldout=st.integers(0, 12),
    seed=st.integers(0, 5),
)
def test_split_is_a_partition_without_twins(given_texts: list[str], heldout: int, seed: int) -> None:
    unique = list(dict.fromkeys(given_texts))
    if heldout >= len(unique):
        with pytest.raises(UserError, match=f"has {len(unique)} different prompts"):
            split_prompts(prompts(given_texts), heldout=heldout, seed=seed)
        return
    train, held = split_prompts(prompts(given_texts), heldout=heldout, seed=seed)
    assert len(held) == heldout
    assert sorted(texts(train) + texts(held)) == sorted(unique)
    assert texts(train) == [text for text in unique if text not in texts(held)]


@given(order=st.permutations(list("abcdefghij")), seed=st.integers(0, 3))
def test_held_out_do_not_depend_on_row_order_or_unshown_fields(order: list[str], seed: int) -> None:
    expected = split_prompts(prompts(list("abcdefghij")), heldout=4, seed=seed)[1]
    assert texts(split_prompts(prompts(order, extra="x"), heldout=4, seed=seed)[1]) == texts(expected)


def test_one_more_row_moves_at_most_one_held_out_prompt() -> None:
    words = [f"prompt {number}" for number in range(200)]
    before = set(texts(split_prompts(prompts(words), heldout=50, seed=1)[1]))
    after = set(texts(split_prompts(prompts([*words, "new"]), heldout=50, seed=1)[1]))
    assert len(before - after) <= 1


def test_another_seed_holds_out_others() -> None:
    words = [f"prompt {number}" for number in range(200)]
    drawn = [set(texts(split_prompts(prompts(words), heldout=50, seed=seed)[1])) for seed in range(2)]
    assert len(drawn[0] & drawn[1]) < 30


@given(num_prompts=st.integers(1, 20), per_step=st.integers(1, 50), seed=st.integers(0, 2**31 - 1))
def test_every_epoch_is_a_permutation(num_prompts: int, per_step: int, seed: int) -> None:
    num_steps = -(-3 * num_prompts // per_step)
    walk = np.concatenate([prompt_order(num_prompts, seed, step, per_step) for step in range(num_steps)])
    assert walk.dtype == np.int32
    assert len(walk) == num_steps * per_step
    for epoch in range(3):
        assert sorted(walk[epoch * num_prompts : (epoch + 1) * num_prompts]) == list(range(num_prompts))


def test_order_is_shuffled_anew_each_epoch_and_by_seed() -> None:
    epochs = [prompt_order(100, 0, step, 100).tolist() for step in range(3)] + [prompt_order(100, 1, 0, 100).tolist()]
    assert len({tuple(epoch) for epoch in [*epochs, range(100)]}) == 5


def test_order_without_prompts_is_a_bug() -> None:
    with pytest.raises(ValueError, match="num_prompts=0"):
        prompt_order(0, 0, 0, 4)


@given(
    num_prompts=st.integers(1, 20),
    per_step=st.integers(1, 6),
    step=st.integers(0, 5),
    counts=st.lists(st.integers(0, 6)),
)
def test_refills_show_other_prompts_first_and_how_many_moves_none(
    num_prompts: int, per_step: int, step: int, counts: list[int]
) -> None:
    own = set(prompt_order(num_prompts, 3, step, per_step).tolist())
    full = [refill_order(num_prompts, 3, step, per_step, refill=r, num=per_step) for r in range(1, len(counts) + 1)]
    walk = np.concatenate(full).tolist() if full else []
    assert len(set(walk[:num_prompts])) == min(len(walk), num_prompts)  # nobody twice before everybody once
    assert own.isdisjoint(walk[: num_prompts - len(own)])
    for refill, (count, whole) in enumerate(zip(counts, full, strict=True), start=1):
        num = min(count, per_step)
        assert refill_order(num_prompts, 3, step, per_step, refill=refill, num=num).tolist() == whole[:num].tolist()


def test_refills_are_shuffled_by_seed_and_step() -> None:
    orders = [refill_order(99, seed, step, 33, refill=1, num=33).tolist() for seed, step in ((0, 0), (0, 1), (1, 0))]
    assert len({tuple(order) for order in orders}) == 3
    with pytest.raises(ValueError, match="refill 0"):
        refill_order(9, 0, 0, 3, refill=0, num=1)
