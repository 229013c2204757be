"""The adapters under the trainers themselves, each in an environment of its own (`environments.py`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.peers.environments import PACKAGES, found

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
@pytest.mark.parametrize("trainer", PACKAGES)
def test_the_real_trainer_gets_the_rewards_of_whole_groups(trainer: str) -> None:
    try:
        python = found(trainer)
    except LookupError as missing:
        pytest.skip(str(missing))
    done = subprocess.run(
        [python, ROOT / "tests" / "peers" / f"{trainer}_peer.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert f"{trainer}: " in done.stdout


def test_what_is_missing_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PODIUM_PEERS", raising=False)
    with pytest.raises(LookupError, match="PODIUM_PEERS is not set: make the trainers' environments with `python -m"):
        found("trl")
    monkeypatch.setenv("PODIUM_PEERS", str(tmp_path))
    with pytest.raises(LookupError, match="has no trl: make it with"):
        found("trl")
