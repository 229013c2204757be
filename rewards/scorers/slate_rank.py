"""Scores of an answer that chooses a slate and ranks it: by phase, or by place of the ranking.

Reads `parsed.fields["slate"]` and `["rank"]` (ids in the order given) and the prompt's field `relevant`, JSON
{id: grade above 0}. A malformed answer has one segment and one reward, the format penalty; other segments have none, so
that its penalty raises nobody's ranking.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from rewards.errors import UserError
from rewards.scorer_config import ItemRankScorer, SlateRankScorer
from rewards.scorers.ranking import f1, ndcg, recall, suffix_gains
from rewards.types import Candidate, Prompt, Scored

_GRADES = TypeAdapter(
    Annotated[dict[str, Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]], Field(min_length=1)]
)


def score_phases(config: SlateRankScorer, prompt: Prompt, candidate: Candidate) -> Scored:
    """Segments `slate` and `rank`. Raises UserError: the task does not give what is read here."""
    grades = read_grades(prompt)
    if candidate.parsed.malformed is not None:
        return malformed_score(candidate, grades, config.format_penalty, config.report_at)
    slate, ranking = read_lists(candidate)
    coverage = (recall if config.coverage == "recall" else f1)(slate, grades)
    utility = ndcg(ranking, grades, config.ndcg_at, ideal_of=slate if config.idcg_scope == "slate" else None)
    return Scored(
        reward=coverage + config.rank_weight * (utility or 0.0),
        segments={"slate": coverage, "rank": utility},
        figures=figures(slate, ranking, grades, config.report_at),
    )


def score_items(config: ItemRankScorer, prompt: Prompt, candidate: Candidate) -> Scored:
    """Segments `item1`, `item2`, ..; the reward as a whole is what they add up to, each gain counted once."""
    grades = read_grades(prompt)
    if candidate.parsed.malformed is not None:
        return malformed_score(candidate, grades, config.format_penalty, config.report_at)
    slate, ranking = read_lists(candidate)
    own = [grades.get(name, 0.0) for name in ranking]
    suffix = suffix_gains(ranking, grades)
    gains = suffix if config.gain == "log" else own
    return Scored(
        reward=suffix[0] if config.gain == "log" else sum(own),
        segments={f"item{place}": gain for place, gain in enumerate(gains, start=1)},
        figures=figures(slate, ranking, grades, config.report_at),
    )


def figures(
    slate: Sequence[str], ranking: Sequence[str], grades: Mapping[str, float], report_at: Sequence[int]
) -> dict[str, float | None]:
    """What is logged of a well-formed answer.

    slate_miss: share of the relevant items that the slate lacks; rank_drop: share that it has and the ranking lacks.
    Recall of the whole ranking is what the two leave of 1.
    """
    in_slate, in_rank = recall(slate, grades), recall(ranking, grades)
    found: dict[str, float | None] = {"well_formed": 1.0}
    for k in report_at:
        found[f"recall@{k}"] = recall(ranking[:k], grades)
        found[f"ndcg@{k}"] = ndcg(ranking, grades, k)
    return found | {
        "slate_recall": in_slate,
        "slate_miss": 1.0 - in_slate,
        "rank_drop": in_slate - in_rank,
        "slate_items": float(len(slate)),
        "rank_items": float(len(ranking)),
    }


def malformed_score(
    candidate: Candidate, grades: Mapping[str, float], penalty: float, report_at: Sequence[int]
) -> Scored:
    """The penalty for every segment that the answer has; it finds nothing, and its lists have no length."""
    nothing = {name: 0.0 for k in report_at for name in (f"recall@{k}", f"ndcg@{k}")}
    return Scored(
        reward=-penalty,
        segments={span.name: -penalty for span in candidate.parsed.spans},
        figures={"well_formed": 0.0, **nothing, "slate_recall": 0.0, "slate_miss": 1.0, "rank_drop": 0.0},
    )


def read_grades(prompt: Prompt) -> dict[str, float]:
    """The relevant items of a prompt's pool. Raises UserError: the field is missing, or is not as told above."""
    if "relevant" not in prompt.fields:
        raise UserError(f"rewards.scorer: prompt {prompt.id} has no field 'relevant'; use task.kind slate_rank")
    try:
        return _GRADES.validate_json(prompt.fields["relevant"])
    except ValidationError as error:
        raise UserError(
            f"rewards.scorer: prompt {prompt.id}, field 'relevant': {error.errors()[0]['msg']}; give a JSON object of "
            'grades above 0 by item, such as {"a": 1}'
        ) from None


def read_lists(candidate: Candidate) -> tuple[list[str], list[str]]:
    """Slate and ranking of a well-formed answer."""
    fields: Mapping[str, Any] = candidate.parsed.fields
    if "slate" not in fields or "rank" not in fields:
        raise UserError("rewards.scorer: the task reads no slate and rank out of its answers; use task.kind slate_rank")
    return fields["slate"], fields["rank"]
