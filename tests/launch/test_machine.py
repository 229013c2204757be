"""Reading the machine, and which device `auto` is."""

from __future__ import annotations

import os

import pytest

from launch.machine import Gpu, parse_gpus, read_machine, resolve_device, visible
from tests.launch.fakes import GPU_BOX, LAPTOP

GPUS = (Gpu("a", 80.0), Gpu("b", 40.0), Gpu("c", 24.0))


def test_nvidia_smi_is_read() -> None:
    listing = "NVIDIA A100-SXM4-80GB, 81920\nOdd, name, 1024\nBroken, [N/A]\n"
    assert parse_gpus(listing) == (Gpu("NVIDIA A100-SXM4-80GB", 80.0), Gpu("Odd, name", 1.0))


@pytest.mark.parametrize(
    ("chosen", "names"),
    [(None, "abc"), ("", ""), ("0", "a"), ("2,0", "ca"), ("0,9,1", "a"), ("-1", ""), ("GPU-1234,GPU-99", "ab")],
)
def test_cuda_visible_devices_is_respected(chosen: str | None, names: str) -> None:
    env = {} if chosen is None else {"CUDA_VISIBLE_DEVICES": chosen}
    assert "".join(gpu.name for gpu in visible(GPUS, env)) == names


def test_auto_is_cuda_where_a_gpu_can_be_seen() -> None:
    assert resolve_device("auto", LAPTOP) == "cpu"
    assert resolve_device("auto", GPU_BOX) == "cuda"
    assert resolve_device("cpu", GPU_BOX) == "cpu"
    assert resolve_device("cuda", LAPTOP) == "cuda"


def test_this_machine_has_what_a_machine_has() -> None:
    machine = read_machine()
    assert 1 <= machine.cores <= (os.cpu_count() or 1)
    assert 0 < machine.memory_free_gib <= machine.memory_gib
