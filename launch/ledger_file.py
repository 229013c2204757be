"""A run's ledger of judge calls on disk: `judge_ledger.json`, whole after a kill but for the last seconds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

from launch import atomic
from rewards.budget import Spend
from rewards.errors import UserError
from rewards.ledger import Ledger
from rewards.types import Call, CallHandler, GroupKey, Ranking

EVERY_S = 2.0


class LedgerFile:
    """Records calls and writes the sums aside, at most every two seconds.

    Raises:
        UserError: the file is damaged.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = path
        self._clock = clock
        self._saved_s = clock()
        self.is_new = not path.exists()
        try:
            self.ledger = Ledger() if self.is_new else Ledger.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is damaged ({error}); delete it: the run then counts by its match log") from error

    def recorder(self, purpose: str, then: CallHandler | None = None) -> CallHandler:
        """A handler that enters calls under `purpose` and passes them on."""

        def on_call(key: GroupKey, call: Call | Ranking) -> None:
            self.ledger.record(purpose, call)
            if self._clock() - self._saved_s >= EVERY_S:
                self.save()
            if then is not None:
                then(key, call)

        return on_call

    def spent(self, purpose: str) -> Spend:
        total = self.ledger.total(purpose)
        return Spend(total.num_asked + total.num_written, total.tokens, total.cost)

    def save(self) -> None:
        self._saved_s = self._clock()
        atomic.write_bytes(self._path, (json.dumps(self.ledger.to_json(), indent=1) + "\n").encode())
