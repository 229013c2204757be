from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.errors import UserError
from rollouts.config import DatasetsSource, JsonlSource, PackageLinesSource
from rollouts.sources import MAX_FAULTS, read_rows

LEE = PackageLinesSource(
    kind="package_lines", package="gensim", files=("test/test_data/lee_background.cor",), max_words=120
)


def read_jsonl(tmp_path: Path, content: bytes | str) -> list[dict[str, str]]:
    (tmp_path / "prompts.jsonl").write_bytes(content.encode() if isinstance(content, str) else content)
    return [dict(row.fields) for row in read_rows(JsonlSource(kind="jsonl", path="prompts.jsonl"), tmp_path)]


def test_jsonl_scalars_become_text(tmp_path: Path) -> None:
    content = '\ufeff{"a": "Grüße", "b": 3, "c": 0.5, "d": true}\r\n\n  \n{"a": "line\\u2028separator\u2028too"}\n'
    assert read_jsonl(tmp_path, content) == [
        {"a": "Grüße", "b": "3", "c": "0.5", "d": "true"},
        {"a": "line\u2028separator\u2028too"},
    ]


@given(rows=st.lists(st.dictionaries(st.text(), st.text()), min_size=1, max_size=5))
def test_jsonl_gives_back_what_json_wrote(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    directory = tmp_path_factory.mktemp("rows")
    assert read_jsonl(directory, "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)) == rows


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b'{"a": 1', "not valid JSON"),
        (b"[1]", "not a JSON object"),
        (b'"a"', "not a JSON object"),
        (b'{"a": null}', "'a' is null"),
        (b'{"a": [1]}', "'a' is a list"),
        (b'{"a": {"b": 1}}', "'a' is an object"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"a": "x", "a": "y"}', "key 'a' twice"),
        (b'{"a": "\\ud800"}', "half of a surrogate pair"),
        (b'{"a": "\xff"}', "not UTF-8 text"),
        (b'{"a": ' + b"1" * 5000 + b"}", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
    ],
)
def test_jsonl_faults_name_file_and_line(tmp_path: Path, line: bytes, fault: str) -> None:
    with pytest.raises(UserError, match=fault) as caught:
        read_jsonl(tmp_path, b'{"a": "fine"}\n\n' + line + b"\n")
    assert str(caught.value).startswith(f"{tmp_path / 'prompts.jsonl'}:3: ")
    assert "\n" not in str(caught.value)


def test_all_faults_are_listed_up_to_a_limit(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_jsonl(tmp_path, "{\n" * (MAX_FAULTS + 5))
    lines = str(caught.value).splitlines()
    assert len(lines) == MAX_FAULTS + 1
    assert lines[-1] == "... and 5 more"


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_file_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UserError, match=r"prompts\.jsonl: no prompts in it"):
        read_jsonl(tmp_path, content)


@pytest.mark.parametrize("path", ["nowhere.jsonl", "."])
def test_file_that_cannot_be_read_is_named(tmp_path: Path, path: str) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        read_rows(JsonlSource(kind="jsonl", path=path), tmp_path)


def test_package_lines_are_one_document_each() -> None:
    rows = read_rows(LEE, Path())
    assert len(rows) == 300
    assert rows[0].fields["text"].startswith("Hundreds of people have been forced to vacate their homes")
    assert rows[1].where.endswith("lee_background.cor:2")
    assert max(len(row.fields["text"].split()) for row in rows) == 120
    whole = read_rows(LEE.model_copy(update={"max_words": None}), Path())
    assert " ".join(whole[0].fields["text"].split()[:120]) == rows[0].fields["text"]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (LEE.model_copy(update={"package": "no_such_package"}), "'no_such_package' is not installed; pip install"),
        (LEE.model_copy(update={"package": "../x"}), "is not installed"),
        (LEE.model_copy(update={"files": ("test/nowhere.cor",)}), r"nowhere\.cor: no such file in package 'gensim'"),
        (LEE.model_copy(update={"files": ("test/test_data/lee.cor",)}), r"lee\.cor:\d+: not UTF-8 text"),
    ],
)
def test_missing_package_or_file_is_refused(source: PackageLinesSource, fault: str) -> None:
    with pytest.raises(UserError, match=fault):
        read_rows(source, Path())


@pytest.mark.slow
def test_local_datasets_of_every_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    table = datasets.Dataset.from_dict({"question": ["a", "b", None], "year": [1, 2, 3], "tags": [["x"], [], ["y"]]})
    expected = [{"question": "a", "year": "1"}, {"question": "b", "year": "2"}, {"year": "3"}]
    for name in ("json", "parquet"):
        (tmp_path / name).mkdir()
    table.to_json(tmp_path / "json" / "train.jsonl")
    table.to_parquet(tmp_path / "parquet" / "train.parquet")
    table.save_to_disk(tmp_path / "disk")
    datasets.DatasetDict({"train": table}).save_to_disk(tmp_path / "disks")
    for name in ("json", "parquet", "disk", "disks"):
        rows = read_rows(DatasetsSource(kind="datasets", name=name), tmp_path)
        assert [dict(row.fields) for row in rows] == expected, name
    assert rows[1].where == "disks[train] row 1"
    for source in (
        DatasetsSource(kind="datasets", name="disks", split="nowhere"),
        DatasetsSource(kind="datasets", name="parquet", split="nowhere"),
    ):
        with pytest.raises(UserError, match="split 'nowhere': cannot be loaded"):
            read_rows(source, tmp_path)


@pytest.mark.slow
def test_dataset_that_cannot_be_had_offline_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("datasets.config.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match="'someone/prompts', split 'train': cannot be loaded") as caught:
        read_rows(DatasetsSource(kind="datasets", name="someone/prompts"), tmp_path)
    assert "\n" not in str(caught.value)
