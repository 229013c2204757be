"""Recall, F1, DCG and NDCG by hand and against ir-measures; the scores of slates, rankings and places."""

from __future__ import annotations

import json
from math import log2
from typing import Any, get_args

import ir_measures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import Qrel, R, ScoredDoc, nDCG

from rewards.errors import UserError
from rewards.scorer_config import ItemRankScorer, SlateRankScorer
from rewards.scorers import build_scorer
from rewards.scorers.ranking import dcg, f1, ndcg, recall, suffix_gains
from rewards.types import Candidate, ParsedAnswer, Prompt, Scored, TextSpan

GRADES = {"a": 1.0, "b": 1.0, "c": 1.0}
THIRD = 1 / 3


def test_metrics_by_hand() -> None:
    assert recall(["a", "x", "b"], GRADES) == pytest.approx(2 / 3)
    # 2 hits, 3 chosen, 3 relevant: precision = recall = 2/3
    assert f1(["a", "x", "b"], GRADES) == pytest.approx(2 / 3)
    # 1 hit, 1 chosen: precision 1, recall 1/3 -> 2/3 / (4/3)
    assert f1(["a"], GRADES) == pytest.approx(0.5)
    # places 1 and 3: 1/log2(2) + 1/log2(4)
    assert dcg([1.0, 0.0, 1.0]) == 1.5
    # ideal of three: 1 + 1/log2(3) + 1/2
    assert ndcg(["a", "x", "b"], GRADES, 5) == pytest.approx(1.5 / (1.5 + 1 / log2(3)))
    # only the two that the slate holds: 1 + 1/log2(3)
    assert ndcg(["a", "x", "b"], GRADES, 5, ideal_of=["a", "b", "x"]) == pytest.approx(1.5 / (1 + 1 / log2(3)))
    assert ndcg(["x"], GRADES, 5) == 0.0
    assert ndcg(["x"], GRADES, 5, ideal_of=["x", "y"]) is None
    # k = 1: the ideal is cut at k too
    assert ndcg(["a", "x"], GRADES, 1) == 1.0
    assert suffix_gains(["a", "x", "b"], GRADES) == [1.5, 0.5, 0.5]


@settings(max_examples=60)
@given(
    st.permutations([f"d{n}" for n in range(8)]),
    st.integers(1, 8),
    st.dictionaries(st.sampled_from([f"d{n}" for n in range(10)]), st.integers(1, 3), min_size=1, max_size=6),
    st.integers(1, 9),
)
def test_metrics_agree_with_ir_measures(names: list[str], size: int, grades: dict[str, int], k: int) -> None:
    ranking = names[:size]
    qrels = [Qrel("q", name, grade) for name, grade in grades.items()]
    run = [ScoredDoc("q", name, -float(place)) for place, name in enumerate(ranking)]
    oracle = ir_measures.calc_aggregate([nDCG @ k, R @ k], qrels, run)
    as_floats = {name: float(grade) for name, grade in grades.items()}
    assert ndcg(ranking, as_floats, k) == pytest.approx(oracle[nDCG @ k])
    assert recall(ranking[:k], as_floats) == pytest.approx(oracle[R @ k])


# --- scorers ------------------------------------------------------------------------------------------------------

PROMPT = Prompt("p", "choose", fields={"relevant": json.dumps(GRADES)})


def answer(slate: list[str], rank: list[str]) -> Candidate:
    return Candidate("r", "text", parsed=ParsedAnswer(fields={"slate": slate, "rank": rank}))


def malformed(name: str) -> Candidate:
    return Candidate("r", "text", parsed=ParsedAnswer(spans=(TextSpan(0, name, 0, 4),), malformed="has no tags"))


def phases(slate: list[str], rank: list[str], **knobs: Any) -> Scored:
    return build_scorer(SlateRankScorer(kind="slate_rank", **knobs))(PROMPT, answer(slate, rank))


def test_each_phase_has_its_own_reward() -> None:
    scored = phases(["a", "b", "x", "y"], ["x", "a"])
    utility = (1 / log2(3)) / (1.5 + 1 / log2(3))
    assert scored.segments == {"slate": pytest.approx(2 / 3), "rank": pytest.approx(utility)}
    assert scored.reward == pytest.approx(2 / 3 + utility)
    assert phases(["a", "b", "x", "y"], ["x", "a"], rank_weight=0.5).reward == pytest.approx(2 / 3 + utility / 2)
    # 2 hits of 4 chosen and 3 relevant
    assert phases(["a", "b", "x", "y"], ["x", "a"], coverage="f1").segments["slate"] == pytest.approx(4 / 7)


def test_what_the_slate_misses_can_be_kept_from_the_ranking() -> None:
    assert phases(["a", "x"], ["a", "x"], idcg_scope="slate").segments["rank"] == 1.0
    assert phases(["a", "x"], ["a", "x"]).segments["rank"] == pytest.approx(1 / (1.5 + 1 / log2(3)))
    nothing = phases(["x", "y"], ["x"], idcg_scope="slate")
    assert (nothing.reward, nothing.segments) == (0.0, {"slate": 0.0, "rank": None})


