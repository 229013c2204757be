"""Prints how well each way from verdicts to advantages follows the truth, in batches where many groups are equal.

    python -m tests.bench.eb_table [--batches 8] [--groups 64]

The figure is the cosine between a batch's concatenated advantages and the true centred win probabilities, averaged over
batches. Decisive groups have strengths Normal(0, 2^2); a match is one hard verdict of a judge without a seat bias.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from math import ceil, log2

import numpy as np

from rewards.aggregator_config import EmpiricalBayes, RankQuantile, WinRate
from rewards.aggregators import build_aggregator
from rewards.simulate import SimulatedJudge, fidelity, mixed_strengths, play
from rewards.topologies import build_topology
from rewards.topologies.round_robin import RoundRobinTopology
from rewards.topology_config import SingleElimination, Swiss
from rewards.types import MatchLog

SETTINGS = ((8, 0.5), (8, 0.8), (16, 0.5), (16, 0.8), (16, 0.0))
COLUMNS = (
    "round-robin, z-scored win rate",
    "round-robin, centred win rate",
    "round-robin, empirical Bayes",
    "elimination, z-scored rank",
    "elimination, empirical Bayes",
    "Swiss at twice the rounds, empirical Bayes",
)


def table_row(num_candidates: int, equal_share: float, *, num_batches: int, num_groups: int, seed: int) -> list[float]:
    """Mean fidelity of the columns at one setting."""
    rng = np.random.default_rng((seed, num_candidates, round(100 * equal_share)))
    elimination = build_topology(SingleElimination(kind="single_elimination", seeding="anchor"))
    double_swiss = build_topology(Swiss(kind="swiss", rounds=2 * ceil(log2(num_candidates))))
    rows: list[list[float]] = []
    for _ in range(num_batches):
        strengths_GN = mixed_strengths(num_groups, num_candidates, equal_share=equal_share, scale=2.0, rng=rng)
        league, knockout, swiss = (
            [play(topology, SimulatedJudge(), strengths_N, rng, symmetric=True) for strengths_N in strengths_GN]
            for topology in (RoundRobinTopology(), elimination, double_swiss)
        )
        win_rates = _rewards(WinRate(kind="win_rate"), league)
        columns = (
            [_z_scored(rewards_N) for rewards_N in win_rates],
            win_rates,
            _rewards(EmpiricalBayes(), league),
            [_z_scored(rewards_N) for rewards_N in _rewards(RankQuantile(kind="rank_quantile"), knockout)],
            _rewards(EmpiricalBayes(), knockout),
            _rewards(EmpiricalBayes(), swiss),
        )
        rows.append([fidelity(rewards, strengths_GN) for rewards in columns])
    return np.mean(rows, axis=0).tolist()


def _rewards(config: EmpiricalBayes | WinRate | RankQuantile, logs: Sequence[MatchLog]) -> list[np.ndarray]:
    fitted, _ = build_aggregator(config).fit(logs)
    return [np.array(strengths.rewards, dtype=np.float64) for strengths in fitted]


def _z_scored(rewards_N: np.ndarray) -> np.ndarray:
    return (rewards_N - rewards_N.mean()) / (rewards_N.std(ddof=1) + 1e-6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print("| N, share of equal groups | " + " | ".join(COLUMNS) + " |")
    print("|---" * (len(COLUMNS) + 1) + "|")
    for num_candidates, equal_share in SETTINGS:
        row = table_row(
            num_candidates, equal_share, num_batches=options.batches, num_groups=options.groups, seed=options.seed
        )
        print(f"| {num_candidates}, {equal_share} | " + " | ".join(f"{value:.3f}" for value in row) + " |", flush=True)


if __name__ == "__main__":
    main()
