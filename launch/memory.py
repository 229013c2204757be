"""How much memory a run needs, from the sizes of its models. Estimates for planning, not limits. All GiB.

host (device cpu): everything below        GPUs (device cuda): each line divided over the GPUs that carry it
"""

from __future__ import annotations

from dataclasses import dataclass

from launch.machine import GIB, Device
from recipes.schema import Recipe
from rewards.judge_config import SingleJudge, VerdictTokensJudge, has_engine
from rl.config import LearnerConfig, LoraConfig
from rollouts.models import ModelFacts

BYTES = {"bfloat16": 2, "float16": 2, "float32": 4}
ENGINE_PROCESSES_GIB = 2.0
"""Python, torch and vLLM of an engine's three processes, weights not included (rough)."""
LEARNER_PROCESS_GIB = 1.0
"""Python, torch and DeepSpeed of a rank (rough)."""


@dataclass(frozen=True, slots=True)
class MemoryItem:
    """gib: total over `parts` equal parts (engines, ranks); None where the model's size is not known yet.

    offloaded: it lies in host memory or on a disk, not on the GPUs.
    """

    what: str
    gib: float | None
    parts: int = 1
    offloaded: bool = False


def learner_items(learner: LearnerConfig, model: ModelFacts, *, has_reference: bool) -> list[MemoryItem]:
    """Weights, gradients, masters and Adam moments over all ranks (ZeRO, arXiv 1910.02054, section 3), activations.

    Stage 1 divides masters and moments by the ranks, stage 2 also gradients, stage 3 also weights. Gradients are
    counted in float32. With LoRA only adapters have gradients, masters and moments, and the reference is the base
    itself. Activations: 34 bytes per token, hidden unit and layer (arXiv 2205.05198, eq. 1 without
    attention scores), 2 with gradient checkpointing; logits of one chunk twice in float32.
    """
    ranks, stage = learner.ranks, learner.zero_stage
    params, layers, hidden, vocab = model.num_params, model.num_layers, model.hidden_size, model.vocab_size
    activations = None
    if layers and hidden and vocab:
        per_token = layers * hidden * (2 if learner.gradient_checkpointing else 34)
        activations = ranks * (learner.micro_batch_tokens * per_token + 8 * learner.logprob_chunk * vocab)
    copies = {"weights": 1 if stage == 3 else ranks, "gradients": 1 if stage >= 2 else ranks}
    width = BYTES[learner.dtype]
    trained = params if learner.lora is None else adapter_params(learner.lora, model)
    masters, parameters = learner.offload.optimizer, learner.offload.params
    items = [
        MemoryItem(
            f"learner weights, {learner.dtype}{_where(parameters)}",
            _gib(params, width * copies["weights"]),
            ranks,
            parameters != "none",
        ),
        MemoryItem("gradients, float32", _gib(trained, 4 * copies["gradients"]), ranks),
        MemoryItem(
            f"masters and Adam moments, float32{_where(masters)}",
            _gib(trained, 12 * (1 if stage >= 1 else ranks)),
            ranks,
            masters != "none",
        ),
        MemoryItem("activations and logits", _gib(activations, 1), ranks),
    ]
    if has_reference and learner.lora is None:
        items.append(MemoryItem(f"reference model, {learner.dtype}", _gib(params, width * copies["weights"]), ranks))
    return items


def _where(offload: str) -> str:
    return "" if offload == "none" else f", offloaded to {offload}"


def adapter_params(lora: LoraConfig, model: ModelFacts) -> int | None:
    """Numbers in the adapters: rank x (inputs + outputs) of each target, in every layer; None for unusual names."""
    hidden, inner, layers = model.hidden_size, model.intermediate_size, model.num_layers
    if not (hidden and inner and layers and model.num_heads and model.num_kv_heads and model.head_dim):
        return None
    queries, keys = model.num_heads * model.head_dim, model.num_kv_heads * model.head_dim
    sides = {"q_proj": hidden + queries, "k_proj": hidden + keys, "v_proj": hidden + keys, "o_proj": queries + hidden}
    sides |= dict.fromkeys(("gate_proj", "up_proj", "down_proj"), hidden + inner)
    if any(name not in sides for name in lora.target_modules):
        return None
    return layers * lora.rank * sum(sides[name] for name in lora.target_modules)


def engine_items(recipe: Recipe, model: ModelFacts, device: Device) -> list[MemoryItem]:
    """Weights and KV cache of the sampling engines. On GPUs vLLM takes its share of the memory for both."""
    engines, config = recipe.rollouts.engines, recipe.rollouts.engine
    items = [
        MemoryItem(f"engine weights, {config.dtype}", _gib(model.num_params, BYTES[config.dtype] * engines), engines)
    ]
    if device == "cpu":
        items.append(MemoryItem("KV cache", config.kv_cache_gib * engines, engines))
    return items


def judge_items(name: str, judge: SingleJudge, model: ModelFacts) -> list[MemoryItem]:
    if isinstance(judge, VerdictTokensJudge):
        weights = MemoryItem(f"{name} weights, bfloat16", _gib(model.num_params, 2))
        return [weights, MemoryItem(f"{name} KV cache", judge.kv_cache_gib)]
    weights = MemoryItem(f"{name} weights, float32", _gib(model.num_params, 4))
    return [weights, MemoryItem(f"{name} KV cache", judge.kv_cache_gib)] if has_engine(judge) else [weights]


def process_items(recipe: Recipe, num_judge_engines: int) -> list[MemoryItem]:
    """Host memory that processes take before any model is loaded."""
    engines = recipe.rollouts.engines + num_judge_engines
    gib = engines * ENGINE_PROCESSES_GIB + recipe.rl.learner.ranks * LEARNER_PROCESS_GIB
    return [MemoryItem("processes", gib)]


def kv_tokens(kv_cache_gib: float, model: ModelFacts, dtype: str) -> int | None:
    """Tokens that a KV cache holds: keys and values of every layer and KV head."""
    layers, heads, size = model.num_layers, model.num_kv_heads, model.head_dim
    if not (layers and heads and size):
        return None
    return int(kv_cache_gib * GIB // (2 * layers * heads * size * BYTES[dtype]))


def total_gib(items: list[MemoryItem]) -> float:
    """Sum of what is known and not offloaded."""
    return sum(item.gib for item in items if item.gib is not None and not item.offloaded)


def _gib(count: int | None, width: int) -> float | None:
    return None if count is None else count * width / GIB
