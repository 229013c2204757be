"""What a learner's rank keeps on disk: its part of a checkpoint, and the policy in the Hugging Face layout.

Ranks wait for each other in every method, so each is called on all ranks.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rewards.errors import RunStopped
from rl import checkpoint
from rl.config import LoraConfig
from rl.lora import ADAPTER_FOLDER, is_adapter, save_adapter
from rl.weights import LearnerSource, gathered

TOKENIZER_FILES = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*.jinja")


@dataclass(frozen=True, slots=True)
class Keeper:
    """Writes and reads for one rank. engine: DeepSpeed's. model_dir: where the tokenizer is. lora: its config."""

    engine: Any
    model: Any
    model_dir: Path
    dtype: torch.dtype
    rank: int
    world_size: int
    zero_stage: int
    lora: LoraConfig | None

    def save(self, path: Path, state: Mapping[str, Any]) -> None:
        """Write a checkpoint with the learner's `state`, plain JSON values; `path` is whole or not there."""
        partial = path.with_name(f"{path.name}.tmp")
        if self.rank == 0:
            checkpoint.begin(path)
        self._barrier()
        self.engine.save_checkpoint(str(partial / "deepspeed"), tag="state", save_latest=False)
        self.export_hf(partial / checkpoint.MODEL)
        checkpoint.save_rng(partial / "rng", self.rank)
        self._barrier()
        if self.rank == 0:
            checkpoint.commit(path, state=state, **self._layout)
        self._barrier()

    def load(self, path: Path) -> dict[str, Any]:
        """Restore engine and random states; returns the learner's state.

        Raises:
            UserError: no checkpoint, or one of another arrangement of ranks.
            RunStopped: the checkpoint is damaged.
        """
        manifest = checkpoint.verify(path)
        checkpoint.check_layout(manifest, path=path, **self._layout)
        loaded, _ = self.engine.load_checkpoint(str(path / "deepspeed"), tag="state")
        if loaded is None:
            raise RunStopped(f"checkpoint {path}: DeepSpeed found no state in it")
        checkpoint.load_rng(path / "rng", self.rank)
        self._barrier()
        return checkpoint.read_state(path)

    def export_hf(self, out_dir: Path) -> None:
        """Write the policy in the Hugging Face layout, in the learner's dtype, with the tokenizer it came with."""
        # Every rank iterates, since ZeRO-3 gathers each tensor on all of them and lets go of it again.
        is_parted = self.zero_stage == 3
        weights = {}
        for name, tensor in LearnerSource(self.model, self.dtype):
            if self.rank == 0:
                weights[name] = tensor.cpu().clone() if is_parted else tensor
        if self.rank == 0:
            out_dir.mkdir(parents=True, exist_ok=True)
            self.model.save_pretrained(out_dir, state_dict=weights)
            for pattern in TOKENIZER_FILES:
                for file in self.model_dir.glob(pattern):
                    shutil.copy(file, out_dir / file.name)
        self._export_adapter(out_dir / ADAPTER_FOLDER)
        self._barrier()

    def _export_adapter(self, out_dir: Path) -> None:
        """Beside the merged weights, where there is one."""
        matrices: dict[str, torch.Tensor] = {}
        for name, parameter in self.model.named_parameters():
            if is_adapter(name):
                with gathered([parameter]):
                    matrices[name] = parameter.detach().cpu().clone()
        if matrices and self.rank == 0:
            save_adapter(self.model, matrices, out_dir)

    @property
    def _layout(self) -> dict[str, Any]:
        """What a checkpoint must share with the run that loads it."""
        lora = None if self.lora is None else self.lora.model_dump(mode="json")
        return {"num_ranks": self.world_size, "zero_stage": self.zero_stage, "lora": lora}

    def _barrier(self) -> None:
        if self.world_size > 1:
            torch.distributed.barrier()
