"""What the toy starts from: well-formed answers that leave something to learn, and a model with the toy's words."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from launch.slate_toy import BLIND, best_answer, main, middling_answer
from recipes.load import load_recipe
from rewards.scorer_config import SlateRankScorer
from rewards.scorers import build_scorer
from rewards.types import Candidate, Prompt
from rollouts.config import SlateRankTask, SyntheticPools
from rollouts.tasks.pools import pool_fields
from rollouts.tasks.slate_rank import build_slate_rank

RECIPE = Path(__file__).parents[2] / "recipes" / "fgrpo_toy.yaml"


def mean_figures(answer: Callable[[Prompt, SlateRankTask], str]) -> dict[str, float]:
    """Of answers to 300 pools of the recipe's."""
    task = load_recipe(RECIPE).recipe.task
    assert isinstance(task, SlateRankTask)
    source = task.source.model_copy(update={"num_prompts": 300})
    built = build_slate_rank(task.model_copy(update={"source": source, "heldout": 0}), 0, Path())
    scorer = build_scorer(SlateRankScorer(kind="slate_rank"))
    rows: list[Mapping[str, float | None]] = []
    for prompt in built.train:
        text = answer(prompt, built.config)
        rows.append(scorer(prompt, Candidate("r", text, parsed=built.parse(prompt, text))).figures)
    return {name: float(np.mean([row[name] or 0.0 for row in rows])) for name in rows[0]}


def test_the_answers_are_well_formed_and_middling() -> None:
    """Far better than chance (a slate of 5 of 20: 0.25), far from the best."""
    rng = np.random.default_rng(0)
    taught = mean_figures(lambda prompt, task: middling_answer(prompt, task, rng))
    blind = mean_figures(lambda prompt, task: middling_answer(prompt, task, rng, BLIND))
    best = mean_figures(best_answer)
    assert taught["well_formed"] == blind["well_formed"] == best["well_formed"] == 1.0
    assert 4.5 < taught["slate_items"] < 5.5
    assert (best["slate_items"], best["rank_items"]) == (10, 5)
    assert blind["slate_recall"] == pytest.approx(0.25, abs=0.04)
    for name in ("slate_recall", "recall@3", "recall@5", "ndcg@3", "ndcg@5"):
        assert blind[name] + 0.2 < taught[name] < best[name] - 0.15
    assert best["recall@5"] < 0.85  # the evidence is noisy: reading it is not knowing


def test_what_an_item_shows_is_read_in_both_dresses() -> None:
    """Four items of two topics each, one of them twice the one that is asked for."""
    for shown in ("topics", "matches"):
        source = SyntheticPools(kind="synthetic", num_prompts=2, pool_size=4, relevant=(1, 1), shown=shown)
        task = SlateRankTask(kind="slate_rank", source=source, max_slate=2, max_rank=2, heldout=0)
        texts = ("t00 t01", "t01 t01", "t01 t00", "t00 t00") if shown == "topics" else ("1", "2", "1", "0")
        items = [(f"i{n:02d}", text) for n, text in enumerate(texts)]
        prompt = Prompt(id="p", text="", fields=pool_fields("t01", items, {"i00": 1.0}))
        assert best_answer(prompt, task) == "<SLATE> i00 i01</SLATE><RANK> i01 i00</RANK>"


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
