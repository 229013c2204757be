"""Do noise-aware advantages learn better? Prints tables and draws the curves, whichever way they fall.

    python -m tests.bench.learning_curve [--seeds 5] [--steps 100] [--plot FILE.html]

Every method sees the same tasks (`tests/bench/learning_task.py`), the same judge and the same number of judge calls
and updates; an elimination asks half as often, so it gets twice the groups, and with them the rollouts. Each is run at
the rate of a small grid that was best for it on two other seeds, and all at one equal rate: the one that was best for
them together. Intervals are 95 % t-intervals over seeds; differences are paired. On two free cores the whole takes
five to ten minutes.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import torch
from plotly.subplots import make_subplots
from scipy import stats

from tests.bench.learning_task import CALLS_PER_STEP, METHODS, learn, make_task

RATES = {"adamw": (0.05, 0.1, 0.2, 0.4, 0.8), "sgd": (50.0, 100.0, 200.0, 400.0, 800.0, 1600.0)}
SHARES = (0.5, 0.8, 0.0)
TUNING_SEEDS = (1000, 1001)
REACHED = 0.9
"""Of the lowest mean score at the end: a score that every method's mean gets to."""
COLORS = ("#d62728", "#1f77b4", "#17becf", "#ff7f0e", "#2ca02c")


@dataclass(frozen=True, slots=True)
class Run:
    method: int
    level_share: float
    optimizer: str
    lr: float
    seed: int
    num_steps: int


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    scores: np.ndarray
    """True score after 0, 1, .. steps."""
    drift: float


def play(run: Run) -> tuple[Run, Result]:
    torch.set_num_threads(1)
    task = make_task(run.seed, level_share=run.level_share)
    scores, drift = learn(
        METHODS[run.method], task, lr=run.lr, optimizer=run.optimizer, num_steps=run.num_steps, seed=run.seed
    )
    return run, Result(np.array(scores), drift)


class Results:
    """Plays what it is asked for, each run once."""

    def __init__(self, num_steps: int, pool: Pool) -> None:
        self.num_steps = num_steps
        self._pool = pool
        self._known: dict[Run, Result] = {}

    def of(self, method: int, share: float, optimizer: str, lr: float, seeds: Sequence[int]) -> list[Result]:
        runs = [Run(method, share, optimizer, lr, seed, self.num_steps) for seed in seeds]
        self.play(runs)
        return [self._known[run] for run in runs]

    def play(self, runs: Iterable[Run]) -> None:
        missing = [run for run in dict.fromkeys(runs) if run not in self._known]
        self._known |= dict(self._pool.imap_unordered(play, missing))

    def play_at(self, share: float, optimizer: str, best: Sequence[float], equal: float, seeds: Sequence[int]) -> None:
        """Every method at its best rate and at the equal one, all at once, so that no worker waits."""
        self.play(
            Run(m, share, optimizer, lr, seed, self.num_steps)
            for m in range(len(METHODS))
            for lr in (best[m], equal)
            for seed in seeds
        )

    def finals(self, method: int, share: float, optimizer: str, lr: float, seeds: Sequence[int]) -> np.ndarray:
        return np.array([result.scores[-1] for result in self.of(method, share, optimizer, lr, seeds)])

    def tune(self, share: float, optimizer: str) -> tuple[list[float], float]:
        """The best rate of each method, and the one with the best mean over all."""
        cells = list(product(range(len(METHODS)), RATES[optimizer]))
        self.play(Run(m, share, optimizer, lr, seed, self.num_steps) for m, lr in cells for seed in TUNING_SEEDS)
        means_ML = np.array([self.finals(m, share, optimizer, lr, TUNING_SEEDS).mean() for m, lr in cells])
        means_ML = means_ML.reshape(len(METHODS), -1)
        rates = RATES[optimizer]
        return [rates[best] for best in means_ML.argmax(axis=1)], rates[int(means_ML.mean(axis=0).argmax())]


def interval(values: np.ndarray, spec: str = ".3f") -> str:
    """Mean and half width of its 95 % interval."""
    if len(values) < 2:
        return f"{values.mean():{spec}}"
    half = stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():{spec}} ± {half:{spec}}"


def calls_to_reach(results: Sequence[Result], target: float) -> str:
    """Median over seeds of the judge calls until the true score is there; how many seeds did not get there."""
    there_ST = np.array([result.scores >= target for result in results])
    calls = np.where(there_ST.any(axis=1), CALLS_PER_STEP * there_ST.argmax(axis=1), math.inf)
    missed, median = int(np.isinf(calls).sum()), float(np.median(calls))
    return ("-" if math.isinf(median) else f"{median:.0f}") + (f" ({missed} of {len(calls)} never)" if missed else "")


