from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rl.batching import MicroBatch, build_micro_batches
from rl.types import TrainGroup
from tests.rl.learner_data import make_groups

SHAPES = st.lists(
    st.tuples(st.integers(1, 6), st.lists(st.integers(1, 9), min_size=1, max_size=4)), min_size=1, max_size=4
)


def plan(groups: list[TrainGroup], *, share: bool, budget: int, world_size: int) -> list[list[MicroBatch]]:
    return [
        build_micro_batches(groups, max_tokens=budget, share_prompt=share, rank=rank, world_size=world_size)
        for rank in range(world_size)
    ]


@settings(max_examples=60)
@given(shapes=SHAPES, share=st.booleans(), budget=st.integers(16, 40), world_size=st.integers(1, 3))
def test_every_rollout_runs_once_within_the_budget_and_ranks_run_in_step(
    shapes: list[tuple[int, list[int]]], share: bool, budget: int, world_size: int
) -> None:
    groups = make_groups(shapes, vocab_size=50, masked=True)
    ranks = plan(groups, share=share, budget=budget, world_size=world_size)
    assert len({len(batches) for batches in ranks}) == 1
    real = [batch for batches in ranks for batch in batches if not batch.is_filler]
    ids = [number for batch in real for number in batch.rollout_ids_B]
    assert sorted(ids) == list(range(sum(len(lengths) for _, lengths in shapes)))
    assert all(batch.num_tokens <= budget for batch in real)  # no rollout here is longer than the budget


@settings(max_examples=40)
@given(shapes=SHAPES, share=st.booleans(), budget=st.integers(16, 40))
def test_rows_hold_what_the_rollouts_hold(shapes: list[tuple[int, list[int]]], share: bool, budget: int) -> None:
    groups = make_groups(shapes, vocab_size=50, masked=True)
    rollouts = [(group, rollout) for group in groups for rollout in group.rollouts]
    for batch in build_micro_batches(groups, max_tokens=budget, share_prompt=share):
        flat_ids, flat_positions = batch.input_ids_RL.flatten(), batch.position_ids_RL.flatten()
        # A token stands at a place whose predicting place holds the token before it.
        predicted = torch.zeros(batch.mask_BT.numel(), dtype=torch.long)
        predicted[batch.slots_N] = batch.labels_N
        predicting = torch.full((batch.mask_BT.numel(),), -1)
        predicting[batch.slots_N] = batch.predict_N
        for b, number in enumerate(batch.rollout_ids_B):
            group, rollout = rollouts[number]
            assert batch.group_ids_B[b] == group.group_index
            sequence = np.concatenate([group.prompt_token_ids, rollout.token_ids])
            for t, (token, learned) in enumerate(zip(rollout.token_ids, rollout.loss_mask, strict=True)):
                slot = b * batch.mask_BT.shape[1] + t
                assert bool(batch.mask_BT[b, t]) == bool(learned)
                if learned:
                    place = len(group.prompt_token_ids) - 1 + t
                    assert predicted[slot] == token
                    assert flat_ids[predicting[slot]] == sequence[place]
                    assert flat_positions[predicting[slot]] == place
            length = len(rollout.token_ids)
            np.testing.assert_array_equal(batch.advantages_BT[b, :length], rollout.advantages)
            np.testing.assert_array_equal(batch.rollout_logprobs_BT[b, :length], rollout.rollout_logprobs)
            np.testing.assert_array_equal(batch.segment_ids_BT[b, :length], rollout.segment_ids)
            assert not batch.mask_BT[b, length:].any()
            assert (batch.segment_ids_BT[b, length:] == -1).all()


def test_a_shared_prompt_is_one_row_with_the_prompt_once() -> None:
    groups = make_groups([(3, [2, 1])], vocab_size=50)
    (batch,) = build_micro_batches(groups, max_tokens=100, share_prompt=True)
    assert batch.input_ids_RL.shape == (1, 6)
    assert batch.position_ids_RL.tolist() == [[0, 1, 2, 3, 4, 3]]
    assert batch.predict_N.tolist() == [2, 3, 2]
    assert batch.slots_N.tolist() == [0, 1, 2]


def test_rows_of_their_own_are_sorted_by_length_and_padded() -> None:
    groups = make_groups([(3, [1, 2])], vocab_size=50)
    (batch,) = build_micro_batches(groups, max_tokens=100, share_prompt=False)
    assert batch.attention_mask_RL is not None
    assert batch.attention_mask_RL.tolist() == [[True] * 5, [True] * 4 + [False]]
    assert batch.rollout_ids_B == (1, 0)
    assert batch.predict_N.tolist() == [2, 3, 7]


def test_a_group_over_the_budget_is_split_and_repeats_its_prompt() -> None:
    groups = make_groups([(4, [5, 5, 5, 5])], vocab_size=50)
    batches = build_micro_batches(groups, max_tokens=16, share_prompt=True)
    assert [batch.num_tokens for batch in batches] == [14, 14]


def test_a_rollout_over_the_budget_runs_alone() -> None:
    groups = make_groups([(4, [40, 2, 2])], vocab_size=50)
    for share in (True, False):
        batches = build_micro_batches(groups, max_tokens=16, share_prompt=share)
        assert batches[0].rollout_ids_B == (0,)
        assert len(batches) == 2


def test_ranks_are_balanced_and_one_group_is_shared_out() -> None:
    ranks = plan(make_groups([(2, [10] * 8)], vocab_size=50), share=True, budget=1000, world_size=2)
    tokens = [sum(batch.num_tokens for batch in batches if not batch.is_filler) for batches in ranks]
    assert max(tokens) - min(tokens) <= 32


def test_a_rank_without_rollouts_runs_fillers() -> None:
    ranks = plan(make_groups([(2, [3])], vocab_size=50), share=True, budget=100, world_size=3)
    assert [batch.is_filler for batches in ranks for batch in batches] == [False, True, True]


def test_only_some_rollouts() -> None:
    groups = make_groups([(2, [3, 4]), (2, [5])], vocab_size=50)
    batches = build_micro_batches(groups, max_tokens=100, share_prompt=True, only=frozenset({1}))
    assert [batch.rollout_ids_B for batch in batches] == [(1,)]


def test_nothing_to_run_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        build_micro_batches([], max_tokens=100, share_prompt=True)
    with pytest.raises(ValueError, match="no tokens"):
        build_micro_batches(make_groups([(2, [0])], vocab_size=50), max_tokens=100, share_prompt=True)
