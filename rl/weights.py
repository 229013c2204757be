"""The sending half of a weight sync: from the learner's ranks into every vLLM engine.

    every rank: iterate WeightSource (under ZeRO-3 a collective gather per tensor)
    rank 0:     start --> bytes --> finish(version)       shm: one shared buffer that all engines read
                                                          nccl, ipc: one link per engine (rl/weight_links.py)
                then, when verifying: digests sent == digests received, on every worker of every engine

A failed transfer leaves a half-loaded engine, so every fault here is a RunStopped: the run ends before it saves, unless
an engine died of it and all are replaced (rl/trainer.py).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal, NamedTuple

import torch

from rewards.errors import RunStopped
from rl.lora import adapted_layers, adapter_matrices, is_adapter, merged_weight, plain_name
from rollouts.weight_bytes import digest_mismatch, layout, tensor_digest

Backend = Literal["shm", "nccl", "ipc"]


class ParamMeta(NamedTuple):
    """Name, dtype on the wire and full shape of one parameter."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]


class LearnerSource:
    """The learner's parameters under their Hugging Face names, in `dtype`; gathers ZeRO-3 partitions one by one.

    LoRA's adapters are merged on the way, each matrix into a copy of its own: nothing downstream knows of them.
    A parameter that the model ties to another one (`lm_head` to the embedding) is named once, as in a checkpoint.
    """

    def __init__(self, model: torch.nn.Module, dtype: torch.dtype):
        self._model = model
        self._dtype = dtype

    def metadata(self) -> list[ParamMeta]:
        return [
            ParamMeta(plain_name(name), self._dtype, tuple(getattr(parameter, "ds_shape", parameter.shape)))
            for name, parameter in self._parameters()
        ]

    def __iter__(self) -> Iterator[tuple[str, torch.Tensor]]:
        adapted = adapted_layers(self._model)
        for name, parameter in self._parameters():
            layer = adapted.get(name)
            with gathered([parameter] if layer is None else [parameter, *adapter_matrices(layer)]):
                tensor = parameter.detach() if layer is None else merged_weight(layer)
                yield plain_name(name), tensor.to(self._dtype)

    def _parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [(name, parameter) for name, parameter in self._model.named_parameters() if not is_adapter(name)]


def gathered(parameters: list[torch.nn.Parameter]) -> AbstractContextManager[Any]:
    """Inside, these are whole on every rank: under ZeRO-3 a collective call, else nothing to do."""
    if not hasattr(parameters[0], "ds_id"):
        return nullcontext()
    import deepspeed

    return deepspeed.zero.GatheredParameters(parameters)


