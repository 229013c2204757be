"""The sending half of a weight sync, with engines that are plain objects reading the shared buffer."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
import torch

from rewards.errors import RunStopped
from rl.weights import EngineClient, LearnerSource, SharedBuffer, WeightSender
from rollouts.weight_bytes import tensor_digest


class TinyLM(torch.nn.Module):
    """An embedding, a layer that is used, and a head that is the embedding again."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = torch.nn.Embedding(5, 3)
        self.norm = torch.nn.LayerNorm(3)
        self.head = torch.nn.Linear(3, 5, bias=False)
        self.head.weight = self.embed.weight


NAMES = ["embed.weight", "norm.weight", "norm.bias"]


class FakeEngine:
    """Receives as a vLLM engine with one worker does; `damage` changes the digests that it reports."""

    def __init__(self, damage: Callable[[dict[str, str]], dict[str, str]] = dict):
        self.calls: list[tuple[Any, ...]] = []
        self.weights: dict[str, torch.Tensor] = {}
        self.damage = damage

    def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        self.calls.append(("init", init_info))

    def start_weight_update(self, digesting: bool) -> None:
        self.calls.append(("start", digesting))

    def update_weights(self, info: dict[str, Any]) -> None:
        self.calls.append(("update",))
        with open(info["path"], "rb") as file:
            data = bytearray(file.read())
        assert len(data) == info["size"]
        for slot in info["slots"]:
            part = data[slot["offset"] : slot["offset"] + slot["num_bytes"]]
            self.weights[slot["name"]] = torch.frombuffer(part, dtype=getattr(torch, slot["dtype"])).view(slot["shape"])

    def finish_weight_update(self, version: int) -> None:
        self.calls.append(("finish", version))

    def received_digests(self) -> list[dict[str, str]]:
        self.calls.append(("digests",))
        return [self.damage({name: tensor_digest(tensor) for name, tensor in self.weights.items()})]

    def tensor_parallel_size(self) -> int:
        return 2


@pytest.fixture(autouse=True)
def calls_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    calls_again(monkeypatch)


def calls_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def call_all(self: EngineClient, method: str, *args: Any) -> list[Any]:
        return [getattr(handle, method)(*args) for handle in self.handles]

    monkeypatch.setattr(EngineClient, "_all", call_all)


@pytest.fixture
def model() -> TinyLM:
    torch.manual_seed(0)
    return TinyLM()


def sender(model: TinyLM, *, rank: int = 0) -> WeightSender:
    return WeightSender(model, dtype=torch.bfloat16, backend="shm", rank=rank)


# --- what is sent -------------------------------------------------------------------------------------------------


def test_the_source_names_each_parameter_once_in_the_models_order(model: TinyLM) -> None:
    source = LearnerSource(model, torch.bfloat16)
    assert [tuple(meta) for meta in source.metadata()] == [
        ("embed.weight", torch.bfloat16, (5, 3)),
        ("norm.weight", torch.bfloat16, (3,)),
        ("norm.bias", torch.bfloat16, (3,)),
    ]
    sent = list(source)
    assert [name for name, _ in sent] == NAMES
    for (_, tensor), parameter in zip(sent, model.parameters(), strict=True):
        assert tensor.dtype is torch.bfloat16
        assert not tensor.requires_grad
        assert torch.equal(tensor, parameter.detach().to(torch.bfloat16))
    assert [name for name, _ in source] == NAMES  # it can be read again


def test_metadata_gives_the_full_shape_of_a_partitioned_parameter(model: TinyLM) -> None:
    model.embed.weight.ds_shape = torch.Size((50, 3))  # type: ignore[attr-defined]
    assert LearnerSource(model, torch.float32).metadata()[0].shape == (50, 3)


def test_another_process_reads_the_buffer_by_its_path() -> None:
    buffer = SharedBuffer(256)
    tensor = torch.arange(12, dtype=torch.bfloat16).reshape(3, 4).t()  # not contiguous
    buffer.write(64, tensor)
    buffer.write(0, torch.tensor([1.5]))
    read = subprocess.run(
        [sys.executable, "-S", "-c", f"import sys; sys.stdout.buffer.write(open({buffer.path!r}, 'rb').read())"],
        capture_output=True,
        check=True,
    ).stdout
    buffer.close()
    assert len(read) == 256
    assert torch.equal(torch.frombuffer(bytearray(read[64:88]), dtype=torch.bfloat16).view(4, 3), tensor)
    assert torch.frombuffer(bytearray(read[:4]), dtype=torch.float32).item() == 1.5
    assert read[88:] == bytes(256 - 88)


def test_a_closed_buffer_is_gone() -> None:
    buffer = SharedBuffer(8)
    path = buffer.path
    buffer.close()
    assert not Path(path).exists()


# --- sending ------------------------------------------------------------------------------------------------------


