"""Advantages per segment, laid over tokens: by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import RunStopped
from rewards.scorer_config import ItemRankScorer
from rewards.scorers import build_scorer
from rewards.types import Candidate, GroupKey, GroupScore, ParsedAnswer, Prompt, Scored, Segment
from rl.objectives import Objective
from rl.segments import with_later
from rl.train_batch import TrainBatch, build_train_batch
from rollouts.segments import token_segments, token_starts
from rollouts.tasks.slate_answer import parse_answer
from rollouts.types import Group
from tests.rl.fakes import make_group, make_rollout
from tests.rl.learner_data import make_objective

F_GRPO = replace(make_objective(), kind="f_grpo", advantage="mean", uses_segments=True, segment_weights=(1.0, 0.5))

Layout = Sequence[tuple[str, int]] | None
"""A rollout's segments in order, each with its tokens; None = given up. "" = tokens of no segment."""

BOTH: Layout = [("slate", 3), ("rank", 2)]
MALFORMED: Layout = [("slate", 4)]


def group(*layouts: Layout, name: str = "g") -> Group:
    lengths = [None if layout is None else sum(size for _, size in layout) for layout in layouts]
    plain = make_group(name, lengths)
    rollouts = [
        rollout if rollout is None else replace(rollout, parsed=ParsedAnswer(segments=segments_of(layout or ())))
        for rollout, layout in zip(plain.rollouts, layouts, strict=True)
    ]
    return replace(plain, rollouts=tuple(rollouts))


def segments_of(layout: Sequence[tuple[str, int]]) -> tuple[Segment, ...]:
    found, start = [], 0
    for name, size in layout:
        if name:
            found.append(Segment(("slate", "rank", "item3").index(name), name, start, start + size))
        start += size
    return tuple(found)


def scored(rewards: list[float | None], **segments: list[float | None]) -> GroupScore:
    return GroupScore(rewards=rewards, segment_rewards=segments)


def build(
    groups: Sequence[Group], scores: Sequence[GroupScore], objective: Objective = F_GRPO, min_group: int = 2
) -> TrainBatch:
    return build_train_batch(groups, scores, objective=objective, min_group=min_group)


def tokens(batch: TrainBatch) -> list[tuple[list[float], list[int]]]:
    return [
        (rollout.advantages.tolist(), rollout.segment_ids.tolist()) for one in batch.groups for rollout in one.rollouts
    ]


def test_each_segment_learns_from_its_own_reward() -> None:
    batch = build([group(BOTH, BOTH)], [scored([0.0, 0.0], slate=[1.0, 0.5], rank=[0.0, 1.0])])
    assert tokens(batch) == [
        ([0.25] * 3 + [-0.5] * 2, [0] * 3 + [1] * 2),
        ([-0.25] * 3 + [0.5] * 2, [0] * 3 + [1] * 2),
    ]
    assert batch.metrics["segment/slate_reward"] == 0.75
    assert batch.metrics["segment/rank_advantage_std"] == 0.5
    assert batch.metrics["segment/slate_tokens"] == 3.0
    assert batch.metrics["segment/rank_zero_signal_rate"] == 0.0


def test_a_malformed_answer_pays_with_all_its_tokens_and_raises_no_ranking() -> None:
    """Slate rewards 1, 0.4, -0.2: mean 0.4. Rank rewards 1 and 0.5 alone: mean 0.75."""
    batch = build(
        [group(BOTH, BOTH, MALFORMED)], [scored([2, 0.9, -0.2], slate=[1.0, 0.4, -0.2], rank=[1.0, 0.5, None])]
    )
    advantages = [row for row, _ in tokens(batch)]
    np.testing.assert_allclose(advantages[0], [0.6] * 3 + [0.25] * 2, rtol=1e-6)
    np.testing.assert_allclose(advantages[1], [0.0] * 3 + [-0.25] * 2, atol=1e-7)
    np.testing.assert_allclose(advantages[2], [-0.6] * 4, rtol=1e-6)
    assert tokens(batch)[2][1] == [0] * 4


def test_tokens_of_no_segment_and_of_an_unscored_one_teach_nothing() -> None:
    layout: Layout = [("", 1), ("slate", 1), ("rank", 1)]
    batch = build([group(layout, layout)], [scored([0.0, 1.0], slate=[0.0, 1.0], rank=[None, 1.0])])
    assert tokens(batch) == [([0.0, -0.5, 0.0], [-1, 0, -1]), ([0.0, 0.5, 0.0], [-1, 0, -1])]


