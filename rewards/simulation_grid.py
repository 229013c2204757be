"""Topologies times aggregators times judges, on the same simulated batches: what a way of ranking is worth (ours).

    strengths of a batch --topology, judge--> match logs --every aggregator--> rewards --> figures, against the truth

Shapes: G groups, N candidates.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rewards.aggregators import build_aggregator
from rewards.aggregators.votes import FloatArray
from rewards.simulate import Orders, SimulatedJudge, fidelity, mixed_strengths, play, true_rewards
from rewards.simulate_batch import play_batch
from rewards.simulate_slates import play_slates
from rewards.topologies import build_topology
from rewards.types import BatchTopology, MatchLog, SlateTopology, Strengths

JUDGES: dict[str, SimulatedJudge] = {
    "bradley_terry": SimulatedJudge(),
    "noisy": SimulatedJudge(coin_share=0.3),
    "position_biased": SimulatedJudge(seat_bias=0.8),
    "cyclic": SimulatedJudge(cycle=1.5),
    "failing": SimulatedJudge(failure_rate=0.3),
    "wrong": SimulatedJudge(candidate_error=1.0),
}
"""All give hard verdicts. `wrong` errs per rollout, the same in each of its matches."""

SCALE = 2.0
"""Standard deviation of the strengths in a group that has differences."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is ranked: `num_groups` groups a batch, of which about `equal_share` have no differences."""

    group_size: int
    equal_share: float
    num_groups: int = 32
    num_batches: int = 3
    orders: Orders = "random"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Row:
    """Means over batches.

    fidelity: cosine of the rewards with the true centred win probabilities; stderr: over batches. kendall: rank
    correlation inside groups that have differences. equal_spread: standard deviation of the rewards inside equal
    groups, over that inside the others: noise that would be learned from. unscored: share of the candidates.
    """

    judge: str
    topology: str
    aggregator: str
    group_size: int
    equal_share: float
    calls_per_group: float
    fidelity: float
    stderr: float
    kendall: float
    equal_spread: float
    unscored: float
    seconds: float


def run_grid(
    scene: Scene, judges: Sequence[str], topologies: Mapping[str, Any], aggregators: Mapping[str, Any]
) -> Iterator[Row]:
    """One row per judge, topology and aggregator. Every way is given the same batches; each topology plays them once.

    Args:
        judges: names of `JUDGES`. topologies, aggregators: configs by the name to report.
    """
    for judge in judges:
        for topology, topology_config in topologies.items():
            batches = [_play(scene, batch, JUDGES[judge], topology_config) for batch in range(scene.num_batches)]
            for aggregator, config in aggregators.items():
                started = time.perf_counter()
                figures = [
                    _figures(build_aggregator(config).fit(logs)[0], strengths_GN) for strengths_GN, logs in batches
                ]
                seconds = (time.perf_counter() - started) / len(batches)
                mean = [_mean([figure[i] for figure in figures]) for i in range(4)]
                errors = np.std([figure[0] for figure in figures]) / np.sqrt(max(1, len(figures) - 1))
                calls = np.mean([_num_calls(logs) / len(logs) for _, logs in batches])
                yield Row(
                    judge=judge,
                    topology=topology,
                    aggregator=aggregator,
                    group_size=scene.group_size,
                    equal_share=scene.equal_share,
                    calls_per_group=float(calls),
                    fidelity=mean[0],
                    stderr=float(errors),
                    kendall=mean[1],
                    equal_spread=mean[2],
                    unscored=mean[3],
                    seconds=seconds,
                )


def _play(scene: Scene, batch: int, judge: SimulatedJudge, topology_config: Any) -> tuple[FloatArray, list[MatchLog]]:
    rng = np.random.default_rng((scene.seed, batch, scene.group_size, round(1000 * scene.equal_share)))
    strengths_GN = mixed_strengths(
        scene.num_groups, scene.group_size, equal_share=scene.equal_share, scale=SCALE, rng=rng
    )
    topology = build_topology(topology_config)
    if isinstance(topology, SlateTopology):
        logs = [play_slates(topology, judge, strengths_N, rng, orders=scene.orders) for strengths_N in strengths_GN]
        return strengths_GN, logs
    if isinstance(topology, BatchTopology):
        return strengths_GN, play_batch(topology, judge, strengths_GN, rng, orders=scene.orders)
    return strengths_GN, [play(topology, judge, strengths_N, rng, orders=scene.orders) for strengths_N in strengths_GN]


def _num_calls(logs: Sequence[MatchLog]) -> int:
    return sum(len(match.calls) for log in logs for match in log.matches) + sum(len(log.rankings) for log in logs)


def _figures(fitted: Sequence[Strengths], strengths_GN: FloatArray) -> tuple[float, float, float, float]:
    """fidelity, kendall, equal_spread, unscored. Who is unscored has no advantage: it stands at its group's mean."""
    rewards_GN = np.array([one.rewards for one in fitted], dtype=np.float64)
    unscored_GN = np.isnan(rewards_GN)
    means_G1 = np.array([[row[~np.isnan(row)].mean() if (~np.isnan(row)).any() else 0.5] for row in rewards_GN])
    rewards_GN = np.where(unscored_GN, means_G1, rewards_GN)
    decisive_G: NDArray[np.bool_] = (strengths_GN != 0.0).any(1)
    spread_G = rewards_GN.std(1)
    kendall = [_kendall(rewards_GN[g], true_rewards(strengths_GN[g])) for g in np.flatnonzero(decisive_G)]
    decisive_spread = float(spread_G[decisive_G].mean()) if decisive_G.any() else np.nan
    equal_spread = float(spread_G[~decisive_G].mean()) if (~decisive_G).any() else np.nan
    return (
        fidelity(list(rewards_GN), strengths_GN),
        float(np.mean(kendall)) if kendall else np.nan,
        equal_spread / decisive_spread if decisive_spread > 0.0 else np.nan,
        float(unscored_GN.mean()),
    )


def _mean(values: Sequence[float]) -> float:
    """Of the batches that have the figure; NaN where none has."""
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _kendall(a_N: FloatArray, b_N: FloatArray) -> float:
    """Kendall's tau-a: concordant less discordant pairs, of all pairs."""
    i, j = np.triu_indices(len(a_N), 1)
    return float(np.mean(np.sign(a_N[i] - a_N[j]) * np.sign(b_N[i] - b_N[j])))
