"""The attacks of `podium judge-audit`: judges that fall for one, and judges that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from launch.cli import app
from launch.judge_attacks import addition_figures, corruption_figures
from launch.judge_audit import audit_text, judge_audit
from rewards.attacks import ATTACKS
from rewards.errors import UserError
from rewards.health import wilson_interval
from tests.launch.test_judge_audit import file_of, rewards

NAN = float("nan")
PAIRS = [
    {"prompt": "p", "better": "The bridge is 317 m long, more than from Rome to Paris.", "worse": worse}
    for worse in ("I do not know.", "Rather long.", "No idea.")
]


def audit(folder: Path, judge: str, *attacks: str, pairs: list[dict[str, Any]] = PAIRS) -> dict[str, Any]:
    return judge_audit(file_of(folder, *pairs), rewards(folder, judge), attacks=attacks)


def test_additions_by_hand() -> None:
    # Seen from the better answer: won, won, level, lost, and two that miss a side.
    before_P = np.array([1.0, 1.0, 0.5, 0.0, NAN, 1.0])
    after_P = np.array([1.0, 0.0, 0.0, 0.0, 0.0, NAN])
    found = addition_figures(before_P, after_P, seed=0)
    assert found["num_missing"] == 2
    assert (found["win_rate_before"]["value"], found["win_rate_after"]["value"]) == (1.5 / 4, 3 / 4)
    assert found["gain"]["value"] == 1.5 / 4
    assert found["gain"]["low"] < 1.5 / 4 < found["gain"]["high"]
    # Three that it did not win before; it wins two of them now.
    assert (found["flip_rate"]["value"], found["flip_rate"]["num"]) == (2 / 3, 3)
    assert (found["flip_rate"]["low"], found["flip_rate"]["high"]) == wilson_interval(2, 3)


def test_corruptions_by_hand() -> None:
    found = corruption_figures(np.array([1.0, 1.0, 0.5, 0.0, NAN]))
    assert (found["num_missing"], found["unnoticed_rate"]["value"], found["preferred_rate"]["value"]) == (1, 0.5, 0.25)


def test_a_judge_of_lengths_falls_for_padding(tmp_path: Path) -> None:
    result = audit(tmp_path, "longer", "padded_length", "changed_number", "flipped_negation")
    padded = result["attacks"]["padded_length"]
    assert (padded["win_rate_before"]["value"], padded["win_rate_after"]["value"]) == (0.0, 1.0)
    assert padded["flip_rate"]["value"] == padded["gain"]["value"] == 1.0
    # As long as before: it cannot tell. With a "not" more: it likes the corrupted copy better.
    number, negation = result["attacks"]["changed_number"], result["attacks"]["flipped_negation"]
    assert (number["unnoticed_rate"]["value"], number["preferred_rate"]["value"]) == (1.0, 0.0)
    assert negation["preferred_rate"]["value"] == 1.0
    assert result["num_calls"] == 6  # of the pairs as given; the attacks' are in the ledger
    assert sum(judge["num_calls"] for judge in result["judges"].values()) == 4 * 6
    assert "worse wins 0.000 [" in audit_text(result)


def test_a_judge_that_sees_orders_and_facts(tmp_path: Path) -> None:
    result = audit(tmp_path, "knows_the_bridge", *ATTACKS)
    assert result["accuracy"]["value"] == 1.0
    for name in ("padded_length", "flattery", "injected_instructions"):
        assert result["attacks"][name]["win_rate_after"]["value"] == 0.0
        assert result["attacks"][name]["flip_rate"]["value"] == 0.0
    for name in ("changed_number", "flipped_negation", "swapped_names"):
        assert result["attacks"][name]["unnoticed_rate"]["value"] == 0.0, name


def test_what_cannot_be_corrupted_is_left_out_and_counted(tmp_path: Path) -> None:
    pairs = [*PAIRS, {"prompt": "p", "better": "no number here, none", "worse": "w"}]
    found = audit(tmp_path, "longer", "changed_number", pairs=pairs)["attacks"]["changed_number"]
    assert (found["num_attacked"], found["num_unchanged"], found["unnoticed_rate"]["num"]) == (3, 1, 3)
    found = audit(tmp_path, "longer", "changed_number", pairs=pairs[3:])["attacks"]["changed_number"]
    assert (found["num_attacked"], found["unnoticed_rate"]["value"]) == (0, None)


def test_the_same_seed_gives_the_same_audit(tmp_path: Path) -> None:
    one, other = (audit(tmp_path, "longer", *ATTACKS) for _ in range(2))
    for result in (one, other):
        result.pop("judges")  # latencies
    assert one == other


def test_attacks_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no attack 'bribe'; there are padded_length, "):
        audit(tmp_path, "longer", "bribe")
    rewards(tmp_path)
    arguments = ["judge-audit", str(file_of(tmp_path, *PAIRS)), "--reward", str(tmp_path / "rewards.yaml"), "--json"]
    for options, expected in (
        ([], list(ATTACKS)),
        (["--attack", "flattery"], ["flattery"]),
        (["--attack", "none"], []),
    ):
        done = CliRunner().invoke(app, [*arguments, *options])
        assert list(json.loads(done.stdout)["attacks"]) == expected
