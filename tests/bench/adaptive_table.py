"""Prints what a budget of judge calls buys: rewards against the truth, by who chooses the matches.

    python -m tests.bench.adaptive_table [--batches 8] [--groups 64] [--candidates 16]

The figure is the cosine between a batch's concatenated centred rewards (empirical Bayes, cold prior) and the true
centred win probabilities, with its standard error over batches. Decisive groups have strengths Normal(0, 2^2), the
others none; a match is one hard verdict of a symmetric judge. `elimination` is seeded single elimination with its
z-scored rank quantiles, which knows no budget: 2N - 2 matches.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np

from rewards.aggregator_config import EmpiricalBayes, RankQuantile
from rewards.aggregators import build_aggregator
from rewards.simulate import SimulatedJudge, fidelity, mixed_strengths, play
from rewards.simulate_batch import play_batch
from rewards.topologies import build_topology
from rewards.topologies.adaptive import AdaptiveTopology
from rewards.topologies.round_robin import RoundRobinTopology
from rewards.topology_config import SingleElimination
from rewards.types import MatchLog, Pairing, TournamentState

CALLS = (15, 30, 60)
EQUAL_SHARES = (0.0, 0.5, 0.8)

Play = Callable[[np.ndarray, np.random.Generator], list[MatchLog]]


class RandomPairs:
    """`num_pairs` different pairs by lot, at once."""

    def __init__(self, num_pairs: int) -> None:
        self._num_pairs = num_pairs

    def playable(self, state: TournamentState) -> list[Pairing]:
        pairs = list(combinations(range(state.num_candidates), 2))
        chosen = np.random.default_rng(state.seed).permutation(len(pairs))[: self._num_pairs]
        return [pairing for i in chosen if (pairing := Pairing(*pairs[i])) not in state.results]

    def max_matches(self, num_candidates: int) -> int:
        return min(self._num_pairs, num_candidates * (num_candidates - 1) // 2)


def columns(calls: int) -> dict[str, tuple[Play, EmpiricalBayes | RankQuantile]]:
    elimination = build_topology(SingleElimination(kind="single_elimination", seeding="anchor"))

    def each(topology: RoundRobinTopology | RandomPairs) -> Play:
        return lambda strengths_GN, rng: [
            play(topology, SimulatedJudge(), strengths_N, rng, symmetric=True) for strengths_N in strengths_GN
        ]

    def adaptive(strengths_GN: np.ndarray, rng: np.random.Generator) -> list[MatchLog]:
        return play_batch(AdaptiveTopology(calls), SimulatedJudge(), strengths_GN, rng, symmetric=True)

    knockout: Play = each(elimination)  # type: ignore[arg-type]
    return {
        "elimination, ranks": (knockout, RankQuantile(kind="rank_quantile")),
        "elimination, empirical Bayes": (knockout, EmpiricalBayes()),
        "random pairs": (each(RandomPairs(calls)), EmpiricalBayes()),
        "adaptive": (adaptive, EmpiricalBayes()),
        "round-robin (all calls)": (each(RoundRobinTopology()), EmpiricalBayes()),
    }


def figure(
    way: tuple[Play, EmpiricalBayes | RankQuantile], num_candidates: int, equal_share: float, args: argparse.Namespace
) -> tuple[float, float]:
    """Mean fidelity over batches and its standard error; the batches are the same for every way."""
    play_all, config = way
    values = []
    for batch in range(args.batches):
        rng = np.random.default_rng((args.seed, batch, round(100 * equal_share)))
        strengths_GN = mixed_strengths(args.groups, num_candidates, equal_share=equal_share, scale=2.0, rng=rng)
        fitted, _ = build_aggregator(config).fit(play_all(strengths_GN, rng))
        # An unscored candidate has no advantage: it stands at one half.
        rewards = [np.nan_to_num(np.array(one.rewards, dtype=np.float64), nan=0.5) for one in fitted]
        if isinstance(config, RankQuantile):
            rewards = z_scored(rewards)
        values.append(fidelity(rewards, strengths_GN))
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))


def z_scored(rewards: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [(one - one.mean()) / (one.std(ddof=1) + 1e-6) for one in rewards]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, default=8)
    parser.add_argument("--groups", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    names = list(columns(1))
    print("| calls a group | share of equal groups | " + " | ".join(names) + " |")
    print("|---" * (len(names) + 2) + "|")
    for calls in CALLS:
        for equal_share in EQUAL_SHARES:
            cells = [figure(way, args.candidates, equal_share, args) for way in columns(calls).values()]
            text = " | ".join(f"{mean:.3f} +- {error:.3f}" for mean, error in cells)
            print(f"| {calls} | {equal_share} | {text} |", flush=True)


if __name__ == "__main__":
    main()
