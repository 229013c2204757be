"""The `task` and `rollouts` sections of a recipe: where prompts come from and how answers are sampled."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

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


class SyntheticPools(StrictModel):
    """Made-up queries over pools of items with a hidden relevance; needs no data. The same rows in every run.

    A query is a topic. Each item has a few topics, and how many of them are the query's is noisy evidence of whether it
    is relevant.
    """

    kind: Literal["synthetic"]
    num_prompts: Annotated[int, Field(ge=2)] = 2048
    seed: Annotated[int, Field(ge=0)] = 0
    """Of the rows themselves; the run's seed draws which are held out."""
    pool_size: Annotated[int, Field(ge=2, le=64)] = 20
    num_ids: Annotated[int, Field(ge=2, le=100)] | None = None
    """So many ids there are, of which each pool draws its own; default: pool_size, all ids in every pool."""
    relevant: tuple[Annotated[int, Field(ge=1)], Annotated[int, Field(ge=1)]] = (2, 4)
    """Fewest and most relevant items of a pool."""
    num_topics: Annotated[int, Field(ge=2, le=64)] = 8
    num_queries: Annotated[int, Field(ge=1)] | None = None
    """So many of the topics are asked for; default: all. With 1 the query says nothing and the items say it all."""
    topics_per_item: Annotated[int, Field(ge=1, le=8)] = 2
    match_relevant: Annotated[float, Field(ge=0, le=1)] = 0.8
    """Chance that a topic of a relevant item is the query's; otherwise it is any other one."""
    match_other: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The same for an item that is not relevant."""
    shown: Literal["topics", "matches"] = "topics"
    """An item's text: its topics, or one number, how many of them are the query's."""
    order: Literal["shuffled", "by_id"] = "shuffled"
    """Of the items in a pool. Neither ids nor places say anything of relevance."""

    @model_validator(mode="after")
    def _has_others(self) -> Self:
        low, high = self.relevant
        if self.num_ids is not None and self.num_ids < self.pool_size:
            raise ValueError(f"num_ids {self.num_ids} is less than pool_size {self.pool_size}")
        if self.num_queries is not None and self.num_queries > self.num_topics:
            raise ValueError(f"num_queries {self.num_queries} is more than num_topics {self.num_topics}")
        if not low <= high < self.pool_size:
            raise ValueError(f"relevant {low} to {high} of {self.pool_size} items: needs low <= high < pool_size")
        return self


PoolSource = Annotated[JsonlSource | SyntheticPools, Field(discriminator="kind")]


class SlateRankTask(StrictModel):
    """Choose a slate out of a pool of items, then rank the best of it: `<SLATE>..</SLATE><RANK>..</RANK>`.

    A JSONL source has a pool a line: `{"query": text, "items": [{"id": .., "text": ..}, ..], "relevant": [id, ..]}`, or
    `"relevant": {id: grade}`. Ids have no white space, commas or angle brackets.
    """

    kind: Literal["slate_rank"]
    source: PoolSource
    template: str = (
        "{query}\n\n{items}\nFirst choose up to {max_slate} of these items, in any order. Then rank the best "
        "{max_rank} of your choice, best first. Answer with ids, in this form:\n"
        "<SLATE>id, id, ...</SLATE>\n<RANK>id, id, ...</RANK>"
    )
    """User message; may use {query}, {items}, {max_slate} and {max_rank}."""
    item_template: str = "[{id}] {text}\n"
    """One item of {items}; may use {id} and {text}."""
    system: str | None = None
    heldout: Annotated[int, Field(ge=0)] = 64
    """Pools set aside for evaluation, drawn by the run's seed; never trained on."""
    max_items: Annotated[int, Field(ge=2)] = 20
    """A larger pool is a fault of the source."""
    max_slate: Annotated[int, Field(ge=1)] = 10
    max_rank: Annotated[int, Field(ge=1)] = 5
    """A longer slate or ranking makes an answer malformed."""
    segments: Literal["phases", "items"] = "phases"
    """`phases`: slate and rank. `items`: one segment per place of the ranking, as `rank_grpo` wants them."""
    preamble: Literal["first", "none"] = "first"
    """Tokens before the first segment (thinking; with `items` also the slate) belong to it, or to none: those are not
    learned from."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if isinstance(self.source, SyntheticPools) and self.source.pool_size > self.max_items:
            raise ValueError(f"source.pool_size {self.source.pool_size} is more than max_items {self.max_items}")
        if self.max_rank > self.max_slate:
            raise ValueError(f"max_rank {self.max_rank} is more than max_slate {self.max_slate}: a slate is ranked")
        return self


class PythonTask(StrictModel):
    """Your own task: `target` names a class or factory called with `options`, giving a rollouts.types.Task."""

    kind: Literal["python"]
    target: ImportPath
    options: dict[str, str | int | float | bool] = Field(default_factory=dict)


TaskConfig = Annotated[FreeformTask | SlateRankTask | PythonTask, Field(discriminator="kind")]


def answer_parts(task: TaskConfig) -> tuple[str, ...] | None:
    """Parts that the task finds in an answer; None where only its own code knows. `slate_rank` finds fields."""
    if isinstance(task, PythonTask):
        return None
    return ("answer",) if isinstance(task, FreeformTask) else ()


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
