"""Warm start, F-GRPO, LoRA, stale rollouts and refills in one run, as a user would combine them on a tiny model.

One engine starts, for the RL run; `podium sft` needs none.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from launch.objective import recipe_objective
from launch.run_dir import RunDir
from launch.slate_toy import write_start
from recipes.load import load_recipe
from rewards.types import GroupScore
from rl.train_batch import build_train_batch
from rollouts.config import SlateRankTask
from rollouts.types import Group
from tests.e2e.whole_runs import only_run, settings, start

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RECIPE = Path(__file__).parent / "data" / "slate.yaml"
NUM_STEPS, PROMPTS_PER_STEP = 3, 4


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A tiny model after a few dozen updates on written answers: it keeps to the format more often than not."""
    folder = tmp_path_factory.mktemp("slate")
    task = load_recipe(RECIPE).recipe.task
    assert isinstance(task, SlateRankTask)
    write_start(task, folder, num_answers=1920, seed=0)
    start(["sft", str(RECIPE), *settings(folder / "model", folder / "runs", f"sft.data={folder / 'answers.jsonl'}")])
    return only_run(folder / "runs")


@pytest.fixture(scope="module")
def run(taught: RunDir, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    storage = tmp_path_factory.mktemp("runs")
    model = Path(taught.recipe()["model"]["path"])
    start(["train", str(RECIPE), *settings(model, storage, f"rl.init_from={taught.path}", "sft=null")])
    return only_run(storage)


def teaches(score: GroupScore) -> bool:
    """Whether some of a group's rewards differ."""
    columns = [score.rewards, *score.segment_rewards.values()]
    return any(len({reward for reward in column if reward is not None}) > 1 for column in columns)


def learned(run: RunDir, step: int) -> tuple[list[Group], list[GroupScore]]:
    groups, scores = run.load_groups(step)
    kept = [(group, score) for group, score in zip(groups, scores, strict=True) if teaches(score)]
    return [group for group, _ in kept], [score for _, score in kept]


def test_rl_begins_where_the_warm_start_ended(run: RunDir, taught: RunDir) -> None:
    first, second, third = run.metrics()
    start_dir = taught.checkpoint_path(taught.checkpoints()[-1]) / "hf"
    assert run.recipe()["rl"]["init_from"] == str(start_dir)
    assert first["rl/kl"] == pytest.approx(0.0, abs=1e-9)  # the reference is the base without adapters
    assert third["rl/kl"] > second["rl/kl"] > 1e-9
    # The engines got the adapters merged: a probe after each sync agrees with the learner.
    assert all(row["sync/logprob_gap"] < 1e-4 for row in (first, second, third))


def test_the_next_step_is_sampled_by_the_weights_before(run: RunDir) -> None:
    for step, row in enumerate(run.metrics(), start=1):
        groups, scores = run.load_groups(step)
        versions = {span.version for group in groups for r in group.rollouts if r is not None for span in r.versions}
        assert versions == {max(0, step - 2)}
        assert row["stale/mean_versions"] == (step > 1)
        num_missing = [teaches(score) for score in scores[:PROMPTS_PER_STEP]].count(False)
        wanted = [f"step{step}-{slot}" for slot in range(PROMPTS_PER_STEP)]
        refills = [f"step{step}-refill1-{slot}" for slot in range(num_missing)]
        assert [group.key.group_id for group in groups] == wanted + refills
        num_kept = [teaches(score) for score in scores].count(True)
        counts = [row[f"reward/num_groups_{what}"] for what in ("kept", "refilled", "given_up")]
        assert counts == [num_kept, len(refills), PROMPTS_PER_STEP - num_kept]


def test_both_segments_teach_and_are_told_apart(run: RunDir) -> None:
    rows = run.metrics()
    assert [row["rl/skipped"] for row in rows] == [0.0] * NUM_STEPS
    for row in rows:
        assert row["segment/slate_advantage_std"] > 0
        assert row["segment/rank_advantage_std"] > 0
        assert 0 < row["figure/well_formed"] <= 1
        assert row["rl/segment_1_ratio"] == pytest.approx(1.0)


def test_the_tokens_of_a_segment_are_its_text(run: RunDir) -> None:
    tokenizer = AutoTokenizer.from_pretrained(run.recipe()["model"]["path"])
    groups, scores = run.load_groups(2)
    num_well_formed = 0
    for group, score in zip(groups, scores, strict=True):
        for slot, rollout in enumerate(group.rollouts):
            assert rollout is not None
            texts = {
                one.name: tokenizer.decode(rollout.token_ids[one.start : one.end].tolist(), skip_special_tokens=True)
                for one in rollout.parsed.segments
            }
            if rollout.parsed.malformed is not None:
                assert texts == {"slate": rollout.text}
                assert (score.segment_rewards["slate"][slot], score.rewards[slot]) == (-0.2, -0.2)
                continue
            num_well_formed += 1
            assert texts["slate"].endswith("</SLATE>")
            assert texts["slate"] + texts["rank"] == rollout.text
            assert rollout.parsed.segments[-1].end == rollout.num_tokens  # the end of the turn goes with the rank
    assert num_well_formed > 0


def test_groups_on_disk_give_the_same_batch_again(run: RunDir) -> None:
    """What a resumed run learns from, twice: equal to the last bit."""
    objective = recipe_objective(load_recipe(RECIPE).recipe)
    first, second = (build_train_batch(*learned(run, 1), objective=objective, min_group=2) for _ in range(2))
    assert first.metrics == second.metrics
    assert first.metrics["segment/slate_reward"] == run.metrics()[0]["segment/slate_reward"]
    ids = np.concatenate([rollout.segment_ids for group in first.groups for rollout in group.rollouts])
    assert set(ids.tolist()) == {0, 1}


def test_heldout_figures_stand_in_the_summary(run: RunDir) -> None:
    summary = run.summary()
    assert summary is not None
    figures = summary["heldout"]["figures"]
    assert {"reward", "recall@2", "ndcg@2", "slate_miss", "rank_drop", "well_formed"} <= set(figures)
    assert run.metrics()[-1]["heldout/recall@2"] == figures["recall@2"]["after"]
