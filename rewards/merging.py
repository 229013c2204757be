"""What both orders of a match say together. Merging is scoring: the match log keeps every verdict as it was given.

sum             every verdict counts as it is; a topology goes by their weighted mean
agree_else_tie  two orders of one judge that name different winners, or of which one is a tie, count as two ties
                (PRP, arXiv 2306.17563); those that agree count as they are; one alone is one vote

How noisy a judge is shows in what it said, before any merging: `VerdictTable.as_said`.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

from rewards.types import Call, Match, Merge, VerdictKind


def merged_match(match: Match, kind: VerdictKind, merge: Merge) -> Match:
    """The match as it is scored."""
    if merge == "sum":
        return match
    leans: defaultdict[str, dict[int, int]] = defaultdict(dict)
    level = 0.0 if kind == "score" else 0.5
    for call in match.calls:
        value = call.verdict.value
        if value is not None:
            lean = (value > level) - (value < level)
            leans[call.judge][call.first] = lean if call.first == match.pairing.a else -lean
    tied = {judge for judge, of_judge in leans.items() if len(set(of_judge.values())) > 1}

    def scored(call: Call) -> Call:
        if call.judge not in tied or call.verdict.value is None:
            return call
        return replace(call, verdict=replace(call.verdict, value=level))

    return replace(match, calls=tuple(map(scored, match.calls))) if tied else match
