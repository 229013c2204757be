"""The ledger on disk: goes on after a kill, is written at most every two seconds, says so when damaged."""

from __future__ import annotations

from pathlib import Path

import pytest

from launch.ledger_file import LedgerFile
from rewards.budget import Spend
from rewards.errors import UserError
from rewards.types import Call, GroupKey, Verdict

CALL = Call(0, 1, Verdict(1.0, tokens_in=10, tokens_out=2, cost=0.5, latency_s=0.1), "a")
KEY = GroupKey("g")


def test_it_goes_on_where_the_last_save_was(tmp_path: Path) -> None:
    now = [0.0]
    books = LedgerFile(tmp_path / "ledger.json", clock=lambda: now[0])
    assert books.is_new
    passed: list[Call] = []
    record = books.recorder("training", lambda key, call: passed.append(call))  # type: ignore[arg-type]
    for now[0] in (0.5, 1.0, 2.5, 3.0):
        record(KEY, CALL)
    assert len(passed) == 4
    again = LedgerFile(tmp_path / "ledger.json")
    assert not again.is_new
    assert again.spent("training") == Spend(3, 36, 1.5), "the call after the last save is lost with the process"
    books.save()
    assert LedgerFile(tmp_path / "ledger.json").spent("training") == Spend(4, 48, 2.0)
    assert LedgerFile(tmp_path / "ledger.json").spent("heldout") == Spend()


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text('{"training": {"a": {"num_calls": 3}}}')
    with pytest.raises(UserError, match=r"ledger\.json is damaged"):
        LedgerFile(tmp_path / "ledger.json")