class EngineClient:
    """vLLM's weight-sync client protocol over our engine actors; `version` and `digesting` are set before each sync.

    vLLM's own trainer engines finish an update without a version, so the version is added here.
    """

    def __init__(self, handles: Sequence[Any]):
        self.handles = list(handles)
        self.version = 0
        self.digesting = False

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._all("init_weight_transfer", init_info)

    def start_weight_update(self) -> None:
        self._all("start_weight_update", self.digesting)

    def update_weights(self, update_info: Any) -> None:
        self._all("update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._all("finish_weight_update", self.version)

    def received_digests(self) -> list[dict[str, str]]:
        return [digests for engine in self._all("received_digests") for digests in engine]

    def num_workers(self) -> int:
        """vLLM workers behind this client: the sum of its engines' tensor-parallel sizes."""
        return sum(self._all("tensor_parallel_size"))

    def _all(self, method: str, *args: Any) -> list[Any]:
        import ray

        return ray.get([getattr(handle, method).remote(*args) for handle in self.handles])


class SharedBuffer:
    """Anonymous memory that other processes of this host open by path; it vanishes with its owner, even on SIGKILL."""

    def __init__(self, size: int):
        self.size = size
        self._descriptor = os.memfd_create("podium-weights")
        with _memory_full_stops():
            os.ftruncate(self._descriptor, size)

    @property
    def path(self) -> str:
        return f"/proc/{os.getpid()}/fd/{self._descriptor}"

    def write(self, offset: int, tensor: torch.Tensor) -> None:
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        written = 0
        with _memory_full_stops():
            while written < len(data):
                written += os.pwrite(self._descriptor, data[written:], offset + written)

    def close(self) -> None:
        os.close(self._descriptor)


@contextmanager
def _memory_full_stops() -> Iterator[None]:
    """Raises RunStopped where memory is full: no engine has been touched then."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.ENOMEM):
            raise
        raise RunStopped(
            f"shared memory is full ({error.strerror}): the engines cannot be handed the new weights; free memory, or "
            "lower rollouts.engine.kv_cache_gib, then go on with --resume: the step's groups are on disk"
        ) from error


class WeightSender:
    """Sends one learner's weights to engines. Lives on every learner rank; rank 0 drives."""

    def __init__(self, model: torch.nn.Module, *, dtype: torch.dtype, backend: Backend, rank: int):
        self._source = LearnerSource(model, dtype)
        self._backend: Backend = backend
        self._rank = rank
        self._buffer: SharedBuffer | None = None
        self._greeted: set[Any] = set()  # engines that know the shared buffer
        self._links: dict[Any, Any] = {}  # rl.weight_links.Link by engine

    def send(self, handles: Sequence[Any], version: int, *, verify: bool) -> dict[str, float]:
        """Bring these engines to `version`. Called on every rank; returns seconds and bytes on rank 0, {} elsewhere.

        Raises:
            RunStopped: the transfer failed, or an engine received other bytes than were sent.
        """
        started = time.perf_counter()
        try:
            if self._backend == "shm":
                sent, client = self._send_shared(handles, version, verify)
                received = client.received_digests() if verify and self._rank == 0 else []
            else:
                sent, received = self._send_linked(handles, version, verify)
        except RunStopped:
            raise
        except Exception as error:  # whatever broke it, the engines are half loaded now
            raise RunStopped(
                f"weight sync to version {version} failed, engines hold a mixture of weights: {_reason(error)}"
            ) from error
        if self._rank != 0:
            return {}
        for worker, digests in enumerate(received):
            if (fault := digest_mismatch(sent, digests)) is not None:
                raise RunStopped(f"weight sync to version {version}, vLLM worker {worker}: {fault}")
        num_bytes = sum(meta.dtype.itemsize * torch.Size(meta.shape).numel() for meta in self._source.metadata())
        return {"seconds": time.perf_counter() - started, "bytes": float(num_bytes), "verified": float(verify)}

    def _send_shared(self, handles: Sequence[Any], version: int, verify: bool) -> tuple[dict[str, str], EngineClient]:
        client = EngineClient(handles)
        client.version, client.digesting = version, verify
        metadata = self._source.metadata()
        slots, size = layout([(meta.name, meta.dtype, meta.shape) for meta in metadata])
        if self._rank == 0:
            self._buffer = self._buffer or SharedBuffer(size)
        digests: dict[str, str] = {}
        for slot, (name, tensor) in zip(slots, self._source, strict=True):
            if self._buffer is not None:
                self._buffer.write(slot.offset, tensor)
                if verify:
                    digests[name] = tensor_digest(tensor)
        # Engines are spoken to once all ranks have done their part: a dead one must not leave the others in a gather.
        if self._buffer is not None:
            EngineClient([handle for handle in handles if handle not in self._greeted]).init_weight_transfer_engine({})
            self._greeted |= set(handles)
            client.start_weight_update()
            client.update_weights(
                {
                    "path": self._buffer.path,
                    "size": self._buffer.size,
                    "slots": [
                        {name: getattr(slot, name) for name in ("name", "dtype", "shape", "offset", "num_bytes")}
                        for slot in slots
                    ],
                }
            )
            client.finish_weight_update()
        return digests, client

    def _send_linked(
        self, handles: Sequence[Any], version: int, verify: bool
    ) -> tuple[dict[str, str], list[dict[str, str]]]:
        from rl.weight_links import Link

        assert self._backend != "shm"
        for handle in handles:
            if handle not in self._links:
                client = EngineClient([handle])
                self._links[handle] = Link(self._source, client, backend=self._backend, rank=self._rank)
        sent: dict[str, str] = {}
        received: list[dict[str, str]] = []
        for link in (self._links[handle] for handle in handles):
            link.client.version, link.client.digesting = version, verify
            sent = link.send(verify)
            if verify and self._rank == 0:
                received += link.client.received_digests()
        return sent, received

    def close(self) -> None:
        for link in self._links.values():
            link.close()
        if self._buffer is not None:
            self._buffer.close()
            self._buffer = None


def _reason(error: Exception) -> str:
    """One line: an error that Ray brings back from an engine ends with what happened, after a traceback."""
    lines = str(error).strip().splitlines()
    return lines[-1].strip() if lines else type(error).__name__
