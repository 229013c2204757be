"""The judge's memory: verdicts that were given before are not asked for again, by any process, run or command.

    key = hash of (who judges and how, pair or slate, prompt, the texts in the order shown, number of the meeting)

    call --asking(key)--> in flight already? wait for that one --> found in memory or file? that, at no cost
                                                               --> else ask, and keep the verdict if there is one
    kept verdicts --(every 256, or 0.5 s)--> one thread --> SQLite, in WAL mode: many readers, one writer at a time

Only verdicts with a value are kept; a failure is asked for again. One event loop per `JudgeCache`; any number of
processes per file, on one host: WAL needs shared memory between those that have the file open.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from rewards.errors import RunStopped, UserError
from rewards.types import Candidate, Places, Prompt, Verdict

Answer = Verdict | Places | str
"""What is kept: what a judge said, or criteria that it wrote for a prompt (`rewards/rubrics/store.py`)."""

Asked = Literal["pair", "slate"]

FLUSH_EVERY = 256
FLUSH_S = 0.5
BUSY_S = 60.0
"""How long a write waits for another process's."""

_SCHEMA = "CREATE TABLE IF NOT EXISTS verdicts (key BLOB PRIMARY KEY, judge TEXT, answer TEXT) WITHOUT ROWID"


@dataclass(frozen=True, slots=True)
class JudgeIdentity:
    """Who judges and how: two judges with one fingerprint give the same verdicts.

    draws: its verdicts are drawn at random, so that a second meeting of the same two is another question.
    """

    fingerprint: str
    draws: bool = False


class JudgeCache:
    """Verdicts in one SQLite file; opened at once, so that a bad path is found before any work.

    Raises:
        UserError: the file cannot be opened, or is no cache of verdicts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.num_hits = 0
        self.num_misses = 0
        self._flights: dict[bytes, tuple[asyncio.Lock, int]] = {}
        self._unwritten: dict[bytes, tuple[str, str]] = {}
        self._being_written: dict[bytes, tuple[str, str]] = {}
        self._writes: list[Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._reader = self._connect()
            with self._reader:
                self._reader.execute(_SCHEMA)
            self._reader.execute("SELECT key, judge, answer FROM verdicts LIMIT 1").fetchone()
        except (OSError, sqlite3.Error) as error:
            cure = "delete it, or name another" if path.is_file() else "name another file"
            raise UserError(f"rewards.cache: {path} cannot be used as a cache of verdicts ({error}); {cure}") from error
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="judge-cache")

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=BUSY_S, check_same_thread=False)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=NORMAL")
        return connection

    @asynccontextmanager
    async def asking(self, key: bytes) -> AsyncIterator[Answer | None]:
        """The kept answer, or None: ask, and `keep` what you get, before the context ends. Equal questions wait here.

        A question that failed, or whose asker was cancelled, is free for the next in line.
        """
        lock, waiting = self._flights.get(key, (asyncio.Lock(), 0))
        self._flights[key] = lock, waiting + 1
        try:
            async with lock:
                found = self.find(key)
                self.num_hits += found is not None
                self.num_misses += found is None
                yield found
        finally:
            lock, waiting = self._flights.pop(key)
            if waiting > 1:
                self._flights[key] = lock, waiting - 1

    def find(self, key: bytes) -> Answer | None:
        if (kept := self._unwritten.get(key) or self._being_written.get(key)) is not None:
            return _loads(kept[1])
        row = self._reader.execute("SELECT answer FROM verdicts WHERE key = ?", (key,)).fetchone()
        return None if row is None else _loads(row[0])

    def keep(self, key: bytes, answer: Answer, judge: str) -> None:
        """Keeps an answer; one that is there already stays.

        Raises:
            RunStopped: an earlier write failed.
        """
        for write in [write for write in self._writes if write.done()]:
            self._writes.remove(write)
            write.result()
        self._unwritten[key] = judge, _dumps(answer)
        if len(self._unwritten) >= FLUSH_EVERY:
            self._flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flush)

    async def close(self) -> None:
        """Writes what is not written yet and closes the file.

        Raises:
            RunStopped: a write failed, for instance on a full disk.
        """
        self._flush()
        try:
            await asyncio.gather(*map(asyncio.wrap_future, self._writes))
        finally:
            self._thread.shutdown()
            self._reader.close()

    def _flush(self) -> None:
        """Hands what is new to the thread; it stays in memory until it is in the file."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._unwritten:
            return
        batch, self._unwritten = self._unwritten, {}
        self._being_written |= batch
        loop = asyncio.get_running_loop()

        def write() -> None:
            rows = [(key, *row) for key, row in batch.items()]
            try:
                with closing(self._connect()) as connection, connection:
                    connection.executemany("INSERT OR IGNORE INTO verdicts VALUES (?, ?, ?)", rows)
            except sqlite3.Error as error:
                raise RunStopped(
                    f"cache of verdicts {self.path}: cannot be written ({error}); free some space or set rewards.cache"
                    " to another path, then go on with --resume"
                ) from error
            loop.call_soon_threadsafe(forget)

        def forget() -> None:
            for key in batch:
                del self._being_written[key]

        self._writes.append(self._thread.submit(write))


@dataclass(frozen=True, slots=True)
class JudgeMemory:
    """A cache as one judge uses it."""

    cache: JudgeCache
    identity: JudgeIdentity

    def key(self, asked: Asked, prompt: Prompt, candidates: Sequence[Candidate], meeting: int) -> bytes:
        """Of everything a judge can read, ids and token counts apart; those are other in every run.

        Args:
            asked: places of a slate of two are no verdict on a pair.
            meeting: how often the same candidates met before in their group.
        """
        question = {
            "judge": self.identity.fingerprint,
            "asked": asked,
            "meeting": meeting if self.identity.draws else 0,
            "prompt": [prompt.text, [dict(message) for message in prompt.messages], dict(prompt.fields)],
            "shown": [
                [candidate.text, dict(candidate.parsed.parts), dict(candidate.parsed.fields)]
                for candidate in candidates
            ],
        }
        # Fields that are no plain JSON stand as their repr: at worst, a verdict is not found again.
        text = json.dumps(question, sort_keys=True, default=repr)
        return hashlib.sha256(text.encode()).digest()


def _dumps(answer: Answer) -> str:
    return json.dumps(answer if isinstance(answer, str) else asdict(answer))


def _loads(text: str) -> Answer:
    saved: str | dict[str, Any] = json.loads(text)
    if isinstance(saved, str):
        return saved
    if "places" in saved:
        saved["places"] = tuple(saved["places"])
        return Places(**saved)
    return Verdict(**saved)
