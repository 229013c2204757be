"""What DeepSpeed is told. Needs neither torch nor deepspeed, so that a recipe can be checked without them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rewards.errors import UserError
from rl.config import LearnerConfig, OffloadConfig, RLConfig

PERSISTENT_NUMEL = 100_000
"""ZeRO-3 leaves smaller parameters whole on every rank."""

MAX_BUCKET_NUMEL = 500_000_000

MIN_BUFFER_NUMEL = 100_000_000
"""DeepSpeed's own size of a buffer between NVMe and GPU."""


def stage_fault(learner: LearnerConfig) -> str | None:
    """Why DeepSpeed cannot train with this `zero_stage`, with the cure; None where it can."""
    if learner.zero_stage == 0 and learner.dtype == "bfloat16":
        return (
            "stage 0 cannot add up bfloat16 gradients in float32; use zero_stage: 1 (the same arithmetic, with the "
            "optimizer shared out among the ranks) or dtype: float32"
        )
    return None


def learner_faults(learner: LearnerConfig) -> Iterator[tuple[tuple[str, ...], str]]:
    """Keys of a `learner` section that cannot stand together, each with the rule and its cure."""
    if (fault := stage_fault(learner)) is not None:
        yield ("zero_stage",), fault
    if learner.lora is not None and learner.lora.dropout > 0:
        yield ("lora", "dropout"), "log-probabilities must be those of the policy that sampled; leave it 0"
    offload, stage = learner.offload, learner.zero_stage
    if offload.params != "none" and stage != 3:
        yield ("offload", "params"), f"stage {stage} keeps all weights on every rank; set zero_stage: 3"
    if offload.optimizer != "none" and stage == 0:
        yield ("offload", "optimizer"), "stage 0 has no ZeRO optimizer to move; set zero_stage: 1, 2 or 3"
    elif offload.optimizer == "nvme" and stage != 3:
        yield ("offload", "optimizer"), f"DeepSpeed swaps to NVMe at stage 3 only, this is {stage}; use cpu, or stage 3"
    on_disk = "nvme" in (offload.optimizer, offload.params)
    if on_disk and offload.nvme_path is None:
        yield ("offload", "nvme_path"), "nvme needs a folder on a fast local disk"
    if offload.nvme_path is not None and not on_disk:
        yield ("offload", "nvme_path"), "has no effect unless optimizer or params is nvme; leave it out"


def offload_fault(learner: LearnerConfig) -> tuple[tuple[str, ...], str] | None:
    """What a learner on CPU cannot do."""
    for key in ("optimizer", "params"):
        if getattr(learner.offload, key) != "none":
            return ("offload", key), "offload makes room on a GPU and the learner runs on a CPU; set none"
    return None


def check_learner(config: RLConfig, device: str) -> None:
    """Raises UserError for what DeepSpeed cannot do."""
    faults = list(learner_faults(config.learner))
    if device == "cpu" and (fault := offload_fault(config.learner)) is not None:
        faults.append(fault)
    if faults:
        raise UserError("; ".join(f"learner.{'.'.join(key)}: {rule}" for key, rule in faults))


def deepspeed_config(
    config: RLConfig, device: str, numel: int | None = None, *, largest_numel: int | None = None
) -> dict[str, Any]:
    """DeepSpeed's configuration; `numel` counts the model's parameters, where they are known.

    The learner decides when a batch is complete (its micro-batches hold tokens, not a fixed number of rollouts), so
    DeepSpeed's own accumulation is off. Stage 0 clips in the learner. bfloat16 gradients are added up in float32.

    Args:
        largest_numel: numbers in the largest matrix, which must fit a buffer of weights that lie on NVMe.
    """
    learner = config.learner
    zero: dict[str, Any] = {"stage": learner.zero_stage}
    if numel is not None:
        zero["reduce_bucket_size"] = min(numel, MAX_BUCKET_NUMEL)
    if device == "cpu" or learner.zero_stage < 2:
        zero["overlap_comm"] = False
    if learner.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = PERSISTENT_NUMEL
    zero |= _offload(learner.offload, largest_numel)
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if learner.zero_stage == 0 else config.optimizer.max_grad_norm,
        "zero_optimization": zero,
        "steps_per_print": None,
        "zero_force_ds_cpu_optimizer": False,  # torch's fused AdamW also runs on a CPU, and needs no compiler
    }
    if learner.dtype == "bfloat16":
        settings |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return settings


def _offload(config: OffloadConfig, largest_numel: int | None) -> dict[str, Any]:
    """The keys of `zero_optimization` that move state off the GPU."""
    settings: dict[str, Any] = {}
    for key, name in (("optimizer", "offload_optimizer"), ("params", "offload_param")):
        where = getattr(config, key)
        if where != "none":
            settings[name] = {"device": where, "pin_memory": True}
        if where == "nvme":
            settings[name]["nvme_path"] = config.nvme_path
            if key == "params" and largest_numel is not None:
                settings[name]["buffer_size"] = max(largest_numel, MIN_BUFFER_NUMEL)
    return settings
