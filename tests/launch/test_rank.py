"""`podium rank`: what it prints, and one line for every bad row; pyarrow's reading against the reading line by line."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from launch.cli import app
from launch.match_file import STDIN, read_matches, read_plain
from launch.match_lines import read_lines
from rewards.errors import UserError
from rewards.rank_rows import rank_rows
from rewards.verdict_rows import Coded, VerdictRows, first_fault

GOOD = '{"a": "x", "b": "y", "score": 1}'

ROWS = [
    {"a": "x", "b": "y", "score": 1, "group": "g", "judge": "mary"},
    {"a": "y", "b": "z", "score": 0.5, "group": "g", "judge": "john", "weight": 2},
    {"a": "x", "b": "z", "score": 1, "group": "g", "judge": "mary", "note": {"any": ["thing"]}},
    {"a": "x", "b": "y", "score": 0},
]


def jsonl(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def matches(tmp_path: Path) -> Path:
    path = tmp_path / "matches.jsonl"
    path.write_text(jsonl(ROWS))
    return path


def names(column: Coded | None) -> list[str]:
    assert column is not None
    return [column.names[code] for code in column.codes_R.tolist()]


def columns(rows: VerdictRows) -> list[Any]:
    return [
        *(names(column) for column in (rows.a, rows.b, rows.group, rows.judge)),
        rows.score_R.tolist(),
        rows.weight_R.tolist(),
    ]


def run(*arguments: str, stdin: bytes | None = None) -> tuple[int, str, str]:
    """Exit code, standard output, and the error's line."""
    result = CliRunner().invoke(app, ["rank", *arguments], input=stdin)
    if isinstance(result.exception, UserError):
        return 2, result.stdout, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


# --- what it prints ---------------------------------------------------------------------------------------------


def test_json(matches: Path) -> None:
    code, out, _ = run(str(matches), "--json", "--aggregator", "win_rate")
    assert code == 0
    # y and z tied once with weight 2, and each lost a match of weight 1: (2 * 0.5 + 0) / 3.
    third = pytest.approx(1 / 3)
    assert json.loads(out)["groups"] == {
        "g": {
            "items": [
                {"item": "x", "score": 1.0, "rank": 1},
                {"item": "y", "score": third, "rank": 2},
                {"item": "z", "score": third, "rank": 2},
            ],
            "reliability": pytest.approx(1 / 64),  # 1 - mean(1/8, 1/12, 1/12) / var(1, 1/3, 1/3)
            "num_matches": 3,
        },
        "ungrouped": {
            "items": [{"item": "y", "score": 1.0, "rank": 1}, {"item": "x", "score": 0.0, "rank": 2}],
            "reliability": 0.0,
            "num_matches": 1,
        },
    }


