"""The grid over topologies, aggregators and judges; and every combination of them under a judge that often fails."""

from __future__ import annotations

import numpy as np
import pytest

from rewards.aggregator_config import AggregatorConfig, EmpiricalBayes, WinRate
from rewards.simulate import SimulatedJudge
from rewards.simulation_grid import JUDGES, Row, Scene, run_grid
from rewards.strict import config_kinds
from rewards.topology_config import Adaptive, RoundRobin, TopologyConfig

ROUND_ROBIN = {"round_robin": RoundRobin()}
BAYES = {"empirical_bayes": EmpiricalBayes()}
SMALL = Scene(group_size=6, equal_share=0.5, num_groups=8, num_batches=2)


def one(scene: Scene, judge: str, topologies: dict = ROUND_ROBIN, aggregators: dict = BAYES) -> Row:
    (row,) = run_grid(scene, [judge], topologies, aggregators)
    return row


@pytest.mark.parametrize("topology", list(config_kinds(TopologyConfig)))
@pytest.mark.parametrize("aggregator", list(config_kinds(AggregatorConfig)))
def test_every_topology_with_every_aggregator_stands_a_judge_that_often_fails(topology: str, aggregator: str) -> None:
    scene = Scene(group_size=5, equal_share=0.4, num_groups=4, num_batches=1, orders="both")
    configs = [
        {name: config_kinds(union)[name].model_validate({"kind": name})}
        for union, name in ((TopologyConfig, topology), (AggregatorConfig, aggregator))
    ]
    row = one(scene, "failing", *configs)
    assert (row.topology, row.aggregator) == (topology, aggregator)
    assert -1.0 <= row.fidelity <= 1.0
    assert 0.0 <= row.unscored < 1.0
    assert row.calls_per_group > 0


def test_equal_seeds_give_equal_rows_but_for_the_clock() -> None:
    def figures(seed: int) -> tuple[float, ...]:
        row = one(Scene(6, 0.5, 8, 2, seed=seed), "noisy")
        return row.fidelity, row.kendall, row.equal_spread, row.unscored, row.calls_per_group

    assert figures(1) == figures(1) != figures(2)


def test_round_robin_costs_what_it_says_in_one_order_and_twice_that_in_both() -> None:
    assert one(SMALL, "bradley_terry").calls_per_group == 15
    assert one(Scene(6, 0.5, 8, 2, orders="both"), "bradley_terry").calls_per_group == 30
    adaptive = {"adaptive": Adaptive(kind="adaptive", calls_per_group=7)}
    assert one(SMALL, "bradley_terry", adaptive).calls_per_group == pytest.approx(7)


def test_what_spoils_a_judge_spoils_the_rewards() -> None:
    scene = Scene(8, 0.5, 24, 3)
    clean = one(scene, "bradley_terry").fidelity
    assert clean > 0.8
    for judge in JUDGES.keys() - {"bradley_terry"}:
        assert one(scene, judge).fidelity < clean, judge


def test_a_bias_for_the_first_seat_hurts_less_in_both_orders() -> None:
    first, both = (
        one(Scene(8, 0.7, 24, 3, orders=orders), "position_biased", aggregators={"win_rate": WinRate(kind="win_rate")})
        for orders in ("first", "both")
    )
    assert both.equal_spread < first.equal_spread
    assert both.fidelity > first.fidelity


def test_shares_of_equal_groups_at_the_ends_leave_out_what_is_not_there() -> None:
    assert np.isnan(one(Scene(5, 0.0, 6, 1), "bradley_terry").equal_spread)
    assert np.isnan(one(Scene(5, 1.0, 6, 1), "bradley_terry").kendall)


def test_a_cyclic_judge_goes_round() -> None:
    judge = SimulatedJudge(cycle=3.0)
    gaps = judge.perceive(np.zeros(40), np.random.default_rng(0))
    np.testing.assert_allclose(gaps, -gaps.T, atol=1e-12)
    wins = (gaps > 0).astype(float)
    beaten = np.einsum("ij,jk,ki->", wins, wins, wins)
    assert beaten > 0.1 * 40**3 / 4
    straight = SimulatedJudge().perceive(np.arange(5).astype(np.float64), np.random.default_rng(0))
    assert straight[4, 1] == 3.0


def test_coins_take_the_share_that_they_are_given() -> None:
    rng = np.random.default_rng(0)
    judge = SimulatedJudge(coin_share=0.5)
    gaps = np.array([[0.0, 50.0], [-50.0, 0.0]])
    wins = [judge.call(gaps, 0, 1, rng).verdict.value for _ in range(4000)]
    assert np.mean([value for value in wins if value is not None]) == pytest.approx(0.75, abs=0.03)
