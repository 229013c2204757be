"""Prints how long empirical Bayes takes over a large batch, on one core.

    python -m tests.bench.eb_speed [--groups 1000] [--size 16] [--rounds 3]

Round-robins; half of the groups are equal. The best of the rounds is printed, match logs are made beforehand.
"""

from __future__ import annotations

import os

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import argparse
import time
from itertools import combinations

import numpy as np

from rewards.aggregator_config import EmpiricalBayes
from rewards.aggregators import build_aggregator
from rewards.aggregators.laplace import sigmoid
from rewards.simulate import mixed_strengths
from rewards.types import Call, Match, MatchLog, Pairing, Verdict, VerdictKind


def logs_of(kind: VerdictKind, orders: int, strengths_GN: np.ndarray, rng: np.random.Generator) -> list[MatchLog]:
    """Round-robins of a judge with a slight first-seat bias, asked in one order (by lot) or in both."""
    logs = []
    for strengths_N in strengths_GN:
        matches = []
        for a, b in combinations(range(len(strengths_N)), 2):
            seats = [(a, b), (b, a)] if orders == 2 else [(a, b) if rng.random() < 0.5 else (b, a)]
            calls = []
            for first, second in seats:
                logit = strengths_N[first] - strengths_N[second] + 0.3
                value = logit if kind == "score" else float(rng.random() < sigmoid(logit))
                calls.append(Call(first, second, Verdict(float(value)), "judge"))
            matches.append(Match(Pairing(a, b), tuple(calls)))
        logs.append(MatchLog(len(strengths_N), kind, tuple(matches)))
    return logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", type=int, default=1000)
    parser.add_argument("--size", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    strengths_GN = mixed_strengths(options.groups, options.size, equal_share=0.5, scale=2.0, rng=rng)
    cases: dict[str, tuple[VerdictKind, int, EmpiricalBayes]] = {
        "hard, both orders": ("hard", 2, EmpiricalBayes()),
        "hard, one order, first-seat term": ("hard", 1, EmpiricalBayes()),
        "scores, both orders": ("score", 2, EmpiricalBayes()),
        "scores, judge's error known": ("score", 2, EmpiricalBayes(score_error=0.7, score_rewards="win_share")),
    }
    for name, (kind, orders, config) in cases.items():
        logs = logs_of(kind, orders, strengths_GN, rng)
        aggregator = build_aggregator(config)
        seconds = []
        for _ in range(options.rounds):
            started = time.perf_counter()
            aggregator.fit(logs)
            seconds.append(time.perf_counter() - started)
        print(f"{name:<36} {min(seconds):6.2f} s for {options.groups} groups of {options.size}", flush=True)


if __name__ == "__main__":
    main()
