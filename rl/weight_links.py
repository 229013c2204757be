"""GPU weight transfer: vLLM's own NCCL and CUDA IPC trainer engines, one link per engine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import torch
from vllm.distributed.weight_transfer.base import ParamMeta, WeightSource
from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory
from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo
from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

from rl.weights import EngineClient, LearnerSource
from rollouts.weight_bytes import tensor_digest


class RecordingSource(WeightSource):
    """A learner's weights as vLLM's trainer engines read them; keeps the digest of what it yields if asked to."""

    def __init__(self, source: LearnerSource):
        self._source = source
        self.recording = False
        self.digests: dict[str, str] = {}

    def metadata(self) -> list[ParamMeta]:
        return [ParamMeta(*meta) for meta in self._source.metadata()]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        self.digests = {}
        for name, tensor in self._source:
            if self.recording:
                self.digests[name] = tensor_digest(tensor)
            yield name, tensor


class Link:
    """A rendezvous between the learner and one engine.

    One link per engine: vLLM gives the workers of every engine the same rank offset, so two engines on one NCCL link
    would claim the same ranks; and an engine can be replaced without a new rendezvous for the others.
    """

    def __init__(self, source: LearnerSource, client: EngineClient, *, backend: Literal["nccl", "ipc"], rank: int):
        self.client = client
        self._source = RecordingSource(source)
        init_info = _ipc_info(rank) if backend == "ipc" else _nccl_info(rank, client)
        self._engine = WeightTransferTrainerFactory.trainer_init(init_info, client=client, source=self._source)

    def send(self, recording: bool) -> dict[str, str]:
        """Send the current weights; returns their digests if `recording`."""
        self._source.recording = recording
        self._engine.send_weights()
        return self._source.digests

    def close(self) -> None:
        self._engine.shutdown()


def _ipc_info(rank: int) -> Any:
    return IPCTrainerInitInfo(rank=rank, packed=True)


def _nccl_info(rank: int, client: EngineClient) -> Any:
    from vllm.utils.network_utils import get_ip, get_open_port

    # Only rank 0 opens the endpoint; the others need no address.
    return NCCLTrainerInitInfo(
        rank=rank,
        master_address=get_ip(),
        master_port=get_open_port(),
        world_size=1 + client.num_workers(),
    )
