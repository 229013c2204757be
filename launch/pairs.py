"""A run's groups as preference pairs, for DPO-style training elsewhere (`podium pairs`).

One JSON object a line, in the conversational preference format that TRL's trainers read:
{"prompt": [messages], "chosen": [assistant message], "rejected": [assistant message]}, and where the pair comes from.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Literal

from launch.run_dir import RunDir
from rewards.errors import UserError
from rewards.types import GroupScore
from rollouts.types import Group

Which = Literal["best_worst", "all"]


def run_pairs(run: RunDir, *, which: Which = "best_worst", min_margin: float = 0.0) -> Iterator[dict[str, Any]]:
    """The pairs of all steps, in order.

    Args:
        which: the best against the worst rollout of each group, or every pair of different reward.
        min_margin: pairs whose rewards differ by less, or by nothing, are left out.

    Raises:
        UserError: the run has no groups.
    """
    steps = run.steps("groups")
    if not steps:
        raise UserError(f"{run.path} has no groups yet; let it finish a step")
    for step in steps:
        for group, score in zip(*run.load_groups(step), strict=True):
            for pair in group_pairs(group, score, which=which, min_margin=min_margin):
                yield pair | {"step": step}


def group_pairs(group: Group, score: GroupScore, *, which: Which, min_margin: float) -> list[dict[str, Any]]:
    """Pairs of one group; rollouts that were lost or not scored are in none."""
    ranked = sorted(
        ((reward, index) for index, reward in enumerate(score.rewards) if reward is not None and group.rollouts[index]),
        key=lambda one: (-one[0], one[1]),
    )
    pairs = combinations(ranked, 2) if which == "all" else [(ranked[0], ranked[-1])] if len(ranked) > 1 else []
    return [
        _row(group, score, better, worse)
        for better, worse in pairs
        if better[0] > worse[0] and better[0] - worse[0] >= min_margin
    ]


def _row(group: Group, score: GroupScore, better: tuple[float, int], worse: tuple[float, int]) -> dict[str, Any]:
    return {
        "prompt": [dict(message) for message in group.prompt.messages],
        "chosen": _answer(group, better[1]),
        "rejected": _answer(group, worse[1]),
        "chosen_reward": better[0],
        "rejected_reward": worse[0],
        "reliability": score.reliability,
        "group": str(group.key),
    }


def _answer(group: Group, index: int) -> Sequence[dict[str, str]]:
    rollout = group.rollouts[index]
    assert rollout is not None
    return [{"role": "assistant", "content": rollout.text}]
