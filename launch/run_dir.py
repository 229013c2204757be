"""A run on disk: `runs/<name>-<time>/` and everything in it. Other code asks for steps, never for paths' spelling.

recipe.json  provenance.json            written at the start; a resume notes its command, and writes another recipe
recipe-1.json, recipe-2.json, ..        those that it had before, in order
groups/step_000012.parquet              before the step is learned from; .rejected.parquet where that went wrong
matches/step_000012.parquet             the match log; audits/ likewise: what a second judge said of some of its pairs
evaluation/start.parquet  evaluation/step_000012.parquet
checkpoints/step_12/                    a folder under this name is complete: its writer renames it into place
metrics.jsonl                           one row a step
phase.json                              at every phase: which it is, of which step, and since when
summary.json  report.html               at the end
driver.lock                             held while a driver writes
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from launch import atomic, tables
from launch.group_rows import all_audit_rows, groups_to_table, table_to_groups
from launch.provenance import provenance
from rewards.errors import UserError
from rewards.types import GroupScore, Prior
from rollouts.types import Group

FOLDERS = ("groups", "matches", "evaluation", "checkpoints")
JUDGE_CACHE = "judge_cache.sqlite"
PRIOR_KEY = b"podium.prior"


class RunDir:
    """One run directory. Methods raise UserError for a missing or damaged file and RunStopped when the disk is full."""

    def __init__(self, path: Path):
        self.path = path

    # --- being -----------------------------------------------------------------------------------------------------

    @classmethod
    def create(
        cls,
        storage: str | Path,
        name: str,
        recipe: Mapping[str, Any],
        *,
        seed: int,
        command: Sequence[str] | None = None,
        now: datetime | None = None,
    ) -> RunDir:
        """Make a new, empty run. `recipe` is the resolved recipe as plain JSON values.

        Raises:
            UserError: the storage folder cannot be written.
        """
        started = now or datetime.now()
        try:
            run = cls(_new_folder(Path(storage).expanduser().resolve(), f"{name}-{started:%Y%m%d-%H%M%S}"))
            for folder in FOLDERS:
                (run.path / folder).mkdir()
        except OSError as error:
            raise UserError(
                f"launch.storage: cannot make a run directory in {storage} ({error.strerror}); choose another folder"
            ) from error
        run._write_json("recipe.json", recipe)
        run._write_json("provenance.json", provenance(seed=seed, command=command or sys.argv, started=started))
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """An existing run.

        Raises:
            UserError: there is no run at `path`.
        """
        folder = Path(path).resolve()
        if not (folder / "recipe.json").is_file():
            raise UserError(f"{path} is not a run directory (no recipe.json in it); give a folder like runs/NAME-TIME")
        return cls(folder)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for writing; the kernel lets go when the process ends, however it ends.

        Raises:
            UserError: another driver writes this run, or the storage knows no locks.
        """
        path = self.path / "driver.lock"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another process"
                raise UserError(f"{self.path} is being written by {holder}; wait for it or stop it") from error
            except OSError as error:
                raise UserError(
                    f"{path}: the storage cannot lock files ({error.strerror}); choose another launch.storage"
                ) from error
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
            yield
        finally:
            os.close(descriptor)

    # --- what was asked for ----------------------------------------------------------------------------------------

    def recipe(self) -> dict[str, Any]:
        return self._read_json("recipe.json")

    def recipes(self) -> list[dict[str, Any]]:
        """All that the run had so far, oldest first; the last one is `recipe()`."""
        return [self._read_json(f"recipe-{n}.json") for n in self._earlier_recipes()] + [self.recipe()]

    def record_resume(
        self,
        recipe: Mapping[str, Any],
        *,
        after_step: int,
        command: Sequence[str] | None = None,
        now: datetime | None = None,
    ) -> None:
        """Write down that the run goes on after a step, and with which resolved recipe; one that differs is kept."""
        if json.loads(json.dumps(recipe)) != (before := self.recipe()):
            self._write_json(f"recipe-{1 + max(self._earlier_recipes(), default=0)}.json", before)
            self._write_json("recipe.json", recipe)
        resumed = {
            "started": (now or datetime.now()).isoformat(timespec="seconds"),
            "command": list(command or sys.argv),
            "after_step": after_step,
        }
        origin = self.provenance()
        self._write_json("provenance.json", origin | {"resumed": [*origin.get("resumed", ()), resumed]})

    def provenance(self) -> dict[str, Any]:
        return self._read_json("provenance.json")

    def _earlier_recipes(self) -> list[int]:
        return _numbers(self.path, r"recipe-(\d+)\.json")

    # --- steps -----------------------------------------------------------------------------------------------------

    def append_metrics(self, step: int, metrics: Mapping[str, float]) -> None:
        """One row: `step`, then the metrics."""
        atomic.append_line(self.path / "metrics.jsonl", json.dumps({"step": step, **metrics}))

    def metrics(self) -> list[dict[str, Any]]:
        """All rows so far, oldest first. A last line that was cut short by a kill does not count."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        *lines, _unfinished = path.read_text(encoding="utf-8").split("\n")
        rows = []
        for number, line in enumerate(lines, start=1):
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise UserError(f"{path}:{number}: not a JSON row ({error.msg}); delete this line") from error
        return rows

    def drop_metrics_after(self, step: int) -> None:
        """Forget the rows of later steps: a resumed run writes them anew, and no step stands there twice."""
        kept = [json.dumps(row) + "\n" for row in self.metrics() if row["step"] <= step]
        atomic.write_bytes(self.path / "metrics.jsonl", "".join(kept).encode())

    def save_groups(
        self, step: int, groups: Sequence[Group], scores: Sequence[GroupScore], *, prior: Prior | None = None
    ) -> None:
        """The step's groups with their scores, in order, and the aggregator's prior after them.

        What a second judge said goes into a table of its own, `audits`, with the columns of the match log.
        """
        table = groups_to_table(groups, scores).replace_schema_metadata({PRIOR_KEY: json.dumps(prior)})
        if audits := all_audit_rows(groups, scores):
            tables.write(self._table("audits", step), pa.Table.from_pylist(audits))
        else:
            self._table("audits", step).unlink(missing_ok=True)  # of a step that was broken off and sampled anew
        tables.write(self._table("groups", step), table)

    def load_groups(self, step: int) -> tuple[list[Group], list[GroupScore]]:
        """What `save_groups` was given, bit for bit."""
        return _groups(self._table("groups", step))

    def load_prior(self, step: int) -> Prior | None:
        """The prior that `save_groups` was given."""
        metadata = tables.read(self._table("groups", step)).schema.metadata or {}
        return json.loads(metadata.get(PRIOR_KEY, b"null"))

    def has_groups(self, step: int) -> bool:
        return self._table("groups", step).exists()

    def reject_groups(self, step: int) -> str:
        """Set the step's groups aside: it has none from here on. Returns where they lie, for whoever asks why."""
        kept_as = self._table("groups", step).with_suffix(".rejected.parquet")
        self._table("groups", step).rename(kept_as)
        return str(kept_as.relative_to(self.path))

    def save_matches(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """One row per judge call, as `rewards/match_rows.py` makes them."""
        tables.write(self._table("matches", step), pa.Table.from_pylist([dict(row) for row in rows]))

    def load_audits(self, step: int) -> list[dict[str, Any]]:
        return tables.read(self._table("audits", step)).to_pylist()

    def load_matches(self, step: int) -> list[dict[str, Any]]:
        return tables.read(self._table("matches", step)).to_pylist()

    def num_training_calls(self, table: str = "matches") -> int:
        """Judge calls that training steps made so far, those of steps that are to be learned again included.

        Verdicts of a router are no calls: they were made in no attempt.
        """
        calls = 0
        for path in (self.path / table).glob("step_*.parquet"):
            columns = tables.read(path, ["attempts"]).to_pydict()  # None where a step has no match
            calls += sum(attempts > 0 for attempts in columns.get("attempts", ()))
        return calls

    def save_evaluation(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """One row per held-out game. The report reads `prompt`, `before`, `after`, `outcome` (1 = after won; None)."""
        tables.write(self._table("evaluation", step), pa.Table.from_pylist([dict(row) for row in rows]))

    def load_evaluation(self, step: int) -> list[dict[str, Any]]:
        return tables.read(self._table("evaluation", step)).to_pylist()

    def save_start_answers(self, groups: Sequence[Group]) -> None:
        """The starting model's answers to the held-out prompts: what every evaluation plays against."""
        unscored = [GroupScore(rewards=[None] * len(group.rollouts)) for group in groups]
        tables.write(self.path / "evaluation" / "start.parquet", groups_to_table(groups, unscored))

    def load_start_answers(self) -> list[Group] | None:
        """None before they were saved."""
        path = self.path / "evaluation" / "start.parquet"
        return _groups(path)[0] if path.exists() else None

    def steps(self, folder: str) -> list[int]:
        """Steps that have a table in `groups`, `matches` or `evaluation`, in order."""
        return _numbers(self.path / folder, r"step_(\d+)\.parquet")

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def checkpoint_path(self, step: int) -> Path:
        return self.path / "checkpoints" / f"step_{step}"

    def checkpoints(self) -> list[int]:
        """Steps of the complete checkpoints, in order."""
        return _numbers(self.path / "checkpoints", r"step_(\d+)")

    def latest_checkpoint(self) -> int | None:
        return max(self.checkpoints(), default=None)

    def prune_checkpoints(self, keep: int, spared: Collection[int] = ()) -> list[int]:
        """Delete all complete checkpoints but the newest `keep` >= 1 and those `spared`; returns the steps deleted."""
        if keep < 1:
            raise ValueError(f"keep must be at least 1, got {keep}")
        old = [step for step in self.checkpoints()[:-keep] if step not in spared]
        for step in old:
            path = self.checkpoint_path(step)
            doomed = path.with_name(f".{path.name}.deleted")
            path.rename(doomed)
            shutil.rmtree(doomed)
        return old

    def sweep_checkpoints(self) -> None:
        """Delete what a killed run had not finished writing or deleting."""
        for pattern in ("step_*.tmp", ".step_*.deleted"):
            for folder in (self.path / "checkpoints").glob(pattern):
                shutil.rmtree(folder)

    def judge_cache(self) -> str | None:
        """Where the run keeps its judge's verdicts, relative to the run; None without a cache. Checkpoints name it."""
        return JUDGE_CACHE if (self.path / JUDGE_CACHE).exists() else None

    # --- now and the end ----------------------------------------------------------------------------------------------

    def save_phase(self, phase: Mapping[str, Any]) -> None:
        self._write_json("phase.json", phase)

    def save_summary(self, summary: Mapping[str, Any]) -> None:
        self._write_json("summary.json", summary)

    def summary(self) -> dict[str, Any] | None:
        """None while the run has not ended."""
        return self._read_json("summary.json") if (self.path / "summary.json").exists() else None

    # --- inside ----------------------------------------------------------------------------------------------------

    def _table(self, folder: str, step: int) -> Path:
        return self.path / folder / f"step_{step:06d}.parquet"

    def _write_json(self, name: str, value: Mapping[str, Any]) -> None:
        atomic.write_bytes(self.path / name, (json.dumps(value, indent=2) + "\n").encode())

    def _read_json(self, name: str) -> dict[str, Any]:
        path = self.path / name
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise UserError(f"{path} is missing; restore it or start a new run") from error
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise UserError(f"{path} is damaged ({error}); restore it or start a new run") from error


def _new_folder(storage: Path, name: str) -> Path:
    storage.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        path = storage / (name if number == 1 else f"{name}-{number}")
        try:
            path.mkdir()
        except FileExistsError:
            number += 1
        else:
            return path


def _groups(path: Path) -> tuple[list[Group], list[GroupScore]]:
    table = tables.read(path)
    try:
        return table_to_groups(table)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its columns are not those of saved groups ({error}); {tables.CURE}") from error


def _numbers(folder: Path, pattern: str) -> list[int]:
    names = (path.name for path in folder.iterdir()) if folder.is_dir() else ()
    return sorted(int(found[1]) for name in names if (found := re.fullmatch(pattern, name)))
