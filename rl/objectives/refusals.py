"""Combinations of an objective's knobs that make no sense, each with its reason and its cure. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NoReturn

from rewards.errors import UserError
from rl.objective_config import AdvantageKind, ObjectiveConfig
from rl.objectives.config_faults import NO_RATIO, config_faults
from rl.objectives.objective import Objective
from rl.objectives.preset import Preset

RewardKind = Literal["win_probability", "score", "metric"]

UNDOES_SHRINKAGE: tuple[AdvantageKind, ...] = ("mean_std", "rank_quantile")
"""Kinds that bring every group to full size, however little the judge could tell its rollouts apart."""


def check_config(config: ObjectiveConfig, preset: Preset) -> None:
    """What a recipe sets although nothing reads it, or nothing good can come of it.

    Raises:
        UserError: opens with the key's path.
    """
    for key, reason in config_faults(config, preset):
        _refuse(key, reason)


def check_objective(
    objective: Objective,
    *,
    preset: Preset,
    reward_kind: RewardKind,
    shrunk: bool,
    has_segments: bool | None,
    updates_per_step: int,
    staleness: int,
) -> None:
    """What the resolved objective, the rewards and the rest of the recipe rule out together.

    Raises:
        UserError: opens with the key's path.
    """
    for key, reason in (
        *_advantage_faults(objective, preset, reward_kind, shrunk),
        *_loss_faults(objective, updates_per_step),
        *_staleness_faults(objective, staleness),
    ):
        _refuse(key, reason)
    if objective.uses_segments and has_segments is False:
        _refuse(
            "kind",
            f"{objective.kind} needs a task whose answers have segments with rewards of their own; use task.kind "
            "slate_rank with its rewards.scorer, a task and a target of your own, or a kind without segments",
        )


def _advantage_faults(
    objective: Objective, preset: Preset, reward_kind: RewardKind, shrunk: bool
) -> Iterator[tuple[str, str]]:
    advantage = objective.advantage
    if advantage == "constant" and reward_kind != "win_probability":
        yield (
            "advantage",
            "`constant` divides by the std of a perfect order's win rates, but these rewards are of kind "
            f"{reward_kind}; use `mean` or `batch_std`",
        )
    if shrunk and advantage in UNDOES_SHRINKAGE:
        yield (
            "advantage",
            f"`{advantage}` brings every group to the same size, which undoes the shrinkage of the aggregator's "
            "posterior; use `constant`, `mean` or `batch_std`, or an aggregator without a posterior",
        )
    if advantage in preset.refuses:
        yield (
            "advantage",
            f"`{advantage}` contradicts kind {objective.kind}, which is GRPO without division by the group's std; use "
            "`mean`, or kind: grpo",
        )
    if objective.focal_gamma > 0:
        key = "kind" if objective.kind == "focal" else "focal_gamma"
        if objective.uses_segments:
            yield key, "segments have a reward each, and the focal scale is of the whole answer's; remove it"
        elif reward_kind == "win_probability":
            yield (
                key,
                "the focal scale (1 - mean reward)^gamma is a constant here: inside a group the mean win rate is "
                "always 1/2; use rewards that say how good an answer is by itself, or kind: grpo",
            )
        elif reward_kind == "score" or shrunk:
            yield (
                key,
                "the focal scale needs rewards in [0, 1] whose mean is a group's success rate, and these strengths "
                "are centred in each group; use kind: grpo",
            )


def _loss_faults(objective: Objective, updates_per_step: int) -> Iterator[tuple[str, str]]:
    if objective.loss_kl_coef > 0 and objective.kl_estimator == "k1":
        yield (
            "kl_estimator",
            "k1's gradient is the score, whose mean is 0: in the loss it adds noise and pulls nowhere; use k2 or k3, "
            "or kl_in: reward",
        )
    if objective.kl_coef > 0 and objective.kl_in == "reward":
        if objective.uses_segments:
            yield "kl_in", "segments have a reward each, and the divergence is of the whole answer; use kl_in: loss"
        if objective.disco is not None:
            yield "kl_in", "kind disco reads only who beats whom, not how high a reward is; use kl_in: loss"
    if objective.dual_clip is not None and objective.dual_clip <= 1 + objective.clip_high:
        yield "dual_clip", f"must be more than the clip's upper bound, {1 + objective.clip_high:g}; raise it"
    if objective.surrogate == "gmpo":
        if objective.ratio_level == "token":
            yield "ratio_level", "gmpo is a mean over tokens; use sequence, or surrogate: clip"
        if objective.uses_segments and objective.ratio_level == "sequence":
            yield (
                "ratio_level",
                "gmpo needs one advantage for all tokens of its mean, and segments have one each; use segment",
            )
    if objective.surrogate == "reinforce" and objective.disco is None and updates_per_step > 1:
        yield (
            "surrogate",
            f"reinforce knows no old policy, so rl.updates_per_step {updates_per_step} would learn off policy "
            "unnoticed; use surrogate: clip, or one update",
        )
    if objective.disco is not None and objective.off_policy.is_active:
        yield "off_policy", "kind disco's scores are of whole answers; weights per token would tear them; remove it"


def _staleness_faults(objective: Objective, staleness: int) -> Iterator[tuple[str, str]]:
    """Rollouts of older weights need a loss that sees the probabilities they were sampled with.

    Recomputed old logprobs are those of the weights at the start of the batch: the ratio starts at 1 all the same, and
    what lies between sampling and learning goes uncorrected. Without a ratio only the weights are left, which make
    REINFORCE the truncated importance-sampled policy gradient.
    """
    if staleness == 0 or objective.bypass or objective.off_policy.weight != "none":
        return
    because = f"rl.staleness {staleness} learns from rollouts of older weights, and nothing here accounts for that"
    if objective.disco is not None:
        yield (
            "kind",
            f"{because}: kind disco takes answers for the present policy's own; use staleness 0, or another kind",
        )
        return
    cure = "set it to token or sequence (truncated importance sampling)"
    if objective.surrogate not in NO_RATIO:
        cure += ", or rl.objective.old_logprobs to bypass"
    else:
        because += f" (surrogate {objective.surrogate} knows no old policy)"
    yield "off_policy.weight", f"{because}: {cure}"


def _refuse(key: str, reason: str) -> NoReturn:
    raise UserError(f"rl.objective.{key}: {reason}")
