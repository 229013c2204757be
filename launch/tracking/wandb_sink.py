"""Weights & Biases, offline unless the recipe asks for online and somebody is logged in.

wandb must not take a run down: its errors, and those of talking to its service process, are told once as a Note, after
which the sink is off. wandb is imported when the run starts, not with this module: that takes seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from recipes.schema import WandbConfig
from rl.events import Event, Note, RunDone, StepDone


class WandbSink:
    """One wandb run in `run_dir/wandb`; a resumed run goes on under the same id.

    Args:
        config: mode "offline" or "online"; for "disabled" make no sink.
        run_dir: the run's folder; its name is the wandb run's id and name.
        recipe: the resolved recipe, stored as wandb's config.
        notify: takes a Note when wandb is switched to offline or off.
    """

    def __init__(self, config: WandbConfig, run_dir: Path, recipe: Mapping[str, Any], notify: Callable[[Event], None]):
        import wandb
        from wandb.sdk.mailbox import HandleAbandonedError, MailboxClosedError

        self._errors = (wandb.Error, OSError, HandleAbandonedError, MailboxClosedError)
        self._notify = notify
        self._told = False
        self._run: wandb.Run | None = None
        mode = "online" if config.mode == "online" and self._logged_in(run_dir) else "offline"
        try:
            self._run = wandb.init(
                project=config.project,
                entity=config.entity,
                dir=run_dir,
                id=run_dir.name,
                name=run_dir.name,
                config=dict(recipe),
                mode=mode,
                resume="allow" if mode == "online" else None,
                settings=wandb.Settings(silent=True, console="off", disable_git=True, disable_code=True),
            )
        except self._errors as error:
            self._switch_off(error)

    def handle(self, event: Event) -> None:
        if self._run is None:
            return
        try:
            if isinstance(event, StepDone):
                self._run.log(dict(event.metrics), step=event.step)
            elif isinstance(event, RunDone):
                self._run.summary.update(dict(event.summary))
        except self._errors as error:
            self._switch_off(error)

    def close(self) -> None:
        """Ends wandb's run and its service process; only then is everything on the disk."""
        import wandb

        run, self._run = self._run, None
        try:
            if run is not None:
                run.finish()
            # Also where wandb is broken: it would try again at the end of this process, and say so with a traceback.
            wandb.teardown()
        except self._errors as error:
            self._switch_off(error)

    def _logged_in(self, run_dir: Path) -> bool:
        import wandb

        try:
            if wandb.login(prompt=False):
                return True
            reason = "not logged in"
        except self._errors as error:
            reason = _one_line(error)
        self._notify(
            Note(
                "warning",
                f"wandb: {reason}; recording offline, send it later with `wandb sync {run_dir / 'wandb'}/*run-*`",
            )
        )
        return False

    def _switch_off(self, error: BaseException) -> None:
        self._run = None
        if self._told:
            return
        self._told = True
        self._notify(
            Note("warning", f"wandb failed ({_one_line(error)}) and is off for this run; metrics.jsonl has every row")
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
