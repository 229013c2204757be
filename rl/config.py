"""The `rl` and `evaluation` sections of a recipe: objective, advantage, optimizer, learner ranks, checkpoints."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.judge_config import JudgeConfig
from rewards.strict import StrictModel
from rl.objective_config import AdvantageKind as AdvantageKind
from rl.objective_config import ObjectiveConfig as ObjectiveConfig


class OptimizerConfig(StrictModel):
    """AdamW on float32 master weights."""

    lr: Annotated[float, Field(gt=0, lt=1)] = 1e-6
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.95)
    eps: Annotated[float, Field(gt=0)] = 1e-8
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    """Training steps over which the learning rate rises to `lr`; all updates of a step share its rate."""
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] = 0.0


class LoraConfig(StrictModel):
    """Train low-rank matrices beside frozen weights (arXiv 2106.09685), at any zero_stage; engines and checkpoints get
    them merged."""

    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0)] = 32.0
    """The product of the two matrices counts alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Only 0: log-probabilities must be those of the policy that sampled."""
    target_modules: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Last parts of the names of the matrices that are adapted."""


class OffloadConfig(StrictModel):
    """Where DeepSpeed keeps what a GPU has no room for. Slower; the arithmetic is the same."""

    optimizer: Literal["none", "cpu", "nvme"] = "none"
    """Masters and Adam moments; the update itself is then computed on the CPU."""
    params: Literal["none", "cpu", "nvme"] = "none"
    """Weights, fetched layer by layer; zero_stage 3 only."""
    nvme_path: str | None = None
    """Folder on a fast local disk, for `nvme`."""


class LearnerConfig(StrictModel):
    """DeepSpeed ranks and how a batch is cut."""

    ranks: Annotated[int, Field(ge=1)] = 1
    zero_stage: Literal[0, 1, 2, 3] = 1
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the forward and backward pass; master weights and Adam moments are float32."""
    micro_batch_tokens: Annotated[int, Field(ge=16)] = 4096
    """Token budget of one forward pass; results do not depend on it."""
    share_prompt: bool = True
    """Run each group's prompt once and let its rollouts attend to it through a block mask."""
    gradient_checkpointing: bool = False
    logprob_chunk: Annotated[int, Field(ge=1)] = 512
    """Answer tokens whose vocabulary logits exist at the same time."""
    cpu_threads: Annotated[int, Field(ge=1)] | None = None
    lora: LoraConfig | None = None
    offload: OffloadConfig = OffloadConfig()


class SyncConfig(StrictModel):
    """How weights reach vLLM."""

    backend: Literal["auto", "shm", "nccl", "ipc"] = "auto"
    """auto: shm on CPU, nccl for separate GPUs, ipc for colocated ones."""
    verify_every: Annotated[int, Field(ge=1)] = 1
    """Compare byte hashes of every tensor on both sides each so many syncs."""


class CheckpointConfig(StrictModel):
    every: Annotated[int, Field(ge=1)] = 10
    """Steps between checkpoints; the last step is always saved."""
    keep: Annotated[int, Field(ge=1)] = 2
    """Newest checkpoints that stay."""
    keep_best: Annotated[int, Field(ge=0)] = 1
    """Beside them, those with the best held-out win rates; steps without an evaluation have none."""


class DynamicSamplingConfig(StrictModel):
    """Groups that teach nothing are set aside, and further prompts are sampled in their place in the same step.

    A group teaches nothing if all its rewards are equal, too few of its rollouts are scored (`min_group`), or its
    reliability is under the threshold. Every refill is sampled, judged and counted like the step's first groups.
    """

    min_reliability: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Under `empirical_bayes`; rewards without a reliability (metrics, plain win rates) are held to their spread."""
    max_rounds: Annotated[int, Field(ge=1, le=16)] = 2
    """Refills per step; each samples as many groups as are still missing, and multiplies the bound on judge calls."""


class RLConfig(StrictModel):
    """How the policy learns."""

    init_from: str | None = None
    """Start from these weights instead of model.path: a run of `podium sft` (its last checkpoint), a checkpoint folder
    or a model directory. Engines, learner, KL reference and the evaluation's starting model are then this one."""
    num_steps: Annotated[int, Field(ge=1)]
    staleness: Literal[0, 1] = 0
    """1: the next step's rollouts are sampled and judged while this one is learned, by weights one version older.

    The loss must then correct for it, engines need their own GPUs, and the probe after each verified sync is the
    alarm for engines that hold other weights. A killed run still resumes exactly; after a stop on request the step
    that was broken off is sampled by the newest weights, as a first step is."""
    updates_per_step: Annotated[int, Field(ge=1)] = 1
    """Optimizer steps per batch of rollouts; above 1 old logprobs are recomputed first."""
    objective: ObjectiveConfig = ObjectiveConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    learner: LearnerConfig = LearnerConfig()
    sync: SyncConfig = SyncConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    min_group: Annotated[int, Field(ge=2)] = 2
    """Groups with fewer scored rollouts are dropped and counted."""
    dynamic_sampling: DynamicSamplingConfig | None = None
    """Default: every group is learned from, whatever it teaches."""
    min_batch_reliability: Annotated[float, Field(ge=0, le=1)] = 0.0
    """A batch whose mean reliability is lower skips its update."""
    max_logprob_gap: Annotated[float, Field(gt=0)] = 0.2
    """Mean |learner - engine| logprob of sampled tokens, in nats, above which the run stops."""


class EvaluationConfig(StrictModel):
    """Held-out games of the current policy against the starting model."""

    num_prompts: Annotated[int, Field(ge=1)] = 64
    every: Annotated[int, Field(ge=1)] | None = None
    """Steps between evaluations; the last step is always evaluated."""
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    rollouts_per_prompt: Annotated[int, Field(ge=1, le=64)] = 1
    """Answers per model and prompt; answer i meets answer i."""
    audit_judge: JudgeConfig | None = None
    """A second judge of another kind whose verdicts enter no reward; asked about the last evaluation's answers."""
    audit_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    """Share of the pairs decided in training that audit_judge is asked about, too, step by step: how far the judges
    agree is `judge/audit_agreement`. Its calls are paid out of `rewards.budget`, of which it has a part."""
    ladder: Literal["round_robin", "knockout"] = "round_robin"
    """Who meets whom in `podium eval`, per prompt: everybody, or a bracket drawn by lot, cheaper with many players."""
    bootstrap: Annotated[int, Field(ge=100, le=1_000_000)] = 10_000
