"""What vLLM is started with, on CPU and on GPUs, read from plain dicts: nothing is started."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rewards.errors import UserError
from rollouts import engine
from rollouts.config import EngineConfig
from rollouts.engine import EngineSpec, backbone_architecture, engine_arguments, environment


def spec(device: str, *, max_model_len: int = 300, cpus: tuple[int, ...] | None = None, **config: Any) -> EngineSpec:
    return EngineSpec(
        model="folder/of/model",
        max_model_len=max_model_len,
        config=EngineConfig(**config),
        device=device,  # type: ignore[arg-type]
        seed=11,
        cpus=cpus,
    )


# --- arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_what_both_devices_share(device: str) -> None:
    arguments = engine_arguments(spec(device, max_num_seqs=17, dtype="float32", compile=True))
    expected = {
        "model": "folder/of/model",
        "max_model_len": 300,
        "max_num_seqs": 17,
        "dtype": "float32",
        "seed": 11,
        "enforce_eager": False,
        "enable_prefix_caching": True,
        "logprobs_mode": "processed_logprobs",
        "enable_sleep_mode": False,
        "worker_extension_cls": "rollouts.receive.WorkerDigests",
    }
    assert expected.items() <= arguments.items()
    assert engine_arguments(spec(device))["enforce_eager"] is True


def test_a_cpu_engine_has_a_cache_of_its_own_size_and_never_chunks_a_prompt() -> None:
    arguments = engine_arguments(spec("cpu", kv_cache_gib=1.5))
    assert arguments["kv_cache_memory_bytes"] == 1_610_612_736
    assert arguments["block_size"] == 32
    assert arguments["enable_chunked_prefill"] is False
    assert arguments["max_num_batched_tokens"] == 4096
    assert "gpu_memory_utilization" not in arguments
    assert "distributed_executor_backend" not in arguments
    assert engine_arguments(spec("cpu", block_size=16))["block_size"] == 16
    # The longest prompt must fit into one batch, or it could not be prefilled whole.
    assert engine_arguments(spec("cpu", max_model_len=9000))["max_num_batched_tokens"] == 9000


def test_a_gpu_engine_takes_its_share_of_memory_and_vllms_own_defaults() -> None:
    arguments = engine_arguments(spec("cuda", gpu_memory_utilization=0.4, kv_cache_gib=1.5))
    assert arguments["gpu_memory_utilization"] == 0.4
    cpu_only = {"kv_cache_memory_bytes", "enable_chunked_prefill", "max_num_batched_tokens", "block_size"}
    assert not cpu_only & arguments.keys()
    assert engine_arguments(spec("cuda", block_size=16))["block_size"] == 16


@pytest.mark.parametrize(("size", "executor"), [(1, "uni"), (4, "mp")])
def test_tensor_parallel_ranks_are_processes_of_their_own(size: int, executor: str) -> None:
    arguments = engine_arguments(spec("cuda", tensor_parallel_size=size))
    assert arguments["tensor_parallel_size"] == size
    assert arguments["distributed_executor_backend"] == executor


def test_vllm_knows_every_argument() -> None:
    """The names are held against vLLM's source, since importing it takes too long here."""
    import importlib.util

    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("needs vLLM")
    source = (Path(found.origin).parent / "engine" / "arg_utils.py").read_text(encoding="utf-8")
    for device in ("cpu", "cuda"):
        for name in engine_arguments(spec(device, block_size=16)):
            assert f"\n    {name}: " in source, name
    for name in ("runner", "convert", "pooler_config", "load_format", "hf_overrides"):  # of an engine that pools
        assert f"\n    {name}: " in source, name


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_an_engine_that_pools_has_a_causal_backbone_and_normalises_nothing(device: str, tmp_path: Path) -> None:
    config = {"model_type": "llama", "architectures": ["LlamaForSequenceClassification"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    arguments = engine_arguments(replace(spec(device), backbone=backbone_architecture(tmp_path)))
    assert (arguments["runner"], arguments["convert"]) == ("pooling", "embed")
    assert arguments["pooler_config"] == {"seq_pooling_type": "LAST", "use_activation": False}
    assert arguments["hf_overrides"] == {"architectures": ["LlamaForCausalLM"]}
    assert "runner" not in engine_arguments(spec(device))


@pytest.mark.parametrize("config", [{}, {"model_type": "deberta-v2"}, {"model_type": "bert"}])
def test_a_model_without_a_causal_backbone_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match="set the judge's engine to transformers"):
        backbone_architecture(tmp_path)


# --- environment --------------------------------------------------------------------------------------------------


def test_a_cpu_engine_binds_its_cores() -> None:
    variables = environment(spec("cpu", cpus=(2, 3, 7)))
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "2,3,7"
    assert variables["VLLM_CPU_NUM_OF_RESERVED_CPU"] == "0"


def test_without_cores_of_its_own_it_binds_all_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5, 1, 3})
    assert environment(spec("cpu"))["VLLM_CPU_OMP_THREADS_BIND"] == "1,3,5"


def test_openmp_is_preloaded_where_it_is_installed_and_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "openmp_library", lambda: Path("lib/libiomp5.so"))
    assert environment(spec("cpu"))["LD_PRELOAD"] == "lib/libiomp5.so"
    assert "LD_PRELOAD" not in environment(spec("cpu", preload_openmp=False))
    assert "LD_PRELOAD" not in environment(spec("cuda"))
    monkeypatch.setattr(engine, "openmp_library", lambda: None)
    assert "LD_PRELOAD" not in environment(spec("cpu"))


def test_openmp_is_looked_for_in_this_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    assert engine.openmp_library() is None
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "libiomp5.so").touch()
    assert engine.openmp_library() == tmp_path / "lib" / "libiomp5.so"


@pytest.mark.parametrize(
    ("device", "compiled", "disabled"), [("cpu", False, True), ("cpu", True, False), ("cuda", False, False)]
)
def test_a_cpu_engine_compiles_nothing_unless_it_is_asked_to(device: str, compiled: bool, disabled: bool) -> None:
    assert ("TORCHDYNAMO_DISABLE" in environment(spec(device, compile=compiled))) == disabled


def test_a_gpu_engine_is_bound_to_no_cores() -> None:
    variables = environment(spec("cuda", cpus=None))
    assert not {name for name in variables if name.startswith("VLLM_CPU")}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_workers_are_spawned_send_no_statistics_and_end_with_their_engine(device: str) -> None:
    variables = environment(spec(device))
    assert variables["VLLM_WORKER_MULTIPROC_METHOD"] == "spawn"
    assert variables["VLLM_NO_USAGE_STATS"] == "1"
    assert variables["PODIUM_DIE_WITH_PARENT"] == "1"
