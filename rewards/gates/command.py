"""A command, such as a unit test, decides about the answer.

answer, fields of the prompt --written to--> a new folder --one process tree under limits--> exit code 0 passes
                    semaphore: `max_concurrency` at once;  wall clock: the tree is killed;  the folder goes at the end
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from contextlib import suppress
from pathlib import Path

from rewards.errors import UserError
from rewards.gate_config import CommandGate, gate_name
from rewards.gates.finding import PASSED, Finding, field_of, inside_fence, text_of
from rewards.gates.sandbox import NOBODY, Limits, limited, program_of, walls
from rewards.types import Candidate, Prompt

_TAIL_BYTES = 2000


class Command:
    """Score: 0 or 1. Whether the program can be started at all is tried out once, before there is any answer."""

    def __init__(self, config: CommandGate) -> None:
        self.config = config
        self._name = gate_name(config)
        try:
            wall = walls(network=config.network == "allowed", as_nobody=config.run_as == "nobody")
            program = program_of(config.command[0], wall)
        except UserError as error:
            cure = "; set network to allowed to go without" if "cut off" in str(error) else ""
            raise UserError(f"gate {self._name}: {error}{cure}") from None
        limits = Limits(
            cpu_s=int(config.timeout_s) + 1,
            memory_mib=config.memory_mib,
            max_file_mib=config.max_file_mib,
            max_processes=config.max_processes,
        )
        self._argv = limited(wall, limits, (program, *config.command[1:]))
        self._owner = NOBODY if os.geteuid() == 0 and config.run_as == "nobody" else None
        self._places = asyncio.Semaphore(config.max_concurrency)

    async def __call__(self, prompt: Prompt, candidate: Candidate) -> Finding:
        text = text_of(candidate, self.config.part)
        if isinstance(text, Finding):
            return text
        files = {name: field_of(prompt, field, self._name) for name, field in self.config.field_files.items()}
        files[self.config.answer_file] = inside_fence(text) if self.config.fenced else text
        async with self._places:
            folder = Path(tempfile.mkdtemp(prefix="podium-gate-"))
            try:
                work = self._prepare(folder, files)
                return await self._run(folder, work)
            finally:
                _remove(folder)

    def _prepare(self, folder: Path, files: dict[str, str]) -> Path:
        """The folder where the command runs; what it prints goes beside it, out of its reach."""
        work = folder / "work"
        work.mkdir()
        for name, text in files.items():
            (work / name).write_text(text, encoding="utf-8", errors="replace")
        if self._owner is not None:
            folder.chmod(0o711)
            for path in (work, *(work / name for name in files)):
                os.chown(path, self._owner, self._owner)
        return work

    async def _run(self, folder: Path, work: Path) -> Finding:
        output = folder / "output"
        with output.open("wb") as stream:
            process = await asyncio.create_subprocess_exec(
                *self._argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                cwd=work,
                env={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "HOME": str(work),
                    "TMPDIR": str(work),
                    "LANG": "C.UTF-8",
                    **self.config.env,
                },
                start_new_session=True,
            )
        try:
            code = await asyncio.wait_for(process.wait(), self.config.timeout_s)
        except TimeoutError:
            return Finding(0.0, f"took longer than {self.config.timeout_s:g} s")
        finally:
            await _kill(process)
        if code == 0:
            return PASSED
        tail = _tail(output)
        return Finding(0.0, f"exit code {code}{f': {tail}' if tail else ''}")


async def _kill(process: asyncio.subprocess.Process) -> None:
    """Whatever still runs. Process 1 of the tree goes first: unshare ends when the whole tree is gone.

    Where the machine allows no tree of its own, the session is what is killed, also what a command left behind.
    """
    if process.returncode is None:
        await _kill_children(process)
    with suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    await asyncio.shield(process.wait())


async def _kill_children(process: asyncio.subprocess.Process) -> None:
    with suppress(OSError):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGKILL)
        async with asyncio.timeout(1.0):
            await asyncio.shield(process.wait())


def _remove(folder: Path) -> None:
    for _ in range(5):  # A killed process may still have been writing.
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            return


def _tail(output: Path) -> str:
    """The last line of what was printed."""
    with output.open("rb") as stream:
        stream.seek(max(0, output.stat().st_size - _TAIL_BYTES))
        lines = stream.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else ""
