"""A group's match log as flat rows, one per judge call, for a table such as Parquet."""

from __future__ import annotations

from collections.abc import Sequence

from rewards.types import GroupKey, GroupScore, Prompt


def match_rows(
    key: GroupKey, prompt: Prompt, texts: Sequence[str | None], score: GroupScore
) -> list[dict[str, str | int | float | None]]:
    """One row per call, in the order of the match log; every row has the same keys.

    Args:
        texts: the group's answers by slot; None where a slot has no rollout.
    """
    return [
        {
            "prompt_id": prompt.id,
            "group_id": key.group_id,
            "attempt": key.attempt,
            "a": match.pairing.a,
            "b": match.pairing.b,
            "round": match.pairing.round,
            "first": call.first,
            "second": call.second,
            "prompt_text": prompt.text,
            "first_text": texts[call.first],
            "second_text": texts[call.second],
            "kind": score.kind,
            "value": call.verdict.value,
            "failure": call.verdict.failure,
            "reason": call.verdict.reason,
            "judge": call.judge,
            "latency_s": call.verdict.latency_s,
            "tokens_in": call.verdict.tokens_in,
            "tokens_out": call.verdict.tokens_out,
            "cost": call.verdict.cost,
            "attempts": call.verdict.attempts,
        }
        for match in score.matches
        for call in match.calls
    ]
