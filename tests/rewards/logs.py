"""Match logs for tests, built by hand."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import strategies as st

from rewards.types import Call, Match, MatchLog, Pairing, Verdict, VerdictKind

Vote = tuple[int, int, float | None]
"""(shown first, shown second, verdict or None)."""


def log_of(
    votes: Iterable[Vote], num_candidates: int, kind: VerdictKind = "hard", *, symmetric: bool = False
) -> MatchLog:
    """One match per unordered pair; votes about the same pair are its calls."""
    calls: dict[Pairing, list[Call]] = {}
    for first, second, value in votes:
        verdict = Verdict(value) if value is not None else Verdict(None, "timeout")
        calls.setdefault(Pairing(min(first, second), max(first, second)), []).append(
            Call(first, second, verdict, "test")
        )
    matches = tuple(Match(pairing, tuple(asked)) for pairing, asked in calls.items())
    return MatchLog(num_candidates, kind, matches, symmetric)


def both_orders(votes: Iterable[Vote], kind: VerdictKind = "hard") -> list[Vote]:
    """Adds to every vote the same judgement with the seats swapped."""
    seen: list[Vote] = []
    for first, second, value in votes:
        swapped = None if value is None else (-value if kind == "score" else 1.0 - value)
        seen += [(first, second, value), (second, first, swapped)]
    return seen


def relabelled(log: MatchLog, new_slot: list[int]) -> MatchLog:
    """The same tournament with candidate i renamed to new_slot[i]."""
    votes = [
        (new_slot[call.first], new_slot[call.second], call.verdict.value)
        for match in log.matches
        for call in match.calls
    ]
    return log_of(votes, log.num_candidates, log.kind, symmetric=log.symmetric)


def seats_swapped(log: MatchLog) -> MatchLog:
    """Every call with its seats swapped and its judgement kept."""
    votes: list[Vote] = []
    for match in log.matches:
        for call in match.calls:
            value = call.verdict.value
            if value is not None:
                value = -value if log.kind == "score" else 1.0 - value
            votes.append((call.second, call.first, value))
    return log_of(votes, log.num_candidates, log.kind, symmetric=log.symmetric)


@st.composite
def match_logs(draw: st.DrawFn, kind: VerdictKind, *, max_candidates: int = 6, symmetric: bool = False) -> MatchLog:
    """Anything a real tournament can produce: gaps, ties, failures, both orders or one, cycles, nothing at all."""
    num_candidates = draw(st.integers(2, max_candidates))
    value = {
        "hard": st.sampled_from([0.0, 0.5, 1.0]),
        "probability": st.integers(0, 20).map(lambda k: k / 20),
        "score": st.integers(-40, 40).map(lambda k: k / 8),
    }[kind]
    seats = [(i, j) for i in range(num_candidates) for j in range(num_candidates) if i != j]
    asked = draw(st.lists(st.sampled_from(seats), max_size=3 * num_candidates))
    return log_of(
        [(first, second, draw(st.one_of(value, value, st.none()))) for first, second in asked],
        num_candidates,
        kind,
        symmetric=symmetric,
    )
