"""Objectives: presets over the shared knobs of the one `policy_loss`, and the normalisers that go with them.

Shapes: S segment buckets; bucket 0 holds the tokens without a segment (id -1), bucket s+1 those of segment s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from rewards.errors import UserError
from rl.config import AdvantageKind, ObjectiveConfig

RatioLevel = Literal["token", "segment", "sequence"]
Aggregation = Literal["token", "sequence", "constant"]
RewardKind = Literal["win_probability", "score", "metric"]


@dataclass(frozen=True, slots=True)
class Objective:
    """A resolved objective: every knob of `policy_loss` has a value.

    advantage: kind of `compute_advantages`. ratio_level: over which tokens the log-ratio is averaged before the ratio
    is clipped to [1 - clip_low, 1 + clip_high]. aggregation: `token` = mean over all loss tokens; `sequence` = mean
    over the tokens of each rollout, then over rollouts; `constant` = sum / (constant_tokens x rollouts); others have
    constant_tokens None. kl_coef: weight of the k3 divergence from the reference, under the same aggregation.
    """

    kind: str
    advantage: AdvantageKind
    ratio_level: RatioLevel
    clip_low: float
    clip_high: float
    aggregation: Aggregation
    constant_tokens: int | None
    kl_coef: float


@dataclass(frozen=True, slots=True)
class Preset:
    """A published setting. `metric_advantage` is its advantage where the rewards do not call for one themselves."""

    ratio_level: RatioLevel
    clip_low: float
    clip_high: float
    aggregation: Aggregation
    metric_advantage: AdvantageKind
    refuses: tuple[AdvantageKind, ...] = ()
    """Kinds of advantage that contradict what the preset is."""


PRESETS: dict[str, Preset] = {
    # arXiv 2402.03300, eq. 3
    "grpo": Preset("token", clip_low=0.2, clip_high=0.2, aggregation="sequence", metric_advantage="mean_std"),
    # arXiv 2503.20783: GRPO without the two biases, division by the answer's length and by the group's std
    "dr_grpo": Preset(
        "token", clip_low=0.2, clip_high=0.2, aggregation="constant", metric_advantage="mean", refuses=("mean_std",)
    ),
    # arXiv 2503.14476, eq. 8. podium's default, so its advantage leaves small differences small (the paper: mean_std)
    "dapo": Preset("token", clip_low=0.2, clip_high=0.28, aggregation="token", metric_advantage="mean"),
}

UNDOES_SHRINKAGE: tuple[AdvantageKind, ...] = ("mean_std", "rank_quantile")
"""Kinds that bring every group to full size, however little the judge could tell its rollouts apart."""


def resolve_objective(config: ObjectiveConfig, *, reward_kind: RewardKind, shrunk: bool, max_tokens: int) -> Objective:
    """Fills every knob: what the recipe sets, else the preset's value.

    The default advantage follows the rewards first and the preset second:

    | rewards                       | grpo     | dr_grpo  | dapo     | refused when set                                |
    |-------------------------------|----------|----------|----------|-------------------------------------------------|
    | win_probability               | constant | constant | constant |                                                 |
    | score (centred, batch-scaled) | mean     | mean     | mean     | constant (its divisor is for win rates)         |
    | metric                        | mean_std | mean     | mean     | constant (the same)                             |
    | metric, shrunk                | mean     | mean     | mean     | constant (the same)                             |
    | any, shrunk                   |          |          |          | mean_std, rank_quantile (undo the shrinkage)    |
    | any                           |          | x        |          | mean_std (Dr.GRPO is GRPO without it)           |

    Args:
        reward_kind: what a reward's number means.
        shrunk: True if the aggregator has a posterior, so that a group it cannot tell apart is already near level.
        max_tokens: `rollouts.max_tokens`, the default of `constant_tokens`.

    Raises:
        UserError: an advantage that the rewards or the preset rule out, or a knob without effect.
    """
    preset = PRESETS[config.kind]
    advantage = config.advantage or _default_advantage(preset, reward_kind, shrunk)
    if advantage == "constant" and reward_kind != "win_probability":
        raise UserError(
            f"rl.objective.advantage: `constant` divides by the std of a perfect order's win rates, but these rewards "
            f"are of kind {reward_kind}; use `mean` or `batch_std`"
        )
    if shrunk and advantage in UNDOES_SHRINKAGE:
        raise UserError(
            f"rl.objective.advantage: `{advantage}` brings every group to the same size, which undoes the shrinkage of "
            "the aggregator's posterior; use `constant`, `mean` or `batch_std`, or an aggregator without a posterior"
        )
    if advantage in preset.refuses:
        raise UserError(
            f"rl.objective.advantage: `{advantage}` contradicts kind {config.kind}, which is GRPO without division "
            "by the group's std; use `mean`, or kind: grpo"
        )
    aggregation = config.aggregation or preset.aggregation
    if config.constant_tokens is not None and aggregation != "constant":
        raise UserError(
            f"rl.objective.constant_tokens: has no effect with aggregation {aggregation}; remove it, or set "
            "aggregation: constant"
        )
    return Objective(
        kind=config.kind,
        advantage=advantage,
        ratio_level=preset.ratio_level,
        clip_low=preset.clip_low if config.clip_low is None else config.clip_low,
        clip_high=preset.clip_high if config.clip_high is None else config.clip_high,
        aggregation=aggregation,
        constant_tokens=(config.constant_tokens or max_tokens) if aggregation == "constant" else None,
        kl_coef=config.kl_coef,
    )


def _default_advantage(preset: Preset, reward_kind: RewardKind, shrunk: bool) -> AdvantageKind:
    if reward_kind == "win_probability":
        return "constant"
    if reward_kind == "score" or (shrunk and preset.metric_advantage in UNDOES_SHRINKAGE):
        return "mean"
    return preset.metric_advantage


def compute_normalizers(
    segment_ids: Iterable[npt.ArrayLike], masks: Iterable[npt.ArrayLike], *, objective: Objective
) -> npt.NDArray[np.float64]:
    """normalizers_S: what `policy_loss` divides each segment bucket's sum by, over the whole optimizer batch.

    token: loss tokens of the bucket. sequence: rollouts with a loss token in the bucket. constant: constant_tokens x
    rollouts with any loss token, the same for every bucket, so that segments with equal advantages give the loss that
    they give without segments. Sums over rollouts: those of a batch's parts add up, padded to the longest S.

    Args:
        segment_ids: one row of ids per rollout, [T] each and ragged, or a [B, T] array. -1 = no segment.
        masks: rows of the same lengths, true at loss tokens.
    """
    counts_rows = [
        np.bincount(np.asarray(ids)[np.asarray(mask, dtype=bool)].astype(np.int64) + 1)
        for ids, mask in zip(segment_ids, masks, strict=True)
    ]
    num_buckets = max((len(row) for row in counts_rows), default=0) or 1
    counts_BS = np.zeros((len(counts_rows), num_buckets))
    for b, row in enumerate(counts_rows):
        counts_BS[b, : len(row)] = row
    if objective.aggregation == "token":
        return counts_BS.sum(axis=0)
    if objective.aggregation == "sequence":
        return (counts_BS > 0).sum(axis=0).astype(np.float64)
    if objective.constant_tokens is None:
        raise ValueError("aggregation `constant` needs constant_tokens")
    num_rollouts = int(counts_BS.any(axis=1).sum())
    return np.full(num_buckets, float(objective.constant_tokens * num_rollouts))
