"""A run's groups and matches as preference pairs, for DPO-style training elsewhere (`podium pairs`).

One JSON object a line, in the conversational preference format that TRL's trainers read:
{"prompt": [messages], "chosen": [assistant message], "rejected": [assistant message]}, and where the pair comes from.

best_worst, all   by reward: what the aggregator made of a group's matches
matches           by the judge's own word: the pairs that it was asked about
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import Any, Literal

from launch.run_dir import RunDir
from rewards.errors import UserError
from rewards.types import Call, GroupScore, Match, Pairing, Verdict
from rollouts.types import Group

Which = Literal["best_worst", "all", "matches"]


def run_pairs(run: RunDir, *, which: Which = "best_worst", min_margin: float = 0.0) -> Iterator[dict[str, Any]]:
    """The pairs of all steps, in order.

    Args:
        which: the best against the worst rollout of each group, every pair of different reward, or every pair that the
            judge compared and did not find level.
        min_margin: pairs whose rewards differ by less, or by nothing, are left out; of `matches`, those whose better
            answer leads by less: by its share of the verdicts over the other's, or by the judge's score.

    Raises:
        UserError: the run has no groups, or no matches where they are asked for.
    """
    steps = run.steps("groups")
    if not steps:
        raise UserError(f"{run.path} has no groups yet; let it finish a step")
    for step in steps:
        for group, score in zip(*run.load_groups(step), strict=True):
            if which == "matches" and score.kind is None and not score.rankings:
                raise UserError(f"{run.path}: no judge compared its rollouts; leave --matches out")
            for pair in group_pairs(group, score, which=which, min_margin=min_margin):
                yield pair | {"step": step}


def group_pairs(group: Group, score: GroupScore, *, which: Which, min_margin: float) -> list[dict[str, Any]]:
    """Pairs of one group; rollouts that were lost are in none, and by reward none that were not scored."""
    if which == "matches":
        return [
            _row(group, score, better, worse) | {"verdict": verdict}
            for better, worse, verdict, lead in _judged(score)
            if lead >= min_margin
        ]
    ranked = sorted(
        ((reward, index) for index, reward in enumerate(score.rewards) if reward is not None and group.rollouts[index]),
        key=lambda one: (-one[0], one[1]),
    )
    pairs = combinations(ranked, 2) if which == "all" else [(ranked[0], ranked[-1])] if len(ranked) > 1 else []
    return [
        _row(group, score, better[1], worse[1])
        for better, worse in pairs
        if better[0] > worse[0] and better[0] - worse[0] >= min_margin
    ]


def _judged(score: GroupScore) -> Iterator[tuple[int, int, float, float]]:
    """Better slot, worse slot, the merged verdict seen from the better one, its lead; all meetings of two together."""
    kind = score.kind if score.kind is not None and not score.rankings else "hard"
    calls: dict[tuple[int, int], list[Call]] = {}
    for match in score.matches:
        calls.setdefault((match.pairing.a, match.pairing.b), []).extend(match.calls)
    for ranking in score.rankings:
        places = {} if ranking.places is None else dict(zip(ranking.shown, ranking.places, strict=True))
        for a, b in combinations(sorted(places), 2):
            value = 0.5 if places[a] == places[b] else float(places[a] < places[b])
            calls.setdefault((a, b), []).append(Call(a, b, Verdict(value), ranking.judge, ranking.weight))
    for (a, b), its in sorted(calls.items()):
        verdict = Match(Pairing(a, b), tuple(its)).outcome(kind)
        if verdict is None:
            continue
        if kind == "score":
            better, seen, lead = verdict > 0.0, abs(verdict), abs(verdict)
        else:
            better, seen, lead = verdict > 0.5, max(verdict, 1.0 - verdict), abs(2.0 * verdict - 1.0)
        if lead > 0.0:
            yield (a, b, seen, lead) if better else (b, a, seen, lead)


def _row(group: Group, score: GroupScore, better: int, worse: int) -> dict[str, Any]:
    return {
        "prompt": [dict(message) for message in group.prompt.messages],
        "chosen": _answer(group, better),
        "rejected": _answer(group, worse),
        "chosen_reward": score.rewards[better],
        "rejected_reward": score.rewards[worse],
        "reliability": score.reliability,
        "group": str(group.key),
    }


def _answer(group: Group, index: int) -> Sequence[dict[str, str]]:
    rollout = group.rollouts[index]
    assert rollout is not None
    return [{"role": "assistant", "content": rollout.text}]
