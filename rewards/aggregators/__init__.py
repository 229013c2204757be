"""Match logs to strengths: one file per kind, one explicit table from config to aggregator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from rewards.aggregator_config import AggregatorConfig, Borda, BradleyTerry, EmpiricalBayes, RankQuantile, WinRate
from rewards.aggregators.borda import BordaAggregator
from rewards.aggregators.bradley_terry import BradleyTerryAggregator
from rewards.aggregators.empirical_bayes import EmpiricalBayesAggregator
from rewards.aggregators.rank_quantile import RankQuantileAggregator
from rewards.aggregators.win_rate import WinRateAggregator
from rewards.types import Aggregator, VerdictKind

RewardUnit = Literal["probability", "strength"]
"""What a reward is: a win probability (or rank quantile) in [0, 1], or a centred strength on the batch's scale."""

_BUILDERS: dict[type, Callable[[Any, int], Aggregator]] = {
    WinRate: lambda config, min_verdicts: WinRateAggregator(
        min_verdicts=min_verdicts, judge_weights=config.judge_weights
    ),
    RankQuantile: lambda config, min_verdicts: RankQuantileAggregator(
        min_verdicts=min_verdicts, judge_weights=config.judge_weights
    ),
    Borda: lambda config, min_verdicts: BordaAggregator(min_verdicts=min_verdicts, judge_weights=config.judge_weights),
    BradleyTerry: lambda config, min_verdicts: BradleyTerryAggregator(config, min_verdicts=min_verdicts),
    EmpiricalBayes: lambda config, min_verdicts: EmpiricalBayesAggregator(config, min_verdicts=min_verdicts),
}


def build_aggregator(config: AggregatorConfig, *, min_verdicts: int = 1) -> Aggregator:
    """The aggregator that a recipe's `rewards.aggregator` asks for."""
    return _BUILDERS[type(config)](config, min_verdicts)


def reward_unit(config: AggregatorConfig, kind: VerdictKind) -> RewardUnit:
    """What the rewards are that this aggregator makes of this kind of verdict."""
    return "strength" if kind == "score" and isinstance(config, EmpiricalBayes) else "probability"
