"""What DeepSpeed is told. Needs neither torch nor deepspeed, so that a recipe can be checked without them."""

from __future__ import annotations

from typing import Any

from rewards.errors import UserError
from rl.config import LearnerConfig, RLConfig

PERSISTENT_NUMEL = 100_000
"""ZeRO-3 leaves smaller parameters whole on every rank."""

MAX_BUCKET_NUMEL = 500_000_000


def stage_fault(learner: LearnerConfig) -> str | None:
    """Why DeepSpeed cannot train with this `zero_stage`, with the cure; None where it can."""
    if learner.zero_stage == 0 and learner.dtype == "bfloat16":
        return (
            "stage 0 cannot add up bfloat16 gradients in float32; use zero_stage: 1 (the same arithmetic, with the "
            "optimizer shared out among the ranks) or dtype: float32"
        )
    return None


def check_learner(config: RLConfig) -> None:
    """Raises UserError for what DeepSpeed cannot do."""
    if (fault := stage_fault(config.learner)) is not None:
        raise UserError(f"rl.learner.zero_stage: {fault}")


def deepspeed_config(config: RLConfig, device: str, numel: int | None = None) -> dict[str, Any]:
    """DeepSpeed's configuration; `numel` counts the model's parameters, where they are known.

    The learner decides when a batch is complete (its micro-batches hold tokens, not a fixed number of rollouts), so
    DeepSpeed's own accumulation is off. Stage 0 clips in the learner. bfloat16 gradients are added up in float32.
    """
    learner = config.learner
    zero: dict[str, Any] = {"stage": learner.zero_stage}
    if numel is not None:
        zero["reduce_bucket_size"] = min(numel, MAX_BUCKET_NUMEL)
    if device == "cpu" or learner.zero_stage < 2:
        zero["overlap_comm"] = False
    if learner.zero_stage == 3:
        zero["stage3_param_persistence_threshold"] = PERSISTENT_NUMEL
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if learner.zero_stage == 0 else config.optimizer.max_grad_norm,
        "zero_optimization": zero,
        "steps_per_print": None,
    }
    if learner.dtype == "bfloat16":
        settings |= {"bf16": {"enabled": True}, "data_types": {"grad_accum_dtype": "fp32"}}
    return settings
