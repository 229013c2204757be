"""The task of `tests/bench/learning_curve.py`: its exact numbers, and that every method can learn it at all."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rewards.types import GroupScore
from tests.bench.learning_task import (
    GROUP_SIZE,
    METHODS,
    NUM_PROMPTS,
    NUM_TOKENS,
    SPREAD,
    Method,
    Policy,
    _pick,
    _sample,
    advantages_of,
    drift,
    learn,
    make_task,
    true_score,
)


def test_the_start_scores_nothing_has_not_drifted_and_spreads_as_said() -> None:
    task, policy = make_task(3, level_share=0.25), Policy("adamw", 0.1)
    assert (true_score(policy, task), drift(policy, task)) == (
        pytest.approx(0.0, abs=1e-6),
        pytest.approx(0.0, abs=1e-5),
    )
    assert int(task.is_level_P.sum()) == NUM_PROMPTS // 4
    decided_PLV = task.weights_PLV[~task.is_level_P]
    assert torch.allclose(decided_PLV.var(dim=2, correction=0).sum(dim=1).sqrt(), torch.tensor(SPREAD), rtol=1e-5)


def test_exact_numbers_are_those_of_many_answers() -> None:
    task, policy = make_task(3, level_share=0.0), Policy("adamw", 0.1)
    with torch.no_grad():
        policy.weights_DLV.add_(torch.randn(policy.weights_DLV.shape, generator=torch.Generator().manual_seed(0)))
        logprobs_PLV = policy.logprobs(task.features_PD)
        generator = torch.Generator().manual_seed(1)
        batches = [_sample(logprobs_PLV, generator) for _ in range(100)]
        scores = torch.stack([_pick(task.weights_PLV, tokens).sum(dim=2) for tokens in batches])
        ratios = torch.stack([(_pick(logprobs_PLV, tokens) + np.log(NUM_TOKENS)).sum(dim=2) for tokens in batches])
    best_P = task.weights_PLV.amax(dim=2).sum(dim=1)
    assert float((scores.mean(dim=(0, 2)) / best_P).mean()) == pytest.approx(true_score(policy, task), abs=0.01)
    assert float(ratios.mean()) == pytest.approx(drift(policy, task), abs=0.04)
    assert batches[0].shape == (NUM_PROMPTS, GROUP_SIZE, task.weights_PLV.shape[1])


def test_every_method_pays_the_same_number_of_calls() -> None:
    assert {method.calls_per_group * method.groups_per_step for method in METHODS} == {224}


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_every_method_learns_where_there_is_something_to_learn(method: Method) -> None:
    scores, moved = learn(method, make_task(0, level_share=0.0), lr=0.4, optimizer="adamw", num_steps=3, seed=0)
    assert len(scores) == 4
    assert scores[-1] > 0.1
    assert moved > 0.1
    again = learn(method, make_task(0, level_share=0.0), lr=0.4, optimizer="adamw", num_steps=1, seed=0)
    assert again[0] == scores[:2]


def test_unreliable_groups_are_set_aside() -> None:
    aside = next(method for method in METHODS if method.aside is not None)
    scores = [GroupScore(rewards=[0.1, 0.9], reliability=reliability) for reliability in (0.19, 0.2)]
    assert advantages_of(aside, scores).any(axis=1).tolist() == [False, True]
