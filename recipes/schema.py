"""The recipe: one experiment in one typed, frozen object."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from recipes.checks import cross_faults
from rewards.config import RewardsConfig
from rewards.strict import StrictModel
from rl.config import EvaluationConfig, RLConfig
from rl.sft_config import SFTConfig
from rollouts.config import RolloutsConfig, TaskConfig


class ModelConfig(StrictModel):
    """The policy."""

    path: str
    """Directory in the Hugging Face layout, `package:NAME` for a model that a Python package ships, or a hub name."""
    max_context: Annotated[int, Field(ge=16)] | None = None
    """Longest prompt plus answer; default: what the model's config says."""


class WandbConfig(StrictModel):
    mode: Literal["offline", "online", "disabled"] = "offline"
    project: str = "podium"
    entity: str | None = None


class TrackingConfig(StrictModel):
    """Where events go besides metrics.jsonl."""

    wandb: WandbConfig = WandbConfig()
    display: Literal["auto", "rich", "plain"] = "auto"
    """auto: live on a terminal, plain lines otherwise."""


Deadline = Annotated[float, Field(gt=0, le=604_800)]


class PhaseDeadlines(StrictModel):
    """Deadlines of single phases, in seconds, where they are not `deadline_s`."""

    start: Deadline | None = None
    """Also of an engine that is being replaced, whatever the phase."""
    sample: Deadline | None = None
    judge: Deadline | None = None
    learn: Deadline | None = None
    sync: Deadline | None = None
    evaluate: Deadline | None = None
    save: Deadline | None = None


class WatchdogConfig(StrictModel):
    """What happens when a phase shows no sign of life: no rollout, no judge call, no end of the phase."""

    deadline_s: Deadline = 1800.0
    """Longer than the longest quiet phase, which is learning on a large batch or the first start of an engine."""
    phases: PhaseDeadlines = PhaseDeadlines()
    """For instance {sample: 300}."""
    action: Literal["stop", "retry"] = "stop"
    """`retry`: engines that hang over rollouts are killed and replaced; whatever else hangs stops the run."""


class LaunchConfig(StrictModel):
    """Where the run lives and what it runs on."""

    storage: str = "runs"
    """Folder of run directories; shared storage for runs on several nodes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    ray_address: str | None = None
    """Existing cluster ("auto" inside a Ray job); default: $RAY_ADDRESS if set, else a private local one."""
    watchdog: WatchdogConfig = WatchdogConfig()


class Recipe(StrictModel):
    """One experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    model: ModelConfig
    task: TaskConfig
    rollouts: RolloutsConfig = RolloutsConfig()
    rewards: RewardsConfig
    rl: RLConfig
    sft: SFTConfig | None = None
    evaluation: EvaluationConfig = EvaluationConfig()
    tracking: TrackingConfig = TrackingConfig()
    launch: LaunchConfig = LaunchConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Refuse impossible combinations; `recipes/load.py` turns the list of faults into one line each."""
        faults = cross_faults(self)
        if faults:
            text = "; ".join(f"{'.'.join(map(str, path))}: {rule}" for path, rule in faults)
            raise PydanticCustomError("cross_field", "{text}", {"text": text, "faults": faults, "recipe": self})
        return self
