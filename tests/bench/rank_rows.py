"""Times `podium rank` on many rows: reading, and every aggregator, beside evalica's Bradley-Terry and Elo.

    python -m tests.bench.rank_rows [--rows 1000000] [--items 1000] [--kinds win_rate empirical_bayes]

One run, one data set: hard verdicts about items of strengths Normal(0, 1) that meet by lot, in one group. evalica is
given lists of names, as the line "from lists of names" is; the other lines start from columns that were read.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from launch.match_file import read_matches
from launch.match_lines import read_lines
from rewards.aggregator_config import AggregatorConfig
from rewards.rank_rows import UNGROUPED, rank_rows, rank_verdict_rows
from rewards.strict import config_kinds
from rewards.verdict_rows import VerdictRows


def main() -> None:
    parser = argparse.ArgumentParser(description="Times rankings of many rows.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000)
    parser.add_argument("--kinds", nargs="*", default=list(config_kinds(AggregatorConfig)))
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    strengths_N = rng.standard_normal(arguments.items)
    a_R = rng.integers(0, arguments.items, arguments.rows)
    b_R = (a_R + rng.integers(1, arguments.items, arguments.rows)) % arguments.items
    score_R = (rng.random(arguments.rows) < 1.0 / (1.0 + np.exp(strengths_N[b_R] - strengths_N[a_R]))).astype(float)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "matches.jsonl")
        with path.open("w", encoding="utf-8") as file:
            for a, b, score in zip(a_R.tolist(), b_R.tolist(), score_R.tolist(), strict=True):
                file.write(f'{{"a": "item-{a:05d}", "b": "item-{b:05d}", "score": {score}}}\n')
        print(f"{arguments.rows} rows over {arguments.items} items, {path.stat().st_size / 1e6:.0f} MB, one group")
        rows = _timed("read the file", lambda: read_matches(path))
        data = path.read_bytes()
        _timed("read it line by line (as where a row is bad)", lambda: read_lines(data))
    orders: dict[str, np.ndarray] = {}
    for kind in arguments.kinds:
        board = _timed(f"podium {kind}", lambda kind=kind: rank_verdict_rows(rows, aggregator=kind, options={}))
        orders[kind] = _by_item({item.item: item.score for item in board[UNGROUPED].items})
    a, b = ([column.names[code] for code in column.codes_R.tolist()] for column in (rows.a, rows.b))
    _timed("podium win_rate from lists of names", lambda: rank_rows(a, b, rows.score_R, aggregator="win_rate"))
    _evalica(rows, a, b, orders)
    for kind, scores_N in orders.items():
        print(f"{kind:<48} rank correlation with the truth {_rank_correlation(scores_N, strengths_N):.4f}")


def _evalica(rows: VerdictRows, a: list[str], b: list[str], orders: dict[str, np.ndarray]) -> None:
    import evalica

    winner = {0.0: evalica.Winner.Y, 0.5: evalica.Winner.Draw, 1.0: evalica.Winner.X}
    winners = [winner[score] for score in rows.score_R.tolist()]
    for name, rate in (("bradley_terry", evalica.bradley_terry), ("elo", evalica.elo)):
        fitted: Any = _timed(f"evalica {name}", lambda rate=rate: rate(a, b, winners))
        orders[f"evalica {name}"] = _by_item(fitted.scores.to_dict())


def _timed(what: str, work: Callable[[], Any]) -> Any:
    start = time.perf_counter()
    result = work()
    print(f"{what:<48} {time.perf_counter() - start:7.2f} s", flush=True)
    return result


def _by_item(scores: dict[str, Any]) -> np.ndarray:
    return np.array([scores[name] for name in sorted(scores)], dtype=np.float64)


def _rank_correlation(x_N: np.ndarray, y_N: np.ndarray) -> float:
    return float(np.corrcoef(np.argsort(np.argsort(x_N)), np.argsort(np.argsort(y_N)))[0, 1])


if __name__ == "__main__":
    main()