def test_reward_to_go_lets_the_slate_see_the_rank_in_its_own_units() -> None:
    """A_slate = +-0.25, A_rank = -+0.5, weights 1 and 0.5: the slate's become 0.25 - 0.5 x 0.5 = 0."""
    scores = [scored([0.0, 0.0], slate=[1.0, 0.5], rank=[0.0, 1.0])]
    seeing = build([group(BOTH, BOTH)], scores, replace(F_GRPO, slate_sees_rank=1.0))
    assert tokens(seeing)[0][0] == [0.0] * 3 + [-0.5] * 2
    assert seeing.metrics["segment/slate_advantage_std"] == 0.25  # its own, whatever it sees
    half = build([group(BOTH, BOTH)], scores, replace(F_GRPO, slate_sees_rank=0.5))
    assert tokens(half)[0][0] == [0.125] * 3 + [-0.5] * 2


@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4), st.lists(st.floats(0.25, 2), min_size=4, max_size=4))
def test_reward_to_go_is_the_weighted_sum_of_what_follows(own: list[float], weights: list[float]) -> None:
    advantages = with_later(np.array([[own]]), np.array(weights), 1.0, np.ones((1, 1, 4), dtype=bool))[0, 0]
    for s in range(4):
        to_go = sum(weights[r] * own[r] for r in range(s, 4))
        assert weights[s] * advantages[s] == pytest.approx(to_go, abs=1e-9)


def test_a_segment_without_weight_stays_as_it_is() -> None:
    advantages = with_later(np.array([[[0.5, 1.0]]]), np.array([0.0, 1.0]), 1.0, np.ones((1, 1, 2), dtype=bool))
    assert advantages.tolist() == [[[0.5, 1.0]]]


def test_an_objective_without_segments_learns_from_the_whole_and_logs_the_parts() -> None:
    objective = replace(make_objective(), advantage="mean")
    scores = [scored([2.0, 1.0, 0.0], slate=[1.0, 1.0, 0.0], rank=[1.0, 0.0, None])]
    batch = build([group(BOTH, BOTH, MALFORMED)], scores, objective)
    assert tokens(batch) == [([1.0] * 5, [-1] * 5), ([0.0] * 5, [-1] * 5), ([-1.0] * 4, [-1] * 4)]
    assert batch.metrics["segment/slate_reward"] == pytest.approx(2 / 3)
    assert batch.metrics["segment/rank_advantage_std"] == 0.5


def test_groups_that_are_dropped_and_rollouts_without_a_scored_segment_are_left_out() -> None:
    groups = [group(BOTH, None, name="g0"), group(BOTH, BOTH, [("", 2)], name="g1")]
    scores = [
        scored([1.0, None], slate=[1.0, None], rank=[1.0, None]),
        scored([1.0, 0.0, 0.5], slate=[1.0, 0.0, None], rank=[0.0, 0.0, None]),
    ]
    batch = build(groups, scores)
    assert [(one.group_index, len(one.rollouts)) for one in batch.groups] == [(1, 2)]
    assert batch.metrics["segment/rank_zero_signal_rate"] == 1.0
    assert batch.metrics["reward/num_groups_zero_signal"] == 0.0
    assert batch.metrics["reward/num_groups_dropped"] == 1.0


def test_a_segment_that_too_few_have_is_unscored_in_that_group() -> None:
    scores = [scored([1.0, 0.0, 0.0], slate=[1.0, 0.5, 0.0], rank=[1.0, 0.0, None])]
    batch = build([group(BOTH, BOTH, MALFORMED)], scores, min_group=3)
    assert tokens(batch)[0] == ([0.5] * 3 + [0.0] * 2, [0] * 3 + [-1] * 2)


def test_baselines_are_those_of_the_group() -> None:
    score = replace(scored([0.0] * 4, slate=[1.0, 0.0, 5.0, 3.0], rank=[0.0] * 4), baseline_ids=[0, 0, 1, 1])
    advantages = [row[0] for row, _ in tokens(build([group(BOTH, BOTH, BOTH, BOTH)], [score]))]
    assert advantages == [0.5, -0.5, 1.0, -1.0]