def mixed_tables(
    results: Results, optimizer: str, shares: Sequence[float], seeds: Sequence[int], figure: go.Figure
) -> None:
    for column, share in enumerate(shares, start=1):
        best, equal = results.tune(share, optimizer)
        results.play_at(share, optimizer, best, equal, seeds)
        at_best = [results.of(m, share, optimizer, best[m], seeds) for m in range(len(METHODS))]
        finals = [np.array([result.scores[-1] for result in runs]) for runs in at_best]
        means = [np.array([result.scores.mean() for result in runs]) for runs in at_best]
        target = REACHED * min(values.mean() for values in finals)
        print(f"\n### {optimizer}, {share:.0%} of the prompts level, {len(seeds)} seeds\n")
        header = ("method", "rate", "true score at the end", "minus z-scored", "mean over the run")
        header += (f"calls to {target:.2f}", f"at the equal rate {equal:g}", "minus z-scored")
        print("| " + " | ".join(header) + " |\n" + "|---" * len(header) + "|")
        at_equal = [results.finals(m, share, optimizer, equal, seeds) for m in range(len(METHODS))]
        for m, method in enumerate(METHODS):
            cells = [method.name, f"{best[m]:g}", interval(finals[m])]
            cells += ["" if m == 0 else interval(finals[m] - finals[0]), interval(means[m])]
            cells += [calls_to_reach(at_best[m], target), interval(at_equal[m])]
            cells += ["" if m == 0 else interval(at_equal[m] - at_equal[0])]
            print("| " + " | ".join(cells) + " |", flush=True)
            if optimizer == "adamw":
                draw(figure, column, m, np.array([result.scores for result in at_best[m]]), best[m])


def noise_table(results: Results, optimizer: str, seeds: Sequence[int]) -> None:
    """Nothing can be learned: how far does each walk?"""
    best, equal = results.tune(0.5, optimizer)
    print(f"\n### {optimizer}, all prompts level: KL of an answer from the start, nats\n")
    print(f"| method | at its rate of the half-level task | at the equal rate {equal:g} | to z-scored |")
    print("|---|---|---|---|")
    results.play_at(1.0, optimizer, best, equal, seeds)
    first = None
    for m, method in enumerate(METHODS):
        drifts = [np.array([r.drift for r in results.of(m, 1.0, optimizer, lr, seeds)]) for lr in (best[m], equal)]
        first = drifts[1] if first is None else first
        print(
            f"| {method.name} | {best[m]:g}: {interval(drifts[0])} | {interval(drifts[1])} | "
            f"{drifts[1].mean() / first.mean():.2f} |",
            flush=True,
        )


def draw(figure: go.Figure, column: int, m: int, scores_ST: np.ndarray, lr: float) -> None:
    calls_T = CALLS_PER_STEP * np.arange(scores_ST.shape[1])
    mean_T = scores_ST.mean(axis=0)
    half_T = stats.t.ppf(0.975, len(scores_ST) - 1) * scores_ST.std(axis=0, ddof=1) / math.sqrt(len(scores_ST))
    band = np.concatenate([mean_T + half_T, (mean_T - half_T)[::-1]])
    group = {"legendgroup": str(m), "row": 1, "col": column}
    figure.add_scatter(
        x=np.concatenate([calls_T, calls_T[::-1]]),
        y=band,
        fill="toself",
        line={"width": 0},
        fillcolor=COLORS[m],
        opacity=0.15,
        showlegend=False,
        hoverinfo="skip",
        **group,
    )
    line = {"color": COLORS[m]}
    figure.add_scatter(x=calls_T, y=mean_T, name=METHODS[m].name, line=line, showlegend=column == 1, **group)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--plot", type=Path, help="HTML file to write the curves to")
    options = parser.parse_args()
    seeds = range(options.seeds)
    titles = [f"{share:.0%} of the prompts level" for share in SHARES]
    figure = make_subplots(rows=1, cols=len(SHARES), shared_yaxes=True, subplot_titles=titles)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        results = Results(options.steps, pool)
        for optimizer, shares in (("adamw", SHARES), ("sgd", SHARES[:2])):
            mixed_tables(results, optimizer, shares, seeds, figure)
            noise_table(results, optimizer, seeds)
    if options.plot is not None:
        figure.update_xaxes(title="judge calls")
        figure.update_yaxes(title="true score, share of the best", col=1)
        figure.update_layout(template="plotly_white", legend={"orientation": "h", "y": -0.2})
        figure.write_html(options.plot, include_plotlyjs=True)


if __name__ == "__main__":
    main()
