"""All sinks of a run as one.

event --> metrics.jsonl, phase.json --> wandb --> screen          wandb's own troubles --Note--> screen
"""

from __future__ import annotations

from launch.run_dir import RunDir
from launch.tracking.display import make_display
from launch.tracking.fanout import Fanout
from launch.tracking.jsonl import MetricsFile
from launch.tracking.phase_file import PhaseFile
from launch.tracking.wandb_sink import WandbSink
from recipes.schema import Recipe
from rl.events import EventSink


def make_tracker(recipe: Recipe, run: RunDir, num_steps: int | None = None) -> EventSink:
    """What `recipe.tracking` asks for. Starting wandb takes seconds. Close it when the run ends, however it ends.

    Args:
        num_steps: of the run; default: those of `rl`.
    """
    display = make_display(recipe.tracking.display, run.path.name, num_steps or recipe.rl.num_steps)
    sinks: list[EventSink] = [MetricsFile(run), PhaseFile(run)]
    if recipe.tracking.wandb.mode != "disabled":
        sinks.append(WandbSink(recipe.tracking.wandb, run.path, recipe.model_dump(mode="json"), display.handle))
    return Fanout([*sinks, display])
