"""Who wins which criterion: win rates per criterion, beside the group's rewards."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.types import Match


def criterion_win_rates(matches: Sequence[Match], num_candidates: int) -> dict[str, list[float | None]]:
    """By criterion, the share of verdicts that each slot wins on it, a level one counting half; in [0, 1].

    A slot's verdicts on a criterion are averaged within a match first, so that a match shown in two orders counts once.
    None for a slot without any. Criteria in order of their names; empty where no verdict says anything of criteria.
    """
    sums: dict[str, list[list[float]]] = {}
    for match in matches:
        seen: dict[str, list[float]] = {}
        for call in match.calls:
            for name, value in call.verdict.criteria.items():
                from_a = value if call.first == match.pairing.a else -value
                seen.setdefault(name, []).append(0.5 + 0.5 * ((from_a > 0.0) - (from_a < 0.0)))
        for name, wins in seen.items():
            slots = sums.setdefault(name, [[] for _ in range(num_candidates)])
            share = sum(wins) / len(wins)
            slots[match.pairing.a].append(share)
            slots[match.pairing.b].append(1.0 - share)
    return {name: [sum(shares) / len(shares) if shares else None for shares in sums[name]] for name in sorted(sums)}
