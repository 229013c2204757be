"""A full disk, told in one line by whoever meets it."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rewards.errors import RunStopped

FULL = (errno.ENOSPC, errno.EDQUOT)
PROBE_BYTES = 2**20


@contextmanager
def disk_full_stops(path: Path) -> Iterator[None]:
    """A full disk or quota stops the run with one clear line.

    torch says only that a write failed: after a failure that names no reason the disk itself is asked.

    Raises:
        RunStopped: the disk that holds `path` is full; other errors pass through.
    """
    try:
        yield
    except RunStopped:
        raise
    except Exception as error:
        code = error.errno if isinstance(error, OSError) else None
        if code in FULL if code is not None else is_full(path.parent):
            raise RunStopped(f"disk full while writing {path}: free some space, then go on with --resume") from error
        raise


def is_full(folder: Path) -> bool:
    """Whether a file of 1 MiB does not fit into `folder` any more."""
    while not folder.is_dir():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno in FULL
    return False