def test_every_engine_gets_every_weight_and_the_version(model: TinyLM) -> None:
    engines, sending = [FakeEngine(), FakeEngine()], sender(model)
    report = sending.send(engines, 7, verify=True)
    for engine in engines:
        assert engine.calls == [("init", {}), ("start", True), ("update",), ("finish", 7), ("digests",)]
        assert list(engine.weights) == NAMES
        assert torch.equal(engine.weights["embed.weight"], model.embed.weight.detach().to(torch.bfloat16))
    assert report["bytes"] == 2 * (15 + 3 + 3)
    assert report["verified"] == 1.0
    assert report["seconds"] >= 0
    sending.close()
    sending.close()


def test_later_syncs_carry_the_new_weights_without_a_new_introduction(model: TinyLM) -> None:
    engine, sending = FakeEngine(), sender(model)
    sending.send([engine], 1, verify=True)
    with torch.no_grad():
        model.norm.bias.add_(1)
    engine.calls.clear()
    assert sending.send([engine], 2, verify=False)["verified"] == 0.0
    assert engine.calls == [("start", False), ("update",), ("finish", 2)]
    assert engine.weights["norm.bias"].tolist() == [1, 1, 1]
    sending.close()


def test_other_ranks_gather_along_and_talk_to_no_engine(model: TinyLM) -> None:
    engine = FakeEngine()
    assert sender(model, rank=1).send([engine], 1, verify=True) == {}
    assert engine.calls == []


def test_workers_are_the_sum_of_the_engines_ranks() -> None:
    assert EngineClient([FakeEngine(), FakeEngine()]).num_workers() == 4


# --- what goes wrong ----------------------------------------------------------------------------------------------


def test_other_bytes_on_one_worker_stop_the_run(model: TinyLM) -> None:
    damaged = FakeEngine(lambda digests: digests | {"norm.bias": "0" * 64})
    with pytest.raises(RunStopped) as caught:
        sender(model).send([FakeEngine(), damaged], 3, verify=True)
    assert str(caught.value) == (
        "weight sync to version 3, vLLM worker 1: 1 of 3 tensors arrived with other bytes than were sent, "
        "first `norm.bias`"
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ValueError("no room"), "no room"),
        (RuntimeError("ray::Engine.update_weights() (pid=1)\n  File x, line 1\nValueError: no room\n"), "no room"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_whatever_breaks_a_transfer_stops_the_run_in_one_line(model: TinyLM, error: Exception, reason: str) -> None:
    class Broken(FakeEngine):
        def update_weights(self, info: dict[str, Any]) -> None:
            raise error

    with pytest.raises(RunStopped, match="weight sync to version 3 failed") as caught:
        sender(model).send([Broken()], 3, verify=True)
    assert "\n" not in str(caught.value)
    assert str(caught.value).endswith(reason)
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.ENOMEM])
def test_full_memory_stops_the_run_before_any_engine_is_touched(
    model: TinyLM, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, sending = FakeEngine(), sender(model)

    def full(descriptor: int, data: object, offset: int) -> int:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("rl.weights.os.pwrite", full)
    with pytest.raises(RunStopped, match=r"shared memory is full .*go on with --resume") as caught:
        sending.send([engine], 3, verify=True)
    assert "\n" not in str(caught.value)
    assert engine.calls == []
    monkeypatch.undo()
    calls_again(monkeypatch)
    sending.send([engine], 3, verify=True)  # there is room again
    assert engine.calls[-2:] == [("finish", 3), ("digests",)]
    sending.close()


# --- one link per engine ------------------------------------------------------------------------------------------


class FakeLink:
    made: ClassVar[list[FakeLink]] = []

    def __init__(self, source: LearnerSource, client: EngineClient, *, backend: str, rank: int):
        self.source, self.client, self.backend, self.closed = source, client, backend, False
        FakeLink.made.append(self)

    def send(self, recording: bool) -> dict[str, str]:
        (engine,) = self.client.handles
        engine.calls.append(("sent", self.client.version, self.client.digesting))
        engine.weights = dict(self.source)
        return {name: tensor_digest(tensor) for name, tensor in self.source} if recording else {}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def links(monkeypatch: pytest.MonkeyPatch) -> Sequence[FakeLink]:
    module = ModuleType("rl.weight_links")
    module.Link = FakeLink  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "rl.weight_links", module)
    monkeypatch.setattr(FakeLink, "made", [])
    return FakeLink.made


def test_each_engine_has_a_link_of_its_own_that_later_syncs_use_again(model: TinyLM, links: Sequence[FakeLink]) -> None:
    engines = [FakeEngine(), FakeEngine()]
    sending = WeightSender(model, dtype=torch.bfloat16, backend="nccl", rank=0)
    sending.send(engines, 1, verify=True)
    sending.send(engines, 2, verify=False)
    assert [link.client.handles for link in links] == [[engine] for engine in engines]
    for engine in engines:
        assert engine.calls == [("sent", 1, True), ("digests",), ("sent", 2, False)]
    sending.close()
    assert all(link.closed for link in links)


def test_digests_of_every_link_are_compared(model: TinyLM, links: Sequence[FakeLink]) -> None:
    engines = [FakeEngine(), FakeEngine(lambda digests: {})]
    with pytest.raises(RunStopped, match="vLLM worker 1: 3 tensors did not arrive, first `embed"):
        WeightSender(model, dtype=torch.bfloat16, backend="ipc", rank=0).send(engines, 1, verify=True)
