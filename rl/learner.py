"""The learner: one rank of DeepSpeed, from groups to new weights. The same code on CPU (gloo) and GPU (nccl).

    groups (all of them, on every rank)
      -> mini-batches of one optimizer update each -> this rank's micro-batches (rl/batching.py)
      -> forward, policy_loss, backward ... ; DeepSpeed adds up over ranks ; loss and gradient finite? ; update

Ranks talk in every pass, so each method here is called on all ranks, in the same order and with the same arguments.

Shapes: S segment buckets.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.errors import BatchRejected
from rl.batching import MicroBatch, build_micro_batches, split_updates, teaching_rollouts
from rl.config import RLConfig
from rl.disco import disco_pass
from rl.learner_keeping import Keeper
from rl.learner_setup import load_reference, load_trained, settle_process
from rl.lora import BaseOnly
from rl.metrics import Mean, Metric, Sum, merge, summarize
from rl.micro_batch_loss import micro_batch_loss
from rl.model_check import check_model
from rl.objectives import Disco, Objective, compute_normalizers
from rl.optimizer import build_optimizer, lr_at
from rl.policy import Policy
from rl.types import TrainGroup
from rl.zero import check_learner, deepspeed_config

logger = logging.getLogger(__name__)


class Learner:
    """The policy, its optimizer and, where the objective asks for it, the frozen start: a copy, or LoRA's base.

    Args:
        model_dir: the starting model in the Hugging Face layout.
        temperature: of the sampling; log-probabilities are taken under it.
        master_addr, master_port: where rank 0 listens.
        device: "cpu", or "cuda" with this rank's GPU as the only visible one.

    Raises:
        UserError: a combination that cannot be trained.
    """

    def __init__(
        self,
        model_dir: str | Path,
        config: RLConfig,
        *,
        objective: Objective,
        temperature: float,
        rank: int = 0,
        world_size: int = 1,
        master_addr: str = "127.0.0.1",
        master_port: int,
        device: str = "cpu",
        seed: int = 0,
    ):
        check_learner(config, device)
        self.config, self.objective, self.temperature = config, objective, temperature
        self.rank, self.world_size = rank, world_size
        self.device = torch.device(device)
        self.dtype: torch.dtype = getattr(torch, config.learner.dtype)
        self.model_dir = Path(model_dir)
        self.num_steps_done = 0
        settle_process(self.device, seed=seed + rank, num_threads=config.learner.cpu_threads, world_size=world_size)
        self._join(master_addr, master_port)
        self._reference: Policy | BaseOnly | None = (
            load_reference(self.model_dir, config, temperature=temperature, device=self.device)
            if objective.kl_coef > 0 and config.learner.lora is None
            else None
        )
        policy = load_trained(self.model_dir, config, temperature=temperature, device=self.device, seed=seed)
        self.model: Any = policy.model
        numels = [getattr(parameter, "ds_numel", parameter.numel()) for parameter in self.model.parameters()]
        settings = deepspeed_config(config, device, sum(numels), largest_numel=max(numels))
        optimizer = build_optimizer(policy, config.optimizer)
        if config.learner.zero_stage == 0:
            # Without ZeRO, DeepSpeed has no check for non-finite gradients and does not tell their norm.
            optimizer.register_step_pre_hook(lambda *_: self._clip())
        self._policy = policy
        import deepspeed

        self._engine: Any
        self._engine, *_ = deepspeed.initialize(
            model=policy, optimizer=optimizer, config=settings, dist_init_required=False
        )
        # Here, because under ZeRO-3 the engine's hooks bring the weights together.
        check_model(policy, self.model_dir, config.learner, self.device)
        if objective.kl_coef > 0 and config.learner.lora is not None:
            self._reference = BaseOnly(self._engine, self.model)
        self._basic_optimizer: torch.optim.Optimizer = optimizer
        stage, lora = config.learner.zero_stage, config.learner.lora
        self._keeper = Keeper(self._engine, self.model, self.model_dir, self.dtype, rank, world_size, stage, lora)
        self._grad_norm = math.nan
        logger.info(
            "learner rank %d of %d: %s, ZeRO-%d, %s, fused torch AdamW on float32 masters, %d threads",
            *(rank, world_size, self.device, config.learner.zero_stage, config.learner.dtype, torch.get_num_threads()),
        )

    # --- learning ---------------------------------------------------------------------------------------------

    def step(self, groups: Sequence[TrainGroup]) -> dict[str, float]:
        """Learn from a batch: `updates_per_step` optimizer updates, each on its share of the groups.

        Returns the same metrics on every rank: those of `policy_loss`, losses and `rl/grad_norm` averaged over updates,
        `rl/lr`, `rl/num_forward_tokens`, `time/forward_backward_s`, `time/update_s`; under `disco` `rl/disco_loss`,
        `rl/disco_kl` and `rl/num_groups_without_pairs` too. The `sync/` metrics compare the engine with the weights
        before the first update. An update that no rollout has a part in is left out, since momentum and weight decay
        would move the weights all the same: `rl/skipped` is the share of those, where there are some.

        Raises:
            BatchRejected: the loss or the gradient is not finite; the weights are as they were before that update.
        """
        lr = lr_at(self.num_steps_done + 1, self.config.optimizer, self.config.num_steps)
        for group in self._basic_optimizer.param_groups:
            group["lr"] = lr
        parts = split_updates(groups, self.config.updates_per_step)
        recompute = len(parts) > 1 and not self.objective.bypass
        old = [self.logprobs(part) if recompute and self._teaches(part) else None for part in parts]
        metrics = [self._update(part, old_logprobs) for part, old_logprobs in zip(parts, old, strict=True)]
        made = [update for update, one in enumerate(metrics) if "rl/loss" in one]
        if not recompute:  # later updates saw the engine beside weights that had moved on
            for update in made[1:]:
                metrics[update] = {k: value for k, value in metrics[update].items() if not k.startswith("sync/")}
        summary = summarize(merge(metrics))
        if len(made) < len(parts):
            summary["rl/skipped"] = (len(parts) - len(made)) / len(parts)
        if made:
            self.num_steps_done += 1
            summary["rl/lr"] = lr
        return summary

    def _teaches(self, groups: Sequence[TrainGroup]) -> bool:
        """Whether the groups have a gradient; those whose pairs are weighed first may turn out to have none."""
        everyone = self.objective.all_rollouts_teach or self.objective.disco is not None
        return everyone or bool(teaching_rollouts(groups))

    def _update(self, groups: Sequence[TrainGroup], old: Sequence[np.ndarray] | None) -> dict[str, Metric]:
        """Metrics without `rl/loss`: nothing taught, and no weight was touched."""
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        normalizers_S = compute_normalizers(
            [rollout.segment_ids for rollout in rollouts],
            [rollout.loss_mask for rollout in rollouts],
            objective=self.objective,
        )
        started = time.perf_counter()
        facts: dict[str, Metric] = {}
        if self.objective.disco is not None:
            groups, facts = self._weigh_pairs(groups, old, self.objective.disco)
        # Rollouts that have no part in the gradient need no pass; the normalisers count them.
        only = None if self.objective.all_rollouts_teach else teaching_rollouts(groups)
        if only is not None and not only:
            return facts
        parts: list[dict[str, Metric]] = []
        num_tokens = 0
        for batch in self._micro_batches(groups, only=only):
            loss, metrics = self._loss(batch, normalizers_S, old)
            # DeepSpeed averages over ranks; the normalisers are those of the whole batch, so a sum is wanted.
            self._engine.backward(loss * (0.0 if batch.is_filler else self.world_size), scale_wrt_gas=False)
            if not batch.is_filler:
                parts.append(metrics)
                num_tokens += batch.num_tokens
        seconds = time.perf_counter() - started
        gathered = self._gather((parts, num_tokens, seconds))
        metrics = merge(part for rank_parts, _, _ in gathered for part in rank_parts)
        losses = {key: metrics[key].result or 0.0 for key in ("rl/loss", "rl/policy_loss")}
        if not math.isfinite(losses["rl/loss"]):
            raise BatchRejected(self._stopped(f"the loss is {losses['rl/loss']}"))
        started = time.perf_counter()
        self._engine.step()
        norm = self._grad_norm if self.config.learner.zero_stage == 0 else float(self._engine.get_global_grad_norm())
        if not math.isfinite(norm):  # DeepSpeed has left the weights alone
            raise BatchRejected(self._stopped("the gradient is not finite"))
        per_update = losses | {"rl/grad_norm": norm}
        return (
            metrics
            | facts
            | {key: Mean(value, 1) for key, value in per_update.items()}
            | {
                "rl/num_forward_tokens": Sum(sum(tokens for _, tokens, _ in gathered)),
                "time/forward_backward_s": Sum(max(seconds for _, _, seconds in gathered)),
                "time/update_s": Sum(time.perf_counter() - started),
            }
        )

    def _weigh_pairs(
        self, groups: Sequence[TrainGroup], old: Sequence[np.ndarray] | None, knobs: Disco
    ) -> tuple[Sequence[TrainGroup], dict[str, Metric]]:
        """The pass before the loss: scores of every answer on all ranks, so that each group is whole on each."""
        found = disco_pass(groups, self.logprobs(groups), old, knobs=knobs)
        return found.groups, {
            "rl/disco_loss": Mean(found.loss, 1),
            "rl/disco_kl": Mean(found.kl, 1),
            "rl/num_groups_without_pairs": Sum(found.num_groups_without_pairs),
        }

    def _loss(
        self, batch: MicroBatch, normalizers_S: np.ndarray, old: Sequence[np.ndarray] | None
    ) -> tuple[Tensor, dict[str, Metric]]:
        return micro_batch_loss(batch, self._engine, self._reference, self.objective, normalizers_S, old)

    def _stopped(self, what: str) -> str:
        return (
            f"{what}; weights were not changed and nothing was saved. "
            "Look for extreme advantages or a learning rate that is too high, then resume from the last checkpoint"
        )

    # --- scoring ----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def logprobs(self, groups: Sequence[TrainGroup], *, reference: bool = False) -> list[np.ndarray]:
        """Natural logprobs of each rollout's answer tokens (0 outside the loss mask), float32, in the batch's order.

        Raises:
            ValueError: the reference is asked for and the objective keeps none.
        """
        model = self._reference if reference else self._engine
        if model is None:
            raise ValueError("the objective keeps no reference model (kl_coef is 0)")
        found: dict[int, np.ndarray] = {}
        for batch in self._micro_batches(groups):
            logprobs_BT, _ = model(batch)
            if not batch.is_filler:
                found |= dict(zip(batch.rollout_ids_B, logprobs_BT.float().cpu().numpy(), strict=True))
        rows = {number: row for part in self._gather(found) for number, row in part.items()}
        rollouts = [rollout for group in groups for rollout in group.rollouts]
        return [rows[number][: len(rollout.token_ids)] for number, rollout in enumerate(rollouts)]

    def _micro_batches(self, groups: Sequence[TrainGroup], *, only: frozenset[int] | None = None) -> list[MicroBatch]:
        batches = build_micro_batches(
            groups,
            max_tokens=self.config.learner.micro_batch_tokens,
            share_prompt=self.config.learner.share_prompt,
            rank=self.rank,
            world_size=self.world_size,
            only=only,
        )
        return [batch.to(self.device) for batch in batches]

    # --- keeping ----------------------------------------------------------------------------------------------

    def save(self, path: str | Path, extra: Mapping[str, Any]) -> None:
        """Write a checkpoint to `path`; whatever happens on the way, `path` is whole or not there.

        Args:
            extra: the trainer's own state, plain JSON values.

        Raises:
            RunStopped: the disk is full.
        """
        self._keeper.save(Path(path), {"num_steps_done": self.num_steps_done, "extra": dict(extra)})

    def load(self, path: str | Path) -> dict[str, Any]:
        """Go on exactly where the checkpoint was written; returns its `extra`.

        Raises:
            UserError: no checkpoint, or one of another arrangement of ranks.
            RunStopped: the checkpoint is damaged.
        """
        state = self._keeper.load(Path(path))
        self.num_steps_done = state["num_steps_done"]
        return state["extra"]

    def export_hf(self, out_dir: str | Path) -> None:
        """Write the policy in the Hugging Face layout, in the learner's dtype, with the tokenizer it came with."""
        self._keeper.export_hf(Path(out_dir))

    def close(self) -> None:
        """Leave the process group."""
        self._engine.destroy()
        torch.distributed.destroy_process_group()

    # --- ranks ------------------------------------------------------------------------------------------------

    def _clip(self) -> None:
        norm = torch.nn.utils.clip_grad_norm_(self._policy.parameters(), self.config.optimizer.max_grad_norm)
        self._grad_norm = float(norm)
        if not math.isfinite(self._grad_norm):
            raise BatchRejected(self._stopped("the gradient is not finite"))

    def _join(self, master_addr: str, master_port: int) -> None:
        """Meet the other ranks."""
        os.environ |= {"RANK": str(self.rank), "LOCAL_RANK": "0", "WORLD_SIZE": str(self.world_size)}
        os.environ |= {"MASTER_ADDR": master_addr, "MASTER_PORT": str(master_port)}
        import deepspeed

        # DeepSpeed would compile this op here, for inference only: it takes minutes, and the lock that a killed process
        # leaves behind makes every later one wait forever.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        backend = "gloo" if self.device.type == "cpu" else "nccl"
        deepspeed.init_distributed(backend, auto_mpi_discovery=False, verbose=False)

    def _gather(self, value: Any) -> list[Any]:
        """The value of every rank, in order of ranks."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        torch.distributed.all_gather_object(values, value)
        return values
