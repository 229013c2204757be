"""The `task` and `rollouts` sections of a recipe: where prompts come from and how answers are sampled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from rewards.strict import ImportPath, StrictModel

# --- prompt sources ---------------------------------------------------------------------------------------------


class JsonlSource(StrictModel):
    """One JSON object a line; its string values are the fields of a prompt."""

    kind: Literal["jsonl"]
    path: str
    """Relative paths start at the recipe's folder."""


class DatasetsSource(StrictModel):
    """A dataset name or directory that `datasets.load_dataset` understands."""

    kind: Literal["datasets"]
    name: str
    split: str = "train"
    config: str | None = None


class PackageLinesSource(StrictModel):
    """A text file that a Python package ships, one document a line; the line becomes the field `text`."""

    kind: Literal["package_lines"]
    package: str
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Paths inside the package."""
    max_words: Annotated[int, Field(ge=1)] | None = None
    """Keep the first so many words of a document."""


PromptSource = Annotated[JsonlSource | DatasetsSource | PackageLinesSource, Field(discriminator="kind")]


class FreeformTask(StrictModel):
    """Write an answer to a prompt; the whole answer is ranked."""

    kind: Literal["freeform"] = "freeform"
    source: PromptSource
    template: str = "{prompt}"
    """User message; `{name}` is replaced by that field, once, in a single pass."""
    system: str | None = None
    heldout: Annotated[int, Field(ge=0)] = 64
    """Prompts set aside for evaluation, drawn by the run's seed; never trained on."""
    strip: bool = True
    """Judges see the answer without surrounding white space."""


class PythonTask(StrictModel):
    """Your own task: `target` names a class or factory called with `options`, giving a rollouts.types.Task."""

    kind: Literal["python"]
    target: ImportPath
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)


TaskConfig = Annotated[FreeformTask | PythonTask, Field(discriminator="kind")]


# --- engines ----------------------------------------------------------------------------------------------------


class EngineConfig(StrictModel):
    """One vLLM engine. Values are handed to vLLM as they are; unset ones are chosen for the device."""

    max_model_len: Annotated[int, Field(ge=16)] | None = None
    """Prompt plus answer; default: max_prompt_tokens + max_tokens."""
    tensor_parallel_size: Annotated[int, Field(ge=1)] = 1
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.85
    kv_cache_gib: Annotated[float, Field(gt=0)] = 2.0
    """KV cache of a CPU engine."""
    block_size: Annotated[int, Field(ge=1)] | None = None
    """Tokens per prefix-cache block; default 32 on CPU (vLLM's own 128 shares nothing between short prompts)."""
    max_num_seqs: Annotated[int, Field(ge=1)] = 256
    dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"
    compile: bool = False
    """Compile the model: faster decoding, a minute more to start on CPU."""
    cpu_threads: Annotated[int, Field(ge=1)] | None = None
    """Threads an engine binds, one per core; default: all cores shared out among the engines."""
    preload_openmp: bool = True
    """Preload libiomp5 into CPU engines where it is installed."""
    enable_sleep_mode: bool = False


class RolloutsConfig(StrictModel):
    """How groups are sampled."""

    group_size: Annotated[int, Field(ge=2, le=4096)] = 8
    prompts_per_step: Annotated[int, Field(ge=1)] = 8
    max_prompt_tokens: Annotated[int, Field(ge=1)] = 512
    max_tokens: Annotated[int, Field(ge=1)] = 256
    temperature: Annotated[float, Field(gt=0, le=10)] = 1.0
    ignore_eos: bool = False
    """Force every answer to max_tokens (benchmarks)."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Texts that end an answer, kept in its text; `". "` and `"\\n"` make one-sentence answers."""
    engines: Annotated[int, Field(ge=1)] = 1
    engines_per_node: Annotated[int, Field(ge=1)] | None = None
    """On GPUs: so many engines are booked together on one node; default: each wherever Ray finds room."""
    placement: Literal["separate", "colocated"] = "separate"
    """On GPUs: engines on their own GPUs, or sharing the learner's (they sleep while it learns)."""
    deadline_s: Annotated[float, Field(gt=0)] = 600.0
    """A rollout that takes longer is given up and counted."""
    max_engine_replacements: Annotated[int, Field(ge=0)] = 3
    """How often in a run each engine may die and be replaced; its unfinished rollouts are sampled again."""
    engine: EngineConfig = EngineConfig()
