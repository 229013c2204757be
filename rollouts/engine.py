"""One vLLM engine: sampling with logprobs and versions, scoring of verdict tokens, receiving weights.

    pool / judge  --sample / choice_logprobs-->  Engine  --requests-->  vLLM EngineCore  -->  vLLM workers
    learner rank 0  --init, start, update, finish, digests-->  Engine  --collective_rpc-->  vLLM workers

The only file besides `rollouts/receive.py` and `rl/weights.py` that knows vLLM. `Engine` is a plain async class;
`rollouts/pool.py` runs it as a Ray actor. vLLM is imported when the engine starts, after the environment is set.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rewards.errors import PodiumError, UserError
from rollouts.config import EngineConfig
from rollouts.janitor import Footprint, Janitor, footprint_of, sweep
from rollouts.process_titles import title_of
from rollouts.types import FinishReason, FloatArray, IntArray, SamplingSpec, VersionSpan

GIB = 1024**3
SHUTDOWN_GRACE_S = 20.0  # vLLM kills what is still there after this
BACKBONE_LOADER = "podium_backbone"  # of rollouts/receive.py
CPU_BLOCK_SIZE = 32  # vLLM's own 128 shares nothing between short prompts


class EngineDied(PodiumError):
    """vLLM's core or worker process is gone; the engine cannot be used any more."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything an engine needs to start.

    cpus: cores to bind, None on GPUs. transfer: weight-transfer backend, None for an engine that is never updated.
    backbone: architecture of an engine that pools: it samples nothing, and says the state of a text's last token.
    """

    model: str
    max_model_len: int
    config: EngineConfig
    device: Literal["cpu", "cuda"]
    seed: int = 0
    cpus: tuple[int, ...] | None = None
    transfer: Literal["shm", "nccl", "ipc"] | None = None
    enable_sleep_mode: bool = False
    backbone: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SampledAnswer:
    """One answer as the engine sampled it; arrays have one entry per token."""

    token_ids: IntArray
    logprobs: FloatArray
    text: str
    finish_reason: FinishReason
    versions: tuple[VersionSpan, ...]


def openmp_library() -> Path | None:
    """The Intel OpenMP runtime of this Python environment, if it is installed (`intel-openmp`)."""
    path = Path(sys.prefix) / "lib" / "libiomp5.so"
    return path if path.exists() else None


def environment(spec: EngineSpec) -> dict[str, str]:
    """Variables that must be set before vLLM is imported and its processes start."""
    env = {"VLLM_WORKER_MULTIPROC_METHOD": "spawn", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
    env["PODIUM_DIE_WITH_PARENT"] = "1"  # read in rollouts/receive.py
    if spec.device == "cpu":
        cpus = spec.cpus or tuple(sorted(os.sched_getaffinity(0)))
        env["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cpus))
        env["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
        if not spec.config.compile:
            # Or vLLM compiles a count over the vocabulary for ranks that nobody reads, seconds before the first answer.
            env["TORCHDYNAMO_DISABLE"] = "1"
        if spec.config.preload_openmp and (library := openmp_library()) is not None:
            env["LD_PRELOAD"] = str(library)
    return env


def engine_arguments(spec: EngineSpec) -> dict[str, Any]:
    """Keyword arguments of vLLM's AsyncEngineArgs; pure, so that GPU settings can be read in a test."""
    config = spec.config
    arguments: dict[str, Any] = {
        "model": spec.model,
        "max_model_len": spec.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "dtype": config.dtype,
        "seed": spec.seed,
        "tensor_parallel_size": config.tensor_parallel_size,
        "enforce_eager": not config.compile,
        "enable_prefix_caching": True,
        # Logprobs of the distribution that is sampled from: the learner divides by the temperature too.
        "logprobs_mode": "processed_logprobs",
        "disable_log_stats": True,
        "enable_sleep_mode": spec.enable_sleep_mode,
        "worker_extension_cls": "rollouts.receive.WorkerDigests",
    }
    if spec.device == "cpu":
        arguments["kv_cache_memory_bytes"] = int(config.kv_cache_gib * GIB)
        arguments["block_size"] = config.block_size or CPU_BLOCK_SIZE
        # A seeded request whose prompt is prefilled in chunks kills a CPU engine, so prompts are prefilled whole.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(spec.max_model_len, 4096)
    else:
        arguments["gpu_memory_utilization"] = config.gpu_memory_utilization
        if config.block_size is not None:
            arguments["block_size"] = config.block_size
        arguments["distributed_executor_backend"] = "mp" if config.tensor_parallel_size > 1 else "uni"
    if spec.backbone is not None:
        arguments |= {
            "runner": "pooling",
            "convert": "embed",
            "pooler_config": {"seq_pooling_type": "LAST", "use_activation": False},
            "load_format": BACKBONE_LOADER,
            "hf_overrides": {"architectures": [spec.backbone]},
        }
    return arguments


