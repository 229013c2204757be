"""What of ours runs inside vLLM's worker processes: the receiving half of a weight sync, and a loader of backbones.

    learner rank 0                                vLLM worker (one per tensor-parallel rank)
    --------------                                ------------------------------------------
    anonymous shared buffer  <-- opened by path --  ShmWeightTransferEngine   (CPU, one host)
    NCCL broadcast / CUDA IPC -------------------->  vLLM's own engines, wrapped to hash what they receive
    digests of the bytes sent <-- compared with --  WorkerDigests.received_digests()

    a model's files, heads left out  ------------>  BackboneLoader   (engines that pool, `rollouts/pooler.py`)

`register()` is called in every vLLM process through the entry point group `vllm.general_plugins`.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import os
import signal
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from vllm.distributed.weight_transfer.base import (
    WeightTransferEngine,
    WeightTransferInitInfo,
    WeightTransferUpdateInfo,
)
from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine
from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine
from vllm.model_executor import model_loader
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from rollouts.engine import BACKBONE_LOADER
from rollouts.weight_bytes import TensorSlot, tensor_digest

HEADS = ("score.", "value_head.", "prompt_head.")
"""How the names of weights begin that lie beside a backbone's and that vLLM would not know where to put."""

DIE_WITH_PARENT = "PODIUM_DIE_WITH_PARENT"
BACKENDS = {"shm": "ShmWeightTransferEngine", "nccl": "DigestingNcclEngine", "ipc": "DigestingIpcEngine"}


def register() -> None:
    """Make our engines known to vLLM as `podium_shm`, `podium_nccl`, `podium_ipc`, our loader as `podium_backbone`; tie
    vLLM's children to their parent."""
    if BACKBONE_LOADER not in model_loader._LOAD_FORMAT_TO_MODEL_LOADER:
        model_loader.register_model_loader(BACKBONE_LOADER)(BackboneLoader)
    for backend, class_name in BACKENDS.items():
        name = f"podium_{backend}"
        if name not in WeightTransferEngineFactory._registry:
            WeightTransferEngineFactory.register_engine(name, "rollouts.receive", class_name)
    if multiprocessing.parent_process() is not None and os.environ.get(DIE_WITH_PARENT) == "1":
        _die_with_parent()


def _die_with_parent() -> None:
    # vLLM's core process does not watch the actor that started it: without this, killing the actor orphans it.
    set_parent_death_signal = 1
    ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, signal.SIGKILL)


class BackboneLoader(DefaultModelLoader):
    """Loads a model without the heads of a reward model, which the judge applies itself."""

    def __init__(self, load_config: Any) -> None:
        super().__init__(replace(load_config, load_format="auto"))

    def get_all_weights(self, model_config: Any, model: torch.nn.Module) -> Iterator[tuple[str, torch.Tensor]]:  # pyright: ignore[reportIncompatibleMethodOverride]
        for name, tensor in super().get_all_weights(model_config, model):
            if not name.startswith(HEADS):
                yield name, tensor


class _DigestingModel:
    """Stands in for the model while weights are received: hashes each tensor, then loads it."""

    def __init__(self, model: torch.nn.Module, digests: dict[str, str]):
        self._model = model
        self._digests = digests

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Any:
        return self._model.load_weights(self._hashed(weights))  # type: ignore[operator]

    def _hashed(self, weights: Iterable[tuple[str, torch.Tensor]]) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            self._digests[name] = tensor_digest(tensor)
            yield name, tensor


class _Digesting:
    """Mixin: `digests` holds the hashes of the last update's tensors if `digesting` was set before it."""

    digesting: bool = False
    digests: dict[str, str]

    def start_weight_update(self) -> None:
        self.digests = {}
        super().start_weight_update()  # type: ignore[misc]

    def receive_weights(self, update_info: Any) -> None:
        model = self.model  # type: ignore[has-type]
        if self.digesting:
            self.model = _DigestingModel(model, self.digests)
        try:
            super().receive_weights(update_info)  # type: ignore[misc]
        finally:
            self.model = model


class DigestingNcclEngine(_Digesting, NCCLWeightTransferEngine):
    """vLLM's NCCL engine; hashes what it receives."""


class DigestingIpcEngine(_Digesting, IPCWeightTransferEngine):
    """vLLM's CUDA IPC engine; hashes what it receives."""


@dataclass
class ShmInitInfo(WeightTransferInitInfo):
    """Nothing to agree on beforehand."""


@dataclass
class ShmUpdateInfo(WeightTransferUpdateInfo):
    """A buffer of `size` bytes readable at `path`, and where each tensor lies in it."""

    path: str
    size: int
    slots: list[dict[str, Any]] = field(default_factory=list)


class ShmLoader(WeightTransferEngine[ShmInitInfo, ShmUpdateInfo]):
    """Loads weights from a buffer that the sender shares by path; for engines on the sender's host."""

    init_info_cls = ShmInitInfo
    update_info_cls = ShmUpdateInfo

    def init_transfer_engine(self, init_info: ShmInitInfo) -> None:
        pass

    def start_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import initialize_layerwise_reload

        initialize_layerwise_reload(self.model)

    def finish_weight_update(self) -> None:
        from vllm.model_executor.model_loader.reload import finalize_layerwise_reload

        finalize_layerwise_reload(self.model, self.model_config)
        _repack_lm_heads(self.model)

    def update_weights(self, update_info: dict[str, Any]) -> None:
        # The base class waits for an accelerator, which a CPU engine does not have.
        self.receive_weights(self.parse_update_info(update_info))

    def receive_weights(self, update_info: ShmUpdateInfo) -> None:
        descriptor = os.open(update_info.path, os.O_RDONLY)
        try:
            # A private mapping is writable for torch's sake; nothing is ever written to it.
            buffer = mmap.mmap(descriptor, update_info.size, flags=mmap.MAP_PRIVATE)
        finally:
            os.close(descriptor)
        slots = [TensorSlot(**slot) for slot in update_info.slots]
        self.model.load_weights((slot.name, _view(buffer, slot)) for slot in slots)  # type: ignore[operator]

    def shutdown(self) -> None:
        pass


class ShmWeightTransferEngine(_Digesting, ShmLoader):
    """The CPU and single-host engine; hashes what it receives."""


def _repack_lm_heads(model: torch.nn.Module) -> None:
    # A CPU engine computes logits from a packed copy of the LM head. When the head is tied to the embedding no weight
    # of its own arrives, so vLLM's reload leaves that copy as it was: every sync would miss the head without a word.
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)


def _view(buffer: mmap.mmap, slot: TensorSlot) -> torch.Tensor:
    dtype = getattr(torch, slot.dtype)
    count = slot.num_bytes // dtype.itemsize
    return torch.frombuffer(buffer, dtype=dtype, count=count, offset=slot.offset).view(slot.shape)


class WorkerDigests:
    """Added to vLLM's worker class (`worker_extension_cls`): the two calls a verifying sender needs."""

    def podium_set_digesting(self, on: bool) -> None:
        self.weight_transfer_engine.digesting = on  # type: ignore[attr-defined]

    def podium_received_digests(self) -> dict[str, str]:
        return dict(self.weight_transfer_engine.digests)  # type: ignore[attr-defined]
