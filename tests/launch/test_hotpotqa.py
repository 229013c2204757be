"""HotpotQA's questions as pools that the slate_rank task reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from launch.hotpotqa import main
from rollouts.config import JsonlSource, SlateRankTask
from rollouts.tasks import build_task

ROW: dict[str, Any] = {
    "question": "Who?",
    "answer": "Ann",
    "supporting_facts": [["Ann", 0], ["Bob", 1], ["Ann", 2]],
    "context": [["Cat", ["A cat. ", "It sits."]], ["Ann", ["Ann is. "]], ["Bob", [" Bob was."]]],
}


def convert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: object) -> Path:
    source, out = tmp_path / "hotpot.json", tmp_path / "pools.jsonl"
    source.write_text(json.dumps(rows))
    monkeypatch.setattr("sys.argv", ["hotpotqa", str(source), str(out)])
    main()
    return out


def test_supporting_paragraphs_are_the_relevant_items(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = convert(tmp_path, monkeypatch, [ROW, ROW | {"question": "Which?"}])
    task = build_task(
        SlateRankTask(kind="slate_rank", source=JsonlSource(kind="jsonl", path=out.name), heldout=1), 0, tmp_path
    )
    prompt = task.train_prompts()[0]
    assert "[p1] Cat: A cat. It sits.\n[p2] Ann: Ann is.\n[p3] Bob: Bob was.\n" in prompt.text
    assert json.loads(prompt.fields["relevant"]) == {"p2": 1.0, "p3": 1.0}


@pytest.mark.parametrize("change", [{"supporting_facts": [["Dan", 0]]}, {"context": None}])
def test_a_row_of_another_kind_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: dict[str, object]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        convert(tmp_path, monkeypatch, [ROW, ROW | change])
    assert stopped.value.code == 2
    assert "hotpot.json: question 1 is not as HotpotQA has them" in capsys.readouterr().err
    assert not (tmp_path / "pools.jsonl").exists()