def test_errors_are_split_between_the_phases() -> None:
    figures = phases(["a", "b", "x"], ["x", "a"]).figures
    assert figures["slate_miss"] == pytest.approx(THIRD)  # c
    assert figures["rank_drop"] == pytest.approx(THIRD)  # b
    assert figures["recall@5"] == pytest.approx(1 - 2 * THIRD)
    assert (figures["slate_items"], figures["rank_items"], figures["well_formed"]) == (3.0, 2.0, 1.0)
    assert set(figures) >= {"recall@3", "ndcg@3", "ndcg@5"}


def test_a_malformed_answer_is_penalised_once() -> None:
    scored = build_scorer(SlateRankScorer(kind="slate_rank", format_penalty=0.3))(PROMPT, malformed("slate"))
    assert (scored.reward, scored.segments) == (-0.3, {"slate": -0.3})
    assert scored.figures["recall@5"] == scored.figures["well_formed"] == 0.0
    assert scored.figures["slate_miss"] == 1.0
    assert "rank_items" not in scored.figures
    assert build_scorer(ItemRankScorer(kind="item_rank"))(PROMPT, malformed("item1")).segments == {"item1": -0.2}


def test_each_place_has_its_own_reward() -> None:
    log = build_scorer(ItemRankScorer(kind="item_rank"))(PROMPT, answer(["a", "b", "x"], ["a", "x", "b"]))
    assert log.segments == {"item1": 1.5, "item2": 0.5, "item3": 0.5}
    assert log.reward == 1.5
    own = build_scorer(ItemRankScorer(kind="item_rank", gain="exp_inf"))(PROMPT, answer(["a", "x"], ["x", "a"]))
    assert (own.segments, own.reward) == ({"item1": 0.0, "item2": 1.0}, 1.0)


CHANGES: dict[type[SlateRankScorer | ItemRankScorer], dict[str, Any]] = {
    SlateRankScorer: {
        "coverage": "f1",
        "ndcg_at": 1,
        "idcg_scope": "slate",
        "rank_weight": 0.5,
        "format_penalty": 0.3,
        "report_at": (1,),
    },
    ItemRankScorer: {"gain": "exp_inf", "format_penalty": 0.3, "report_at": (1,)},
}


@pytest.mark.parametrize("kind", CHANGES)
def test_each_key_of_a_scorer_changes_what_it_says(kind: type[SlateRankScorer | ItemRankScorer]) -> None:
    def said(**knobs: Any) -> list[Scored]:
        score = build_scorer(kind.model_validate({"kind": name} | knobs))
        return [score(PROMPT, one) for one in (answer(["a", "b", "x", "y"], ["x", "a"]), malformed("slate"))]

    (name,) = get_args(kind.model_fields["kind"].annotation)
    assert CHANGES[kind].keys() == kind.model_fields.keys() - {"kind"}
    for key, value in CHANGES[kind].items():
        assert said(**{key: value}) != said(), key


names = st.sampled_from(["a", "b", "c", "x", "y", "z"])


@given(st.data())
def test_the_order_of_a_slate_is_nothing_and_that_of_a_ranking_is_the_rankings(data: st.DataObject) -> None:
    slate = data.draw(st.lists(names, min_size=1, max_size=6, unique=True))
    rank = data.draw(st.permutations(slate))[: data.draw(st.integers(1, len(slate)))]
    scored = phases(slate, rank)
    assert phases(data.draw(st.permutations(slate)), rank).segments == scored.segments
    one, other = data.draw(st.integers(0, len(rank) - 1)), data.draw(st.integers(0, len(rank) - 1))
    swapped = list(rank)
    swapped[one], swapped[other] = swapped[other], swapped[one]
    after = phases(slate, swapped)
    assert after.segments["slate"] == scored.segments["slate"]
    relevant = [name in GRADES for name in rank[:5]] == [name in GRADES for name in swapped[:5]]
    assert (after.segments["rank"] == pytest.approx(scored.segments["rank"])) == relevant


@pytest.mark.parametrize(
    ("prompt", "candidate", "message"),
    [
        (Prompt("p7", "q"), answer(["a"], ["a"]), "prompt p7 has no field 'relevant'"),
        (PROMPT, Candidate("r", "text"), "the task reads no slate and rank"),
        *(
            (
                Prompt("p7", "q", fields={"relevant": text}),
                answer(["a"], ["a"]),
                "p7, field 'relevant': .*; give a JSON",
            )
            for text in (
                *("garbage", "", "{}", "[]", '["a"]', '"a"', "3", "null", '{"a": "x"}', '{"a": null}', "\ud800"),
                *('{"a": 0}', '{"a": -1}', '{"a": NaN}', '{"a": 1e999}', f'{{"a": 1{"0" * 400}}}', '{"a":' * 9999),
            )
        ),
    ],
)
def test_another_task_is_named_as_the_cause(prompt: Prompt, candidate: Candidate, message: str) -> None:
    for config in (SlateRankScorer(kind="slate_rank"), ItemRankScorer(kind="item_rank")):
        with pytest.raises(UserError, match=message) as error:
            build_scorer(config)(prompt, candidate)
        assert "\n" not in str(error.value)
