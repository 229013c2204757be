"""A file of matches, one JSON object a line, as columns; a bad row is one line: file, line, key, value, cure.

A file with one object on every line and nothing else is read by pyarrow. All others, and every file that pyarrow or the
rules refuse, are read line by line, which finds the place. Both readings give the same columns.
"""

from __future__ import annotations

import gzip
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from launch.match_lines import EXAMPLE, NUMBERS, REQUIRED, TEXTS, read_lines
from rewards.errors import UserError
from rewards.rank_rows import UNGROUPED
from rewards.verdict_rows import Coded, VerdictRows, first_fault

STDIN = Path("-")

_BLOCK_BYTES = 1 << 24


def read_matches(path: Path) -> VerdictRows:
    """Reads `path` (`-` for standard input), gzip or plain.

    Raises:
        UserError: no such file, not gzip or UTF-8, no rows, or a bad row; the first bad line is named.
    """
    name = "<stdin>" if path == STDIN else str(path)
    data = _read_bytes(path, name)
    rows = read_plain(data)
    if rows is not None and first_fault(rows) is None:
        return rows
    reading = read_lines(data)
    fault = first_fault(reading.rows)
    if fault is not None:
        raise UserError(f"{name}:{reading.line_R[fault.row]}: {fault}")
    if reading.fault is not None:
        raise UserError(f"{name}:{reading.fault}")
    if not len(reading.line_R):
        raise UserError(f"{name}: no rows; give one match a line: {EXAMPLE}")
    return reading.rows


def read_plain(data: bytes) -> VerdictRows | None:
    """Columns by pyarrow; None where the bytes are not one object on every line, or pyarrow refuses them."""
    import pyarrow as pa
    import pyarrow.json as pa_json

    num_rows = _num_object_lines(data)
    if num_rows is None:
        return None
    fields = [(key, pa.string()) for key in TEXTS] + [(key, pa.float64()) for key in NUMBERS]
    try:
        table = pa_json.read_json(
            pa.BufferReader(data),
            read_options=pa_json.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=pa_json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore"),
        )
    except pa.ArrowInvalid:
        return None
    # A second object on a line, or a null, is a row more than lines.
    if table.num_rows != num_rows or any(table[key].null_count for key in REQUIRED):
        return None

    def coded(column: Any) -> Coded:
        encoded = pa.chunked_array(column.dictionary_encode().unify_dictionaries().chunks)
        codes = [chunk.indices.to_numpy().astype(np.int64) for chunk in encoded.chunks]
        return Coded(np.concatenate(codes), encoded.chunk(0).dictionary.to_pylist())

    items = coded(pa.chunked_array([*table["a"].chunks, *table["b"].chunks]))
    return VerdictRows(
        a=Coded(items.codes_R[:num_rows], items.names),
        b=Coded(items.codes_R[num_rows:], items.names),
        score_R=table["score"].to_numpy(),
        weight_R=table["weight"].fill_null(1.0).to_numpy(),
        group=coded(table["group"].fill_null(UNGROUPED)),
        judge=coded(table["judge"].fill_null("")),
    )


def _read_bytes(path: Path, name: str) -> bytes:
    try:
        data = sys.stdin.buffer.read() if path == STDIN else path.read_bytes()
    except OSError as error:
        raise UserError(f"{name}: cannot be read: {error.strerror}; give a file of matches (JSONL)") from None
    if data.startswith(b"\x1f\x8b"):
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{name}: damaged gzip: {error}; compress it again") from None
    elif path.suffix == ".gz":
        raise UserError(f"{name}: not a gzip file; drop the .gz, or compress it")
    return data.removeprefix(b"\xef\xbb\xbf")


def _num_object_lines(data: bytes) -> int | None:
    """The number of lines if each begins with an object, else None.

    pyarrow takes objects that span lines, and crashes the process on a `null` at the head of a block: it is given
    nothing but lines that begin with a brace.
    """
    try:
        str(data, "utf-8")
    except UnicodeDecodeError:
        return None
    bytes_B = np.frombuffer(data, dtype=np.uint8)
    starts = np.append(0, np.flatnonzero(bytes_B == ord("\n")) + 1)
    starts = starts[starts < len(bytes_B)]
    return len(starts) if len(starts) and bool((bytes_B[starts] == ord("{")).all()) else None
