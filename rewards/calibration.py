"""Pairs whose better answer is known, put before the judges of a panel among the matches of a run.

A judge cannot tell them from matches: they go the same way, at the same time. They are in no match log and score
nobody; what they say about the judges goes into their reputation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UserError
from rewards.seating import stable_hash
from rewards.types import Candidate, GroupKey, Prompt


@dataclass(frozen=True, slots=True)
class KnownPair:
    prompt: Prompt
    better: Candidate
    worse: Candidate


@dataclass(frozen=True, slots=True)
class Calibration:
    """per_group: pairs for each group; a fraction is drawn by lot."""

    pairs: tuple[KnownPair, ...]
    per_group: float

    def draw(self, key: GroupKey, seed: int) -> list[tuple[KnownPair, bool]]:
        """Pairs for a group, and whether the better answer is shown first; the same in every process."""
        whole = int(self.per_group)
        lot = stable_hash(seed, "calibration", key) / 2**64
        drawn = [
            stable_hash(seed, "calibration", key, number) for number in range(whole + (lot < self.per_group - whole))
        ]
        return [(self.pairs[number // 2 % len(self.pairs)], number % 2 == 0) for number in drawn]


def load_pairs(file: str, base_dir: Path | None = None) -> tuple[KnownPair, ...]:
    """Reads JSON Lines with the texts `prompt`, `better` and `worse`.

    Raises:
        UserError: no such file, or a line that is none of these, by number.
    """
    path = (base_dir or Path()) / Path(file).expanduser()
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"calibration.file {path}: cannot be read ({error})") from error
    pairs = [_pair(line, f"{path}:{number}", number) for number, line in enumerate(lines, start=1) if line.strip()]
    if not pairs:
        raise UserError(f"calibration.file {path}: holds no pair; give lines with prompt, better and worse")
    return tuple(pairs)


def _pair(line: str, where: str, number: int) -> KnownPair:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: is no JSON ({error})") from error
    texts: Sequence[object] = [row.get(key) for key in ("prompt", "better", "worse")] if isinstance(row, dict) else []
    if not texts or not all(isinstance(text, str) for text in texts):
        raise UserError(f"{where}: needs the texts prompt, better and worse")
    prompt, better, worse = map(str, texts)
    return KnownPair(
        Prompt(f"calibration-{number}", prompt), Candidate(f"{number}-0", better), Candidate(f"{number}-1", worse)
    )
