"""Prints what a score judge's magnitudes are worth when it is consistent but wrong.

    python -m tests.bench.score_table [--batches 8] [--groups 64]

The judge sees every rollout with a fixed error of standard deviation e, the same in all of its matches; both orders,
round-robin. Decisive groups have strengths Normal(0, 2^2). The figure is the cosine between a batch's concatenated
rewards and the true centred win probabilities. t is the error that `score_error` is told: the true one, or the one
found by `diagnostics.score_error` from 20 groups that were judged twice with independent errors.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes, WinRate
from rewards.aggregators import build_aggregator
from rewards.diagnostics.score_error import score_error
from rewards.simulate import SimulatedJudge, fidelity, mixed_strengths, play
from rewards.topologies.round_robin import RoundRobinTopology
from rewards.types import MatchLog

SETTINGS = ((8, 0.5, 0.7), (8, 0.8, 0.7), (16, 0.8, 1.0), (8, 0.5, 1.0), (8, 0.0, 0.7), (8, 0.0, 0.0))
COLUMNS = (
    "z-scored win rate",
    "hard votes",
    "scores, centred",
    "scores, t known",
    "scores, t from repeats",
    "scores, t from repeats, win shares",
)


def table_row(size: int, equal_share: float, error: float, *, num_batches: int, num_groups: int) -> list[float]:
    """Mean fidelity of the columns at one setting."""
    rng = np.random.default_rng((7, size, round(100 * equal_share), round(100 * error)))
    judge = SimulatedJudge(kind="score", candidate_error=error)
    found = max(1e-3, score_error([_twice(judge, size, rng) for _ in range(20)]))
    rows: list[list[float]] = []
    for _ in range(num_batches):
        strengths_GN = mixed_strengths(num_groups, size, equal_share=equal_share, scale=2.0, rng=rng)
        # The votes are drawn from the judge's scores, so that both kinds see the same errors.
        scores = [play(RoundRobinTopology(), judge, one, rng, orders="both") for one in strengths_GN]
        votes = [_as_votes(log, rng) for log in scores]
        win_rates = _rewards(WinRate(kind="win_rate"), votes)
        columns = (
            [(one - one.mean()) / (one.std(ddof=1) + 1e-6) for one in win_rates],
            _rewards(EmpiricalBayes(), votes),
            _rewards(EmpiricalBayes(), scores),
            _rewards(EmpiricalBayes(score_error=max(1e-3, error)), scores),
            _rewards(EmpiricalBayes(score_error=found), scores),
            _rewards(EmpiricalBayes(score_error=found, score_rewards="win_share"), scores),
        )
        rows.append([fidelity(column, strengths_GN) for column in columns])
    return [found, *np.mean(rows, axis=0).tolist()]


def _twice(judge: SimulatedJudge, size: int, rng: np.random.Generator) -> list[MatchLog]:
    strengths_N = 2.0 * rng.standard_normal(size)
    return [play(RoundRobinTopology(), judge, strengths_N, rng, orders="both") for _ in range(2)]


def _as_votes(log: MatchLog, rng: np.random.Generator) -> MatchLog:
    """Hard verdicts of the same judge: a coin flip with the score as its logit."""
    matches = tuple(
        replace(
            match,
            calls=tuple(
                replace(call, verdict=replace(call.verdict, value=float(rng.random() < 1.0 / (1.0 + np.exp(-value)))))
                for call in match.calls
                if (value := call.verdict.value) is not None
            ),
        )
        for match in log.matches
    )
    return replace(log, kind="hard", matches=matches)


def _rewards(config: AggregatorConfig, logs: list[MatchLog]) -> list[np.ndarray]:
    return [np.array(one.rewards, dtype=np.float64) for one in build_aggregator(config).fit(logs)[0]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--groups", type=int, default=64)
    options = parser.parse_args()
    print("| N, share of equal groups, e | t found | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for setting in SETTINGS:
        row = table_row(*setting, num_batches=options.batches, num_groups=options.groups)
        print(f"| {', '.join(map(str, setting))} | " + " | ".join(f"{value:.2f}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    main()
