"""How many prompts a recipe's task has and which fields they carry, without loading a data library."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rewards.errors import UserError
from rollouts.config import DatasetsSource, FreeformTask, JsonlSource, SlateRankTask, SyntheticPools, TaskConfig
from rollouts.sources import package_file
from rollouts.tasks import build_task

MAX_READ_BYTES = 32 * 1024 * 1024
"""Larger sources are counted by their lines; the run itself reads them in full."""


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """None where only the run itself can know: a `datasets` source, a python task."""

    num_train: int | None = None
    num_heldout: int | None = None
    fields: frozenset[str] | None = None


def source_facts(task: TaskConfig, seed: int, base_dir: Path) -> SourceFacts:
    """Reads the source as the run will.

    Raises:
        UserError: one line per fault: a file is missing, a row is broken, the template names a field that is not there.
    """
    if not isinstance(task, FreeformTask | SlateRankTask):
        return SourceFacts()
    if isinstance(task.source, DatasetsSource):
        return SourceFacts(num_heldout=task.heldout)
    if isinstance(task.source, SyntheticPools):
        files: list[Path] = []
    elif isinstance(task.source, JsonlSource):
        files = [base_dir / Path(task.source.path).expanduser()]
    else:
        files = [package_file(task.source.package, name) for name in task.source.files]
    if sum(file.stat().st_size for file in files if file.is_file()) > MAX_READ_BYTES:
        return SourceFacts(num_lines(files) - task.heldout, task.heldout)
    prompts = build_task(task, seed, base_dir)
    train, heldout = prompts.train_prompts(), prompts.heldout_prompts()
    fields = {name for prompt in (*train, *heldout) for name in prompt.fields}
    return SourceFacts(len(train), len(heldout), frozenset(fields))


def num_lines(files: list[Path]) -> int:
    """Lines that are not blank."""
    total = 0
    for file in files:
        try:
            with file.open("rb") as stream:
                total += sum(1 for line in stream if not line.isspace())
        except OSError as error:
            raise UserError(f"{file}: cannot be read ({error.strerror}); check the path") from error
    return total