def backbone_architecture(directory: Path) -> str:
    """How the causal model under a reward model is called, whatever its heads: LlamaForCausalLM for model type llama.

    Raises:
        UserError: there is none for models of this type.
    """
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    model_type = json.loads((directory / "config.json").read_text(encoding="utf-8")).get("model_type")
    name = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(model_type, "")
    if not name.endswith("ForCausalLM"):
        raise UserError(
            f"reward model {directory}: vLLM pools causal models, and model type {model_type!r} has none; set the "
            "judge's engine to transformers"
        )
    return name


class Engine:
    """A vLLM engine. Call `start()` once before anything else."""

    def __init__(self, spec: EngineSpec):
        self.spec = spec
        self._llm: Any = None
        self._janitor: Janitor | None = None

    async def start(self) -> None:
        """Load the model; policy version 0 is what was loaded. Raises EngineDied if vLLM's core ends on the way."""
        os.environ.update(environment(self.spec))
        from vllm import AsyncEngineArgs
        from vllm.config.weight_transfer import WeightTransferConfig
        from vllm.v1.engine.async_llm import AsyncLLM

        arguments = engine_arguments(self.spec)
        if self.spec.transfer is not None:
            arguments["weight_transfer_config"] = WeightTransferConfig(backend=f"podium_{self.spec.transfer}")
        try:
            self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))
        except RuntimeError as error:
            raise EngineDied(f"vLLM did not start: {error}") from error
        await self._llm.update_weight_version("0")
        self._janitor = Janitor(self.footprint())

    def pids(self) -> dict[str, int]:
        """Process ids of the engine's own processes: this one, and vLLM's by their titles."""
        import psutil

        me = psutil.Process()
        found = {"engine": me.pid}
        for child in me.children(recursive=True):
            with suppress(psutil.NoSuchProcess):  # it ended while we looked
                title = title_of(child.name(), child.cmdline(), is_child=child.ppid() == me.pid)
                found[f"{title}:{child.pid}"] = child.pid
        return found

    def footprint(self) -> Footprint:
        """What this engine would leave behind if it were killed now."""
        return footprint_of(tuple(self.pids().values()))

    async def check(self) -> None:
        """Raises EngineDied if vLLM is gone."""
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            await self._llm.check_health()
        except EngineDeadError as error:
            raise EngineDied(f"vLLM's core process died: {error}") from error

    # --- sampling ---------------------------------------------------------------------------------------------

    async def sample(self, prompt_token_ids: IntArray, seed: int, sampling: SamplingSpec) -> SampledAnswer:
        """Sample one answer. Raises EngineDied if vLLM is gone."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=sampling.temperature,
            max_tokens=sampling.max_tokens,
            ignore_eos=sampling.ignore_eos,
            stop=list(sampling.stop),
            include_stop_str_in_output=True,
            seed=seed,
            logprobs=0,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        answer = (await self._generate(prompt_token_ids, params)).outputs[0]
        token_ids = np.asarray(answer.token_ids, dtype=np.int32)
        logprobs = np.array(
            [at[token].logprob for at, token in zip(answer.logprobs, answer.token_ids, strict=True)], dtype=np.float32
        )
        return SampledAnswer(
            token_ids=token_ids,
            logprobs=logprobs,
            text=answer.text,
            finish_reason="stop" if answer.finish_reason == "stop" else "length",
            versions=tuple(VersionSpan(int(span.version), span.start, span.end) for span in answer.weight_versions),
        )

    async def choice_logprobs(self, prompt_token_ids: IntArray, choice_ids: Sequence[int]) -> tuple[float, ...]:
        """Log-probabilities of `choice_ids` as the next token."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            temperature=1.0,
            max_tokens=1,
            seed=0,
            logprobs=len(choice_ids),
            logprob_token_ids=list(choice_ids),
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        answer = (await self._generate(prompt_token_ids, params)).outputs[0]
        return tuple(float(answer.logprobs[0][token].logprob) for token in choice_ids)

    async def last_state(self, token_ids: IntArray) -> FloatArray:
        """The last layer's state of the last token, [H]; of an engine that pools."""
        from vllm import PoolingParams
        from vllm.v1.engine.exceptions import EngineDeadError

        final = None
        params = PoolingParams(task="embed", use_activation=False)
        try:
            prompt = {"prompt_token_ids": token_ids.tolist()}
            async for output in self._llm.encode(prompt, params, request_id=uuid.uuid4().hex):
                final = output
        except EngineDeadError as error:
            raise EngineDied(f"vLLM's core process died: {error}") from error
        if final is None or not final.finished:
            raise EngineDied("vLLM ended a request without an answer")
        return final.outputs.data.float().numpy()

    async def _generate(self, prompt_token_ids: IntArray, params: Any) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        final = None
        try:
            prompt = {"prompt_token_ids": prompt_token_ids.tolist()}
            async for output in self._llm.generate(prompt, params, request_id=uuid.uuid4().hex):
                final = output
        except EngineDeadError as error:
            raise EngineDied(f"vLLM's core process died: {error}") from error
        if final is None or not final.finished:
            raise EngineDied("vLLM ended a request without an answer")
        return final

    # --- weights ----------------------------------------------------------------------------------------------

    async def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        await self._llm.init_weight_transfer_engine(WeightTransferInitRequest(init_info=init_info))

    async def start_weight_update(self, digesting: bool) -> None:
        """Pause generation (requests in flight wait and go on under the new weights) and open an update."""
        await self._llm.collective_rpc("podium_set_digesting", args=(digesting,))
        await self._llm.pause_generation(mode="keep", clear_cache=True)
        await self._llm.start_weight_update()

    async def update_weights(self, update_info: Any) -> None:
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        await self._llm.update_weights(WeightTransferUpdateRequest(update_info=update_info))

    async def finish_weight_update(self, version: int) -> None:
        """Close the update, drop cached prefixes of the old weights, label what follows with `version`."""
        await self._llm.finish_weight_update(weight_version=str(version))
        await self._llm.reset_prefix_cache()
        await self._llm.resume_generation()

    async def received_digests(self) -> list[dict[str, str]]:
        """Digests of the last update's tensors, one dict per vLLM worker."""
        return await self._llm.collective_rpc("podium_received_digests")

    def tensor_parallel_size(self) -> int:
        return self.spec.config.tensor_parallel_size

    async def version(self) -> int:
        return int(await self._llm.get_weight_version())

    # --- memory and end ---------------------------------------------------------------------------------------

    async def sleep(self) -> None:
        """Free GPU memory for a colocated learner; weights are discarded, the next sync brings them back."""
        await self._llm.sleep(level=2)

    async def wake(self, tags: list[str]) -> None:
        await self._llm.wake_up(tags=tags)

    async def stop(self) -> None:
        """End vLLM's processes and return once they are gone."""
        if self._llm is not None:
            if self._llm.output_handler is not None:
                self._llm.output_handler.cancel()  # or it reports the end that we ask for as a crash
            left = self.footprint()
            await asyncio.to_thread(self._llm.shutdown, SHUTDOWN_GRACE_S)
            self._llm = None
            sweep(replace(left, pids=tuple(pid for pid in left.pids if pid != os.getpid())))
            if self._janitor is not None:
                self._janitor.dismiss()
