"""F-GRPO, GRPO on the joint reward, and the reward-to-go variant on the toy: one start, equal rollouts, several seeds.

    python -m tests.bench.fgrpo_toy [--seeds 1 2 3] [--start RUN_OR_DIR] [--out DIR] [--set KEY=VALUE ...]

Writes the tiny model and its answers (launch/slate_toy.py), teaches the format (`podium sft`), then runs `podium train`
of each recipe at each seed, one after the other, and prints held-out figures at temperature 1: mean over seeds, and in
brackets the lowest and the highest. Malformed answers count as finding nothing. All on the held-out pools of the same
seeds: `chance` writes the teacher's form without looking, `teacher` is what the warm start was taught, `start` what it
learned, `ceiling` the best that anybody can do who sees what an item shows. The paired table is over seeds too: what a
recipe has more than `fgrpo_toy` at the same seed. Runs that DIR holds already are read, not repeated. Signals are means
over the last third of the steps.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import numpy.typing as npt

from launch.run_dir import RunDir
from launch.slate_toy import BLIND, best_answer, middling_answer
from recipes.load import load_recipe
from rewards.config import ScorerRewards
from rewards.scorers import build_scorer
from rewards.types import Candidate, Prompt
from rollouts.config import SlateRankTask
from rollouts.tasks.slate_rank import build_slate_rank

ROOT = Path(__file__).parents[2]
RECIPES = ("fgrpo_toy", "grpo_joint_toy", "fgrpo_reward_to_go_toy")
FIGURES = {
    "R@3": "recall@3",
    "R@5": "recall@5",
    "N@3": "ndcg@3",
    "N@5": "ndcg@5",
    "slate recall": "slate_recall",
    "slate miss": "slate_miss",
    "rank drop": "rank_drop",
    "slate items": "slate_items",
    "rank items": "rank_items",
    "well formed": "well_formed",
}
SIGNALS = {
    "slate adv. std": "segment/slate_advantage_std",
    "rank adv. std": "segment/rank_advantage_std",
    "slate flat groups": "segment/slate_zero_signal_rate",
    "rank flat groups": "segment/rank_zero_signal_rate",
    "slate tokens": "segment/slate_tokens",
    "rank tokens": "segment/rank_tokens",
    "step, s": "time/step_s",
}


def podium(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "launch.cli", *arguments], cwd=ROOT, check=True, stdout=sys.stderr)


def finished(folder: Path) -> RunDir | None:
    """The run in a folder that holds one, if it came to its end."""
    runs = [RunDir.open(path) for path in sorted(folder.glob("*")) if (path / "summary.json").is_file()]
    return runs[-1] if runs else None


def write_toy(out: Path) -> None:
    if not (out / "toy" / "answers.jsonl").is_file():
        recipe = str(ROOT / "recipes" / "fgrpo_toy.yaml")
        subprocess.run([sys.executable, "-m", "launch.slate_toy", recipe, str(out / "toy")], cwd=ROOT, check=True)


def toy_settings(out: Path) -> dict[str, Any]:
    return {"model.path": out / "toy" / "model", "sft.data": out / "toy" / "answers.jsonl"}


def warm_start(out: Path) -> Path:
    """The run of `podium sft` that all start from."""
    if (done := finished(out / "sft")) is not None:
        return done.path
    recipe = str(ROOT / "recipes" / "fgrpo_toy.yaml")
    podium("sft", recipe, *_set(toy_settings(out) | {"launch.storage": out / "sft"}))
    done = finished(out / "sft")
    assert done is not None
    return done.path


def train(name: str, seed: int, start: Path, out: Path, more: Sequence[str]) -> RunDir:
    folder = out / f"{name}-{seed}"
    if (done := finished(folder)) is not None:
        return done
    settings = toy_settings(out) | {"seed": seed, "rl.init_from": start, "launch.storage": folder}
    started = time.monotonic()
    podium("train", str(ROOT / "recipes" / f"{name}.yaml"), *_set(settings), *(w for s in more for w in ("--set", s)))
    print(f"{name}, seed {seed}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    done = finished(folder)
    assert done is not None
    return done


def _set(values: Mapping[str, Any]) -> list[str]:
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]


def heldout(runs: Sequence[RunDir], when: str) -> dict[str, list[float]]:
    """A value per run."""
    summaries = [json.loads((run.path / "summary.json").read_text())["heldout"]["figures"] for run in runs]
    return {row: [summary[figure][when] for summary in summaries] for row, figure in FIGURES.items()}


def written(seeds: Sequence[int], answer: Callable[[Prompt, SlateRankTask], str]) -> dict[str, list[float]]:
    """Figures of answers that no model wrote, to the held-out pools of each seed."""
    recipe = load_recipe(ROOT / "recipes" / "fgrpo_toy.yaml").recipe
    assert isinstance(recipe.task, SlateRankTask)
    assert isinstance(recipe.rewards, ScorerRewards)
    assert recipe.rewards.scorer is not None
    score = build_scorer(recipe.rewards.scorer)
    found: dict[str, list[float]] = {row: [] for row in FIGURES}
    for seed in seeds:
        task = build_slate_rank(recipe.task, seed, ROOT)
        rows: list[Mapping[str, float | None]] = []
        for prompt in task.heldout:
            text = answer(prompt, recipe.task)
            rows.append(score(prompt, Candidate("written", text, parsed=task.parse(prompt, text))).figures)
        for row, figure in FIGURES.items():
            found[row].append(mean(value for one in rows if (value := one[figure]) is not None))
    return found


def late_mean(run: RunDir, metric: str) -> float:
    """Over the last third of the steps, of those that have it."""
    rows = run.metrics()
    values = [row[metric] for row in rows[-(len(rows) // 3 or 1) :] if metric in row]
    return sum(values) / len(values)


def spread(values: npt.ArrayLike) -> str:
    found = np.asarray(values)
    return f"{found.mean():.3f} [{found.min():.3f}, {found.max():.3f}]"


def print_table(columns: Mapping[str, Mapping[str, str]]) -> None:
    """columns: heading -> row name -> cell."""
    names = list(next(iter(columns.values())))
    width = max(map(len, names))
    print(f"{'':<{width}}  " + "  ".join(f"{heading:<23}" for heading in columns))
    for name in names:
        print(f"{name:<{width}}  " + "  ".join(f"{column[name]:<23}" for column in columns.values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--start", type=Path, help="a run of podium sft, or a model; default: made here")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "bench_fgrpo_toy")
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    options = parser.parse_args()
    out = options.out.resolve()
    write_toy(out)
    start = (options.start or warm_start(out)).resolve()
    runs = {name: [train(name, seed, start, out, options.settings) for seed in options.seeds] for name in RECIPES}
    rng = np.random.default_rng(0)
    after = {name: heldout(of, "after") for name, of in runs.items()}
    columns = {
        "chance": written(options.seeds, lambda prompt, task: middling_answer(prompt, task, rng, BLIND)),
        "teacher": written(options.seeds, lambda prompt, task: middling_answer(prompt, task, rng)),
        "start": heldout(runs[RECIPES[0]], "before"),
        **after,
        "ceiling": written(options.seeds, best_answer),
    }
    print_table({name: {row: spread(values) for row, values in column.items()} for name, column in columns.items()})
    print(f"\nMore than {RECIPES[0]} at the same seed:")
    print_table(
        {
            name: {row: spread(np.subtract(after[name][row], after[RECIPES[0]][row])) for row in FIGURES}
            for name in RECIPES[1:]
        }
    )
    print()
    print_table(
        {
            name: {row: spread([late_mean(run, metric) for run in of]) for row, metric in SIGNALS.items()}
            for name, of in runs.items()
        }
    )


if __name__ == "__main__":
    main()
