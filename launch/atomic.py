"""Files that are either whole or not there: write aside, flush to the disk, rename."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from rl.disk import disk_full_stops


def write_bytes(path: Path, data: bytes) -> None:
    """Replace `path` as a whole; readers see the old content or the new one, also after a power cut."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with disk_full_stops(path):
        try:
            with aside.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
        flush_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add one line in a single write and flush it. A line that was cut short by an earlier kill is taken away first."""
    with disk_full_stops(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            end = _end_of_last_whole_line(descriptor)
            os.ftruncate(descriptor, end)
            data = (line + "\n").encode()
            written = os.pwrite(descriptor, data, end)
            if written != len(data):
                os.ftruncate(descriptor, end)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Make a rename inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _end_of_last_whole_line(descriptor: int, block: int = 65536) -> int:
    end = os.fstat(descriptor).st_size
    while end > 0:
        start = max(0, end - block)
        found = os.pread(descriptor, end - start, start).rfind(b"\n")
        if found >= 0:
            return start + found + 1
        end = start
    return 0
