"""Which groups of a step are learned from, and what `rl.dynamic_sampling` did about the others: pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rewards.types import GroupScore
from rl.advantages import build_train_advantages
from rl.config import DynamicSamplingConfig
from rl.criteria import criterion_rewards


def teaching(
    scores: Sequence[GroupScore],
    config: DynamicSamplingConfig,
    *,
    min_group: int,
    criteria: Iterable[str] = (),
    uses_segments: bool = False,
) -> list[bool]:
    """Per group: whether it teaches something. See `DynamicSamplingConfig`.

    Where segments are learned from, the rewards of one of them must differ; where criteria are, one of those must tell
    the group's rollouts apart.
    """
    names = tuple(criteria)
    return [
        any(_differ(score, rewards, min_group) for rewards in _columns(score, names, uses_segments))
        and (score.reliability is None or score.reliability >= config.min_reliability)
        for score in scores
    ]


def _columns(score: GroupScore, criteria: Sequence[str], uses_segments: bool) -> list[Sequence[float | None]]:
    """What the group is learned from."""
    if criteria:
        return [criterion_rewards(score, name) for name in criteria]
    if uses_segments and score.segment_rewards:  # a step without any is refused where its batch is built
        return list(score.segment_rewards.values())
    return [score.rewards]


def _differ(score: GroupScore, rewards: Sequence[float | None], min_group: int) -> bool:
    built = build_train_advantages([rewards], kind="mean", min_group=min_group, baseline_ids=[score.baseline_ids])
    return bool(built.num_dropped == 0 and built.num_zero_signal == 0)


def refill_metrics(kept: Sequence[bool], *, num_wanted: int) -> dict[str, float]:
    """num_wanted: groups that a full step learns from; what was sampled beyond them came in the place of others."""
    num_kept = sum(kept)
    return {
        "reward/num_groups_kept": float(num_kept),
        "reward/num_groups_refilled": float(len(kept) - num_wanted),
        "reward/num_groups_given_up": float(num_wanted - num_kept),
    }
