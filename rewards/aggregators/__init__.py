"""Match logs to strengths: one file per kind, one explicit table from config to aggregator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from rewards.aggregator_config import (
    AggregatorConfig,
    Borda,
    BradleyTerry,
    Davidson,
    Elo,
    EmpiricalBayes,
    Kemeny,
    PlackettLuce,
    RankQuantile,
    SoftCondorcet,
    Tour,
    TrueSkill,
    WinRate,
)
from rewards.aggregators.borda import BordaAggregator
from rewards.aggregators.bradley_terry import BradleyTerryAggregator
from rewards.aggregators.davidson import DavidsonAggregator
from rewards.aggregators.elo import EloAggregator
from rewards.aggregators.empirical_bayes import EmpiricalBayesAggregator
from rewards.aggregators.kemeny import KemenyAggregator
from rewards.aggregators.plackett_luce import PlackettLuceAggregator
from rewards.aggregators.rank_quantile import RankQuantileAggregator
from rewards.aggregators.soft_condorcet import SoftCondorcetAggregator
from rewards.aggregators.tour import TourAggregator
from rewards.aggregators.trueskill import TrueSkillAggregator
from rewards.aggregators.win_rate import WinRateAggregator
from rewards.types import Aggregator, VerdictKind

RewardUnit = Literal["probability", "strength"]
"""What a reward is: a win probability (or rank quantile) in [0, 1], or a centred strength on the batch's scale."""

_BUILDERS: dict[type, Callable[[Any, int], Aggregator]] = {
    WinRate: lambda config, least: WinRateAggregator(min_verdicts=least, judge_weights=config.judge_weights),
    RankQuantile: lambda config, least: RankQuantileAggregator(min_verdicts=least, judge_weights=config.judge_weights),
    Borda: lambda config, least: BordaAggregator(min_verdicts=least, judge_weights=config.judge_weights),
    BradleyTerry: lambda config, least: BradleyTerryAggregator(config, min_verdicts=least),
    Davidson: lambda config, least: DavidsonAggregator(config, min_verdicts=least),
    PlackettLuce: lambda config, least: PlackettLuceAggregator(config, min_verdicts=least),
    Elo: lambda config, least: EloAggregator(config, min_verdicts=least),
    TrueSkill: lambda config, least: TrueSkillAggregator(config, min_verdicts=least),
    SoftCondorcet: lambda config, least: SoftCondorcetAggregator(config, min_verdicts=least),
    Kemeny: lambda config, least: KemenyAggregator(min_verdicts=least, judge_weights=config.judge_weights),
    Tour: lambda config, least: TourAggregator(min_verdicts=least, judge_weights=config.judge_weights),
    EmpiricalBayes: lambda config, least: EmpiricalBayesAggregator(config, min_verdicts=least),
}


def build_aggregator(config: AggregatorConfig, *, min_verdicts: int = 1) -> Aggregator:
    """The aggregator that a recipe's `rewards.aggregator` asks for."""
    return _BUILDERS[type(config)](config, min_verdicts)


def reward_unit(config: AggregatorConfig, kind: VerdictKind) -> RewardUnit:
    """What the rewards are that this aggregator makes of this kind of verdict."""
    strengths = isinstance(config, EmpiricalBayes) and config.score_rewards == "strength"
    return "strength" if kind == "score" and strengths else "probability"
