"""Parquet files, written whole."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from launch import atomic
from rewards.errors import UserError

CURE = "delete the file and go on with --resume, which makes the step anew"


def write(path: Path, table: pa.Table) -> None:
    """Replace `path` as a whole.

    Raises:
        RunStopped: the disk is full.
    """
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    path.parent.mkdir(exist_ok=True)
    atomic.write_bytes(path, sink.getvalue().to_pybytes())


def read(path: Path, columns: Sequence[str] | None = None) -> pa.Table:
    """The whole table, or those of the columns that it has.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return pq.read_table(path, columns=columns)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {CURE.removeprefix('delete the file and ')}") from error
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is damaged ({reason}); {CURE}") from error


def num_rows(path: Path) -> int:
    """Rows of a table, by its footer."""
    return pq.read_metadata(path).num_rows
