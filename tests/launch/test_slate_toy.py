"""What the toy starts from: well-formed answers that leave something to learn, and a model with the toy's words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from launch.slate_toy import main, middling_answer
from recipes.load import load_recipe
from rewards.scorer_config import SlateRankScorer
from rewards.scorers import build_scorer
from rewards.types import Candidate
from rollouts.config import SlateRankTask, SyntheticPools
from rollouts.tasks.slate_rank import build_slate_rank

RECIPE = Path(__file__).parents[2] / "recipes" / "fgrpo_toy.yaml"


def test_the_answers_are_well_formed_and_middling() -> None:
    """Better than chance (a slate of 5 of 20: 0.25), far from the best."""
    source = SyntheticPools(kind="synthetic", num_prompts=300)
    config = SlateRankTask(kind="slate_rank", source=source, heldout=0)
    task = build_slate_rank(config, 0, Path())
    rng = np.random.default_rng(0)
    scorer = build_scorer(SlateRankScorer(kind="slate_rank"))
    figures = []
    for prompt in task.train:
        text = middling_answer(prompt, config, rng)
        figures.append(scorer(prompt, Candidate("r", text, parsed=task.parse(prompt, text))).figures)
    means = {name: np.mean([one[name] for one in figures]) for name in figures[0]}  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert means["well_formed"] == 1.0
    assert 4.5 < means["slate_items"] < 5.5
    assert 0.6 < means["slate_recall"] < 0.85
    assert 0.4 < means["recall@3"] < 0.6
    assert means["rank_drop"] > 0.15


def test_every_word_of_the_toy_is_one_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(RECIPE), str(tmp_path), "--answers", "20"])
    assert "20 answers" in capsys.readouterr().out
    rows = [json.loads(line) for line in (tmp_path / "answers.jsonl").read_text().splitlines()]
    assert len(rows) == 20
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    recipe = load_recipe(RECIPE).recipe
    for row in rows:
        ids = tokenizer.encode(row["completion"], add_special_tokens=False)
        assert len(ids) == row["completion"].count(" i") + 4  # ids and tags
        assert len(ids) + 1 <= recipe.rollouts.max_tokens
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": row["prompt"]}], add_generation_prompt=True, tokenize=False
        )
        assert len(tokenizer.encode(prompt)) <= recipe.rollouts.max_prompt_tokens
    prompts = {prompt.text for prompt in build_slate_rank(recipe.task, recipe.seed, RECIPE.parent).train}  # pyright: ignore[reportArgumentType]
    assert prompts.isdisjoint(row["prompt"] for row in rows)


def test_another_task_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([str(RECIPE.with_name("quickstart.yaml")), str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert "task.kind is freeform, not slate_rank" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