def test_json_of_a_posterior_has_errors_and_unscored_items_have_null(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(jsonl([ROWS[0], {"a": "x", "b": "nobody", "score": 1, "weight": 0, "group": "g"}]))
    _, out, _ = run(str(path), "--json")
    items = json.loads(out)["groups"]["g"]["items"]
    assert [item["item"] for item in items] == ["x", "y", "nobody"]
    assert items[0]["stderr"] > 0.0
    assert items[2] == {"item": "nobody", "score": None, "stderr": None, "reward": None, "rank": None}


def test_options_reach_the_aggregator(matches: Path) -> None:
    rows = {"a": ["x", "y", "x"], "b": ["y", "z", "z"], "score": [1, 0.5, 1], "weight": [1, 2, 1], "group": ["g"] * 3}
    expected = rank_rows(**rows, judge=["mary", "john", "mary"], scales=[0.5, 4], judge_weights={"mary": 3.0})["g"]
    path = matches.with_name("one_group.jsonl")
    path.write_text(jsonl(ROWS[:3]))
    _, out, _ = run(str(path), "--set", "scales=[0.5, 4]", "--judge-weight", "mary=3", "--json")
    seen = json.loads(out)["groups"]["g"]
    assert [item["score"] for item in seen["items"]] == [item.score for item in expected.items]
    assert seen["reliability"] == expected.reliability
    _, plain, _ = run(str(path), "--json")
    assert json.loads(plain)["groups"]["g"]["reliability"] != expected.reliability


def test_tables(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(jsonl([{"a": "[red]x", "b": "y", "score": 1, "group": "first"}, *ROWS]))
    code, out, _ = run(str(path), "--aggregator", "win_rate")
    assert code == 0
    for text in ("first", "ungrouped", "[red]x", "1.0000", "3 matches"):
        assert text in out


def test_gzip_and_stdin(matches: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = run(str(matches), "--json")[1]
    packed = matches.with_suffix(".jsonl.gz")
    packed.write_bytes(gzip.compress(matches.read_bytes()))
    assert run(str(packed), "--json")[1] == expected
    for data in (matches.read_bytes(), packed.read_bytes()):
        assert run("-", "--json", stdin=data)[1] == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}')))
    with pytest.raises(UserError, match=r"^<stdin>:1: b: missing"):
        read_matches(STDIN)


def test_the_real_command_ends_with_2_and_one_line(matches: Path) -> None:
    matches.write_text(GOOD + "\n" + '{"a": "x", "b": "y", "score": 2}')
    command = [sys.executable, "-m", "launch.cli", "rank", str(matches), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"{matches}:2: score: 2; must be a number in [0, 1]: 1 if a won, 0.5 for a tie, 0\n"


# --- bad input --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"a": "x", "b": "y"}', 'score: missing; every line needs it: {"a"'),
        ('{"a": "x", "b": "y", "Score": 1}', 'score: missing; rename "Score" to "score"'),
        ('{"a": null, "b": "y", "score": 1}', "a: null; must be text"),
        ('{"a": 7, "b": "y", "score": 1}', "a: 7; must be text"),
        ('{"a": {"n": 1}, "b": "y", "score": 1}', "a: an object; must be text"),
        ('{"a": ["x"], "b": "y", "score": 1}', "a: a list; must be text"),
        ('{"a": "x", "b": "y", "score": "1"}', 'score: "1"; must be a number, without quotes'),
        ('{"a": "x", "b": "y", "score": true}', "score: true; must be a number"),
        ('{"a": "x", "b": "y", "score": null}', "score: null; must be a number"),
        ('{"a": "x", "b": "y", "score": 1.01}', "score: 1.01; must be a number in [0, 1]"),
        ('{"a": "x", "b": "y", "score": -0.5}', "score: -0.5; must be a number in [0, 1]"),
        ('{"a": "x", "b": "y", "score": NaN}', "score: nan; must be a number in [0, 1]"),
        ('{"a": "x", "b": "y", "score": 1e999}', "score: inf; must be a number in [0, 1]"),
        ('{"a": "x", "b": "y", "score": ' + "9" * 400 + "}", "score: inf; must be a number in [0, 1]"),
        ('{"a": "x", "b": "y", "score": ' + "9" * 5000 + "}", "thousands of digits or brackets"),
        ('{"a": "x", "b": "y", "score": 1, "weight": -1}', "weight: -1; must be a number from 0 to 1e+10"),
        ('{"a": "x", "b": "y", "score": 1, "weight": Infinity}', "weight: inf; must be a number from 0 to 1e+10"),
        ('{"a": "x", "b": "y", "score": 1, "weight": "2"}', 'weight: "2"; must be a number'),
        ('{"a": "x", "b": "y", "score": 1, "group": 3}', "group: 3; must be text"),
        ('{"a": "x", "b": "y", "score": 1, "judge": false}', "judge: false; must be text"),
        ('{"a": "x", "b": "x", "score": 1}', "b: 'x'; must be another item than a"),
        ('{"a": "x", "b": "y", "score": 1, "a": "z"}', "a: given twice; keep one"),
        ('{"a": "x", "b": "y", "score": 1', "not JSON: Expecting ',' delimiter at character"),
        ('{"a": "x", "b": "y", "score": 1,}', "not JSON"),
        ('{"a": "x", "b": "y", "score": 1},', "not JSON: Extra data"),
        (f"{GOOD} {GOOD}", "not JSON: Extra data"),
        (f"{GOOD} null", "not JSON: Extra data"),
        ('{"a": "x",\n"b": "y", "score": 1}', "not JSON"),
        ("null", "null is not a match"),
        ("[1, 2]", "a list is not a match"),
        ("a,b,score", "not JSON"),
        ("[" * 100_000, "thousands of digits or brackets"),
        ('{"a": "\\ud800", "b": "y", "score": 1}', "a: '\\ud800'; must be Unicode text"),
    ],
)
def test_a_bad_row_is_one_line(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "m.jsonl"
    for before, number in (("", 1), (GOOD + "\n", 2), (GOOD + "\n\n" + GOOD + "\n", 4)):
        path.write_text(f"{before}{line}\n{GOOD}\n")
        with pytest.raises(UserError) as refusal:
            read_matches(path)
        text = str(refusal.value)
        assert text.startswith(f"{path}:{number}: {message}"), text
        assert "\n" not in text
        assert len(text) < len(str(path)) + 200


def test_the_first_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(f'{GOOD}\n{{"a": "x", "b": "y", "score": 3}}\nnull\n')
    with pytest.raises(UserError, match=r"m\.jsonl:2: score: 3"):
        read_matches(path)
    path.write_text(f'{GOOD}\nnull\n{{"a": "x", "b": "y", "score": 3}}\n')
    with pytest.raises(UserError, match=r"m\.jsonl:2: null"):
        read_matches(path)


@pytest.mark.parametrize("bad", ['{"a": "x", "b": "y", "score": 3}', '{"a": "x", "b": "y"}', "{"])
def test_a_bad_row_after_many_good_ones(tmp_path: Path, bad: str) -> None:
    """Past the first block that pyarrow reads, so that its own row numbers start anew."""
    rows = 200_000
    path = tmp_path / "m.jsonl"
    filler = '{"a": "x", "b": "y", "score": 1, "note": "' + "n" * 60 + '"}\n'
    path.write_text(filler * rows + bad)
    with pytest.raises(UserError) as refusal:
        read_matches(path)
    assert str(refusal.value).startswith(f"{path}:{rows + 1}: ")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.jsonl", b"", "no rows"),
        ("m.jsonl", b"\n \n", "no rows"),
        ("m.jsonl.gz", gzip.compress(b""), "no rows"),
        ("m.jsonl.gz", GOOD.encode(), "not a gzip file"),
        ("m.jsonl.gz", gzip.compress(GOOD.encode() * 9)[:-9], "damaged gzip"),
        ("m.jsonl", b'{"a": "\xff", "b": "y", "score": 1}', "1: not UTF-8 at byte 8"),
        ("m.jsonl", GOOD.encode("utf-16"), "1: not UTF-8 at byte 1"),
    ],
)
def test_bad_files(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(UserError) as refusal:
        read_matches(path)
    assert str(refusal.value).startswith(f"{path}:")
    assert message in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no/such/file.jsonl"], "no/such/file.jsonl: cannot be read: No such file"),
        (["."], ".: cannot be read: Is a directory"),
        (["MATCHES", "--aggregator", "winrate"], "unknown aggregator: 'winrate'; did you mean 'win_rate'?"),
        (["MATCHES", "--set", "scale=[1]"], "did you mean 'scales'?"),
        (["MATCHES", "--set", "scales=[0]"], "scales.0: Input should be greater than 0"),
        (["MATCHES", "--set", "scales"], "--set scales: must be KEY=VALUE"),
        (["MATCHES", "--judge-weight", "mary"], "--judge-weight mary: must be NAME=W"),
        (["MATCHES", "--judge-weight", "mary=much"], "must be NAME=W with a number"),
        (["MATCHES", "--judge-weight", "mary=-1"], "judge_weights.mary"),
        (["MATCHES", "--judge-weight", "marie=1"], "unknown judge in judge_weights: 'marie'; did you mean 'mary'?"),
    ],
)
def test_bad_arguments(matches: Path, arguments: list[str], message: str) -> None:
    code, out, error = run(*(str(matches) if argument == "MATCHES" else argument for argument in arguments))
    assert (code, out) == (2, "")
    assert message in error
    assert "\n" not in error


