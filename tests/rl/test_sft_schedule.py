from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import UserError
from rl.sft_config import SFTConfig
from rl.sft_rows import SFTRow
from rl.sft_schedule import num_sft_steps, rows_of_step, split_rows


def make_rows(texts: list[str]) -> list[SFTRow]:
    return [SFTRow(({"role": "user", "content": text},), f"file:{n}") for n, text in enumerate(texts)]


def make_config(**keys: object) -> SFTConfig:
    return SFTConfig.model_validate({"data": "x", **keys})


@given(
    num_rows=st.integers(1, 30), per_step=st.integers(1, 40), epochs=st.integers(1, 3), seed=st.integers(0, 2**31 - 1)
)
def test_epochs_take_every_row_equally_often(num_rows: int, per_step: int, epochs: int, seed: int) -> None:
    config = make_config(rows_per_step=per_step, num_epochs=epochs)
    num_steps = num_sft_steps(config, num_rows)
    steps = [rows_of_step(config, num_rows, seed=seed, step=step) for step in range(1, num_steps + 1)]
    assert Counter(int(row) for rows in steps for row in rows) == dict.fromkeys(range(num_rows), epochs)
    assert all(len(rows) == per_step for rows in steps[:-1])
    assert len(steps[-1]) > 0


def test_steps_by_hand() -> None:
    assert num_sft_steps(make_config(rows_per_step=4), 9) == 3
    assert num_sft_steps(make_config(rows_per_step=4, num_epochs=2), 9) == 5
    assert num_sft_steps(make_config(rows_per_step=4, num_steps=7), 9) == 7
    seven = make_config(rows_per_step=4, num_steps=7)
    assert [len(rows_of_step(seven, 9, seed=0, step=step)) for step in (1, 7)] == [4, 4]
    orders = [tuple(rows_of_step(make_config(rows_per_step=9), 9, seed=seed, step=1)) for seed in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]


@given(st.lists(st.sampled_from("abcdefgh"), min_size=2, max_size=20), st.integers(0, 99))
def test_equal_rows_stay_on_one_side(texts: list[str], seed: int) -> None:
    if len(set(texts)) == 1:
        with pytest.raises(UserError, match=r"sft\.heldout_share"):
            split_rows(make_rows(texts), share=0.3, seed=seed)
        return
    rows = make_rows(texts)
    train, heldout = split_rows(rows, share=0.3, seed=seed)
    assert sorted([*train, *heldout], key=rows.index) == rows
    assert train
    assert heldout
    sides = [{row.messages[0]["content"] for row in side} for side in (train, heldout)]
    assert not sides[0] & sides[1]
    assert len(sides[1]) == max(1, round(0.3 * len(set(texts))))


def test_no_share_holds_nothing_out_and_the_seed_draws() -> None:
    rows = make_rows([str(n) for n in range(40)])
    assert split_rows(rows, share=0.0, seed=0) == (rows, [])
    assert split_rows(rows, share=0.2, seed=0) == split_rows(rows, share=0.2, seed=0)
    assert split_rows(rows, share=0.2, seed=0)[1] != split_rows(rows, share=0.2, seed=1)[1]
    # A row more moves few of the others.
    more = split_rows([*rows, *make_rows(["new"])], share=0.2, seed=0)[1]
    assert len(set(map(id, more)) & set(map(id, split_rows(rows, share=0.2, seed=0)[1]))) >= 7
