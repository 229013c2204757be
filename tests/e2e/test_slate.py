"""F-GRPO as a user runs it, on a tiny model that was shown the format: segments from vLLM's tokens to the learner's."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from launch.objective import recipe_objective
from launch.run_dir import RunDir
from launch.slate_toy import write_start
from recipes.load import load_recipe
from rl.train_batch import build_train_batch
from rollouts.config import SlateRankTask
from tests.e2e.whole_runs import environment, our_processes, podium, settings, wait_until_gone

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RECIPE = Path(__file__).parent / "data" / "slate.yaml"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model after a few dozen written answers a step: it keeps to the format more often than not."""
    folder = tmp_path_factory.mktemp("slate")
    task = load_recipe(RECIPE).recipe.task
    assert isinstance(task, SlateRankTask)
    write_start(task, folder, num_answers=1920, seed=0)
    teach(folder / "model", folder / "answers.jsonl", rows_per_step=24)
    return folder / "model"


def teach(model_dir: Path, answers: Path, *, rows_per_step: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model_dir)
    model = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    for start in range(0, len(rows), rows_per_step):
        ids, labels = [], []
        for row in rows[start : start + rows_per_step]:
            prompt = tokenizer.apply_chat_template(
                [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False
            )
            before = tokenizer.encode(prompt)
            answer = [*tokenizer.encode(row["completion"]), tokenizer.eos_token_id]
            ids.append(torch.tensor(before + answer))
            labels.append(torch.tensor([-100] * len(before) + answer))
        loss = model(
            input_ids=torch.nn.utils.rnn.pad_sequence(ids, batch_first=True),
            labels=torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100),
        ).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(model_dir)


@pytest.fixture(scope="module")
def run(model: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    storage = tmp_path_factory.mktemp("runs")
    done = subprocess.run(
        podium("train", str(RECIPE), *settings(model, storage)),
        env=environment() | {"PODIUM_TEST_MARK": "slate"},
        cwd=storage,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
    assert wait_until_gone("slate") == [], our_processes("slate")
    (path,) = storage.iterdir()
    return RunDir.open(path)


def test_both_segments_teach_and_are_told_apart(run: RunDir) -> None:
    rows = run.metrics()
    assert [row["rl/skipped"] for row in rows] == [0.0, 0.0]
    for row in rows:
        assert row["sync/logprob_gap"] < 1e-4
        assert row["segment/slate_advantage_std"] > 0
        assert row["segment/rank_advantage_std"] > 0
        assert 0 < row["figure/well_formed"] <= 1
        assert row["rl/segment_1_ratio"] == pytest.approx(1.0)


def test_the_tokens_of_a_segment_are_its_text(run: RunDir, model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
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
    first, second = (build_train_batch(*run.load_groups(1), objective=objective, min_group=2) for _ in range(2))
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