def test_a_misspelt_option_is_told_before_the_file_is_read() -> None:
    assert "unknown aggregator" in run("no/such/file.jsonl", "--aggregator", "x")[2]


# --- two readings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_both_readings_agree_on_good_files(newline: str) -> None:
    data = newline.join(json.dumps(row) for row in [*ROWS, {"a": "é😀\u0000", "b": "\n", "score": 0.1}]).encode()
    plain = read_plain(data)
    assert plain is not None  # the quick way is taken
    assert columns(plain) == columns(read_lines(data).rows)


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    for text in (GOOD, "\n" + GOOD):  # by pyarrow, and line by line
        path.write_text(text, encoding="utf-8-sig")
        assert columns(read_matches(path))[0] == ["x"]


def test_nulls_stand_for_absent_optional_keys(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text('{"a": "x", "b": "y", "score": 1, "weight": null, "group": null, "judge": null}\n')
    assert columns(read_matches(path)) == [["x"], ["y"], ["ungrouped"], [""], [1.0], [1.0]]


TEXT_VALUES = ['"x"', '"y"', '"z"', '""', '"\\u00e9"', '"\\ud800"', '"\\udc00x"', "'x'"]
NUMBER_VALUES = ["0", "1", "0.5", "-1", "1e-3", "1E400", "NaN", "01", "-", "0.1234567890123456789"]
VALUES = st.sampled_from([*TEXT_VALUES, *NUMBER_VALUES, "null", "true", "{}", "[]", '{"a": 1, "a": 2}'])
KEYS = st.sampled_from(['"a"', '"b"', '"score"', '"weight"', '"group"', '"judge"', '"note"'])
OBJECTS = st.lists(st.tuples(KEYS, VALUES), max_size=7).map(lambda kv: f"{{{', '.join(map(': '.join, kv))}}}")
SOUND = st.builds(
    lambda a, b, score, rest: json.dumps({"a": a, "b": b, "score": score} | rest),
    st.text(max_size=3),
    st.text(max_size=3),
    st.floats(0, 1),
    st.dictionaries(st.sampled_from(["weight", "note"]), st.floats(0, 9)),
)
LINES = st.one_of(SOUND, SOUND, OBJECTS, st.sampled_from(["", " ", "null", "[]", "3", GOOD + GOOD, GOOD + " null"]))


@settings(max_examples=150)
@given(lines=st.lists(LINES, max_size=6), newline=st.sampled_from(["\n", "\r\n"]), end=st.booleans())
@example(lines=["null"], newline="\n", end=False)
@example(lines=['{"a": "\\udc00x", "b": "y", "score": 1}'], newline="\n", end=False)
def test_what_pyarrow_takes_the_line_reader_takes_alike(lines: list[str], newline: str, end: bool) -> None:
    """pyarrow may refuse more (then lines are read), never take what the line reader refuses, and never crash."""
    data = (newline.join(lines) + newline * end).encode()
    plain = read_plain(data)
    careful = read_lines(data)
    if plain is None:
        return
    assert careful.fault is None
    for seen, expected in zip(columns(plain), columns(careful.rows), strict=True):
        if seen and isinstance(seen[0], float):
            np.testing.assert_array_equal(seen, expected)
        else:
            assert seen == expected
    assert first_fault(plain) == first_fault(careful.rows)
