"""HotpotQA questions (the JSON of its distractor setting) as pools of paragraphs for a slate_rank task.

    python -m launch.hotpotqa hotpot_dev_distractor_v1.json pools.jsonl

The question is the query, each paragraph an item, those with supporting facts are relevant.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launch import atomic
from rewards.errors import UserError


def pool_of(row: Mapping[str, Any]) -> dict[str, Any]:
    """One question as a pool; ids are p1, p2, .. in the order given.

    Raises:
        KeyError: a row that is not HotpotQA's.
        ValueError: no supporting paragraph is among the context's.
    """
    supporting = {title for title, _ in row["supporting_facts"]}
    relevant = [f"p{n}" for n, (title, _) in enumerate(row["context"], start=1) if title in supporting]
    if not relevant:
        raise ValueError("no supporting paragraph in its context")
    items = [
        {"id": f"p{n}", "text": f"{title}: {''.join(sentences).strip()}"}
        for n, (title, sentences) in enumerate(row["context"], start=1)
    ]
    return {"query": row["question"], "items": items, "relevant": relevant}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m launch.hotpotqa", description="HotpotQA as slate_rank pools.")
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    try:
        lines = _convert(options.source)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
    atomic.write_bytes(options.out, "".join(lines).encode())
    print(f"{options.out}: {len(lines):,} pools")


def _convert(source: Path) -> list[str]:
    try:
        rows = json.loads(source.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{source}: cannot be read ({error}); give the JSON file of HotpotQA") from error
    lines: list[str] = []
    for number, row in enumerate(rows):
        try:
            lines.append(json.dumps(pool_of(row)) + "\n")
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{source}: question {number} is not as HotpotQA has them ({error!r})") from error
    return lines


if __name__ == "__main__":
    main()
