"""The slate_rank task: strict parsing, where the segments stand, sources with and without data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from rewards.errors import UserError
from rewards.types import ParsedAnswer, TextSpan
from rollouts.config import JsonlSource, SlateRankTask, SyntheticPools
from rollouts.tasks import build_task
from rollouts.tasks.pools import read_pools
from rollouts.tasks.slate_answer import parse_answer

POOL = {"a", "b", "c", "d7"}


def parse(text: str, **knobs: str) -> ParsedAnswer:
    return parse_answer(text, POOL, max_slate=3, max_rank=2, **knobs)  # pyright: ignore[reportArgumentType]


def texts(text: str, parsed: ParsedAnswer) -> dict[str, str]:
    return {span.name: text[span.start : span.end] for span in parsed.spans}


def test_both_lists_are_read_in_their_order() -> None:
    parsed = parse("<SLATE>c, a,d7</SLATE>\n<RANK> d7 c </RANK>\n")
    assert parsed.fields == {"slate": ["c", "a", "d7"], "rank": ["d7", "c"]}
    assert parsed.malformed is None


def test_phases_share_the_whole_answer_between_them() -> None:
    text = "let me see <SLATE>c,a</SLATE>\n<RANK>a</RANK> \n"
    assert texts(text, parse(text)) == {"slate": "let me see <SLATE>c,a</SLATE>", "rank": "\n<RANK>a</RANK> \n"}
    assert texts(text, parse(text, preamble="none"))["slate"] == "<SLATE>c,a</SLATE>"
    assert [span.id for span in parse(text).spans] == [0, 1]


def test_items_are_a_segment_per_place() -> None:
    text = "hm <SLATE>c,a</SLATE><RANK>a, c</RANK>"
    assert texts(text, parse(text, segments="items")) == {
        "item1": "hm <SLATE>c,a</SLATE><RANK>a",
        "item2": ", c</RANK>",
    }
    assert texts(text, parse(text, segments="items", preamble="none"))["item1"] == "<RANK>a"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "has 0 <SLATE> tags, not one"),
        ("<SLATE>a</SLATE>", "has 0 <RANK> tags, not one"),
        ("<SLATE>a</SLATE><RANK>a", "has 0 </RANK> tags, not one"),
        ("<SLATE><SLATE>a</SLATE><RANK>a</RANK>", "has 2 <SLATE> tags, not one"),
        ("<RANK>a</RANK><SLATE>a</SLATE>", "has its tags out of order"),
        ("<SLATE>a<RANK>a</SLATE></RANK>", "has its tags out of order"),
        ("<SLATE>a</SLATE> so <RANK>a</RANK>", "has text between its blocks"),
        ("<SLATE>a</SLATE><RANK>a</RANK>!", "has text behind its blocks"),
        ("<SLATE> </SLATE><RANK>a</RANK>", "has an empty slate"),
        ("<SLATE>a</SLATE><RANK></RANK>", "has an empty rank"),
        ("<SLATE>a;b</SLATE><RANK>a</RANK>", "names 'a;b', which is not in the pool"),
        ("<SLATE>a A</SLATE><RANK>a</RANK>", "names 'A', which is not in the pool"),
        ("<SLATE>a, a</SLATE><RANK>a</RANK>", "names an id twice in its slate"),
        ("<SLATE>a</SLATE><RANK>a a</RANK>", "names an id twice in its rank"),
        ("<SLATE>a b c d7</SLATE><RANK>a</RANK>", "has 4 ids in its slate, more than 3"),
        ("<SLATE>a b c</SLATE><RANK>a b c</RANK>", "has 3 ids in its rank, more than 2"),
        ("<SLATE>a b</SLATE><RANK>c</RANK>", "ranks 'c', which is not in its slate"),
    ],
)
def test_a_malformed_answer_is_one_segment(text: str, reason: str) -> None:
    assert parse(text) == ParsedAnswer(spans=(TextSpan(0, "slate", 0, len(text)),), malformed=reason)
    assert parse(text, segments="items").spans == (TextSpan(0, "item1", 0, len(text)),)


@given(st.text("<>/SLATERNK ab,c\n", max_size=60))
def test_nothing_that_is_written_breaks_the_parser(text: str) -> None:
    parsed = parse(text)
    assert (parsed.malformed is None) == bool(parsed.fields)


@given(st.permutations(["a", "b", "c"]), st.integers(1, 2))
def test_what_is_well_formed_comes_back(slate: list[str], num_ranked: int) -> None:
    text = f"<SLATE>{', '.join(slate)}</SLATE>\n<RANK>{', '.join(slate[:num_ranked])}</RANK>"
    assert parse(text).fields == {"slate": slate, "rank": slate[:num_ranked]}


# --- sources ------------------------------------------------------------------------------------------------------


def test_made_up_pools_are_the_same_rows_in_every_run() -> None:
    source = SyntheticPools(kind="synthetic", num_prompts=6, pool_size=8, relevant=(1, 3))
    rows = read_pools(source, Path(), max_items=20)
    assert rows == read_pools(source, Path(), max_items=20)
    assert rows == read_pools(source.model_copy(update={"num_prompts": 9}), Path(), max_items=20)[:6]
    for row in rows:
        items, relevant = json.loads(row.fields["items"]), json.loads(row.fields["relevant"])
        assert sorted(name for name, _ in items) == [f"i{n:02d}" for n in range(8)]
        assert 1 <= len(relevant) <= 3
        assert set(relevant) <= {name for name, _ in items}
    assert rows[0] != rows[1]
    assert read_pools(source.model_copy(update={"seed": 1}), Path(), max_items=20) != rows


def test_what_an_item_shows_is_evidence_of_its_relevance() -> None:
    """Of 100 pools with 2 topics an item: relevant ones match with 0.8, others with 0.1."""
    shown: dict[bool, list[bool]] = {True: [], False: []}
    for row in read_pools(SyntheticPools(kind="synthetic", num_prompts=100), Path(), max_items=20):
        relevant = json.loads(row.fields["relevant"])
        for name, text in json.loads(row.fields["items"]):
            shown[name in relevant] += [topic == row.fields["query"] for topic in text.split()]
    assert sum(shown[True]) / len(shown[True]) == pytest.approx(0.8, abs=0.05)
    assert sum(shown[False]) / len(shown[False]) == pytest.approx(0.1, abs=0.02)


def test_an_item_may_show_the_number_of_its_matches_and_pools_their_order() -> None:
    """Queries and relevance are those of the pools that show topics; places still say nothing of relevance."""
    source = SyntheticPools(kind="synthetic", num_prompts=400, topics_per_item=4)
    plain = read_pools(source, Path(), max_items=20)
    counted = read_pools(source.model_copy(update={"shown": "matches", "order": "by_id"}), Path(), max_items=20)
    places: list[int] = []
    evidence: list[tuple[int, bool]] = []
    for before, after in zip(plain, counted, strict=True):
        items = dict(json.loads(after.fields["items"]))
        relevant = json.loads(after.fields["relevant"])
        assert list(items) == [f"i{n:02d}" for n in range(20)]
        assert (after.fields["query"], relevant) == (before.fields["query"], json.loads(before.fields["relevant"]))
        places += [place for place, name in enumerate(items) if name in relevant]
        evidence += [(int(text), name in relevant) for name, text in items.items()]
    assert sum(places) / len(places) == pytest.approx(9.5, abs=0.6)
    mean_matches = [
        np.mean([count for count, is_relevant in evidence if is_relevant is kind]) for kind in (True, False)
    ]
    assert mean_matches == pytest.approx([4 * 0.8, 4 * 0.1], abs=0.1)


def test_prompts_show_the_pool_and_hide_the_relevance(tmp_path: Path) -> None:
    pool = {
        "query": "Which {fruit}?",
        "items": [{"id": "x", "text": "pear {id}"}, {"id": 2, "text": "stone"}],
        "relevant": {"x": 2, "2": 0},
    }
    (tmp_path / "pools.jsonl").write_text(json.dumps(pool) + "\n\n" + json.dumps(pool | {"query": "Other?"}) + "\n")
    config = SlateRankTask(
        kind="slate_rank",
        source=JsonlSource(kind="jsonl", path="pools.jsonl"),
        template="{query} ({max_slate}, {max_rank})\n{items}",
        system="Rank.",
        heldout=1,
    )
    task = build_task(config, 0, tmp_path)
    prompts = {prompt.fields["query"]: prompt for prompt in (*task.train_prompts(), *task.heldout_prompts())}
    prompt = prompts["Which {fruit}?"]
    assert prompt.text == "Which {fruit}? (10, 5)\n[x] pear {id}\n[2] stone\n"
    assert [message["role"] for message in prompt.messages] == ["system", "user"]
    assert json.loads(prompt.fields["relevant"]) == {"x": 2.0}
    assert task.parse(prompt, "<SLATE>x, 2</SLATE><RANK>2</RANK>").fields == {"slate": ["x", "2"], "rank": ["2"]}
    assert task.parse(prompt, "<SLATE>i00</SLATE><RANK>i00</RANK>").malformed is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": 3}, "'query' is 3; it is a text"),
        ({"items": []}, '"items" is a list of objects with id and text'),
        ({"items": [{"id": "a"}]}, 'an item is an object with "id" and "text", and nothing else'),
        ({"items": [{"id": "a b", "text": "t"}]}, "id 'a b': an id is a text without white space"),
        ({"items": [{"id": True, "text": "t"}]}, "id True: an id is a text"),
        ({"items": [{"id": "a", "text": "t"}] * 2}, "id 'a' twice in one pool"),
        ({"items": [{"id": str(n), "text": "t"} for n in range(4)]}, '"items" has 4, more than task.max_items = 3'),
        ({"relevant": ["z"]}, "\"relevant\" names 'z', which is not in the pool"),
        ({"relevant": {"a": -1}}, "grade -1 of 'a': a grade is a number from 0"),
        ({"relevant": {"a": 0}}, '"relevant" names no item with a grade above 0'),
        ({"relevant": "a"}, '"relevant" is a list of ids, or an object of grades by id'),
        ({"extra": 1}, "unknown key 'extra'; a pool has query, items and relevant"),
    ],
)
def test_a_broken_pool_is_named_by_its_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    good = {"query": "q", "items": [{"id": "a", "text": "t"}], "relevant": ["a"]}
    (tmp_path / "pools.jsonl").write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(UserError) as caught:
        read_pools(JsonlSource(kind="jsonl", path="pools.jsonl"), tmp_path, max_items=3)
    assert str(caught.value).startswith(f"{tmp_path}/pools.jsonl:2: {message}")


def test_a_template_names_what_there_is() -> None:
    source = SyntheticPools(kind="synthetic", num_prompts=2)
    with pytest.raises(UserError, match=r"task\.item_template.*\{name\}"):
        build_task(SlateRankTask(kind="slate_rank", source=source, item_template="{name}", heldout=0), 0, Path())
    with pytest.raises(UserError, match=r"task\.template: \{items\} is missing; the model would not see"):
        build_task(SlateRankTask(kind="slate_rank", source=source, template="{query}", heldout=0), 0, Path())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_slate": 2, "max_rank": 3}, "max_rank 3 is more than max_slate 2"),
        ({"max_items": 5}, "source.pool_size 20 is more than max_items 5"),
        ({"source": {"kind": "synthetic", "relevant": (4, 2)}}, "relevant 4 to 2 of 20 items"),
    ],
)
def test_sizes_that_cannot_be_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SlateRankTask.model_validate({"kind": "slate_rank", "source": {"kind": "synthetic"}} | change)