@pytest.mark.parametrize("segments", [{}, {"other": [1.0, 0.0]}])
@pytest.mark.parametrize("layout", [[("", 2)], BOTH])
def test_rewards_that_name_no_segment_stop_a_run_that_learns_from_them(
    segments: Mapping[str, list[float | None]], layout: Layout
) -> None:
    with pytest.raises(RunStopped, match="f_grpo learns from segments"):
        build([group(layout, layout)], [GroupScore(rewards=[1.0, 0.0], segment_rewards=segments)])


def test_a_segment_that_no_reward_names_is_left_alone() -> None:
    layout: Layout = [("slate", 1), ("rank", 1), ("item3", 1)]
    batch = build([group(layout, layout)], [scored([0.0, 0.0], rank=[0.0, 1.0])])
    assert tokens(batch)[1] == ([0.0, 0.5, 0.0], [-1, 1, -1])
    assert not [key for key in batch.metrics if key.startswith(("segment/slate", "segment/item3", "segment/_"))]


def test_a_step_in_which_nobody_is_scored_is_no_fault() -> None:
    assert build([make_group("g", [2, None])], [GroupScore(rewards=[None, None])]).groups == ()


def test_one_id_with_two_names_is_a_bug() -> None:
    rollouts = group(BOTH, BOTH).rollouts
    other = rollouts[1]
    assert other is not None
    twisted = replace(other, parsed=ParsedAnswer(segments=(Segment(0, "rank", 0, 5),)))
    mixed = replace(group(BOTH, BOTH), rollouts=(rollouts[0], twisted))
    with pytest.raises(ValueError, match="segment 0 is 'slate' and 'rank'"):
        build([mixed], [scored([1.0, 0.0], slate=[1.0, 0.0], rank=[1.0, 0.0])])


def test_figures_are_means_over_those_that_have_them() -> None:
    scores = [GroupScore(rewards=[1.0, 0.0], figures={"recall@5": [1.0, 0.0], "rank_items": [5.0, None]})]
    metrics = build([make_group("g", [1, 1])], scores, make_objective()).metrics
    assert (metrics["figure/recall@5"], metrics["figure/rank_items"]) == (0.5, 5.0)


def test_items_are_segments_like_any_other() -> None:
    """Two rankings of three items, relevance at places 1 and 3 against place 2 (Rank-GRPO's `log` rewards).

    Suffix gains 1 + 1/2, 1/2, 1/2 and 1/log2(3), 1/log2(3), 0; a shorter ranking has no third place to be blamed for.
    """
    text = "<SLATE>a b c</SLATE><RANK>{}</RANK>"
    prompt = Prompt("p", "choose", fields={"relevant": '{"a": 1, "c": 1}', "items": "[]"})
    scorer = build_scorer(ItemRankScorer(kind="item_rank"))
    rankings = ["a b c", "b a", "a c"]
    scores: list[Scored] = []
    rollouts = []
    for index, ranking in enumerate(rankings):
        answer = text.format(ranking)
        parsed = parse_answer(answer, {"a", "b", "c"}, max_slate=3, max_rank=3, segments="items")
        scores.append(scorer(prompt, Candidate("r", answer, parsed=parsed)))
        segments = token_segments(parsed.spans, token_starts(list(answer)), len(answer))  # a token per character
        rollout = make_rollout(GroupKey("g"), index, len(answer))
        rollouts.append(replace(rollout, parsed=replace(parsed, segments=segments)))
    names = ("item1", "item2", "item3")
    score = scored(
        [one.reward for one in scores], **{name: [one.segments.get(name) for one in scores] for name in names}
    )
    batch = build([replace(make_group("g", [1, 1, 1]), rollouts=tuple(rollouts))], [score])
    third = 1 / math.log2(3)
    firsts = np.array([1.5, third, 1 + third])
    seconds = np.array([0.5, third, third])
    for rollout, first, second in zip(
        batch.groups[0].rollouts, firsts - firsts.mean(), seconds - seconds.mean(), strict=True
    ):
        for segment, expected in enumerate((first, second)):
            found = rollout.advantages[rollout.segment_ids == segment]
            np.testing.assert_allclose(found, np.full(len(found), expected), rtol=1e-6)
            assert len(found) > 0
    assert set(batch.groups[0].rollouts[0].segment_ids.tolist()) == {-1, 0, 1}  # its third place has nobody to compare
