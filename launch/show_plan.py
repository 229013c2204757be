"""A plan as text for people and as JSON values for scripts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from launch.memory import MemoryItem
from launch.plan import Plan
from launch.sft_plan import SFTPlan
from rollouts.models import ModelFacts


def plan_json(plan: Plan) -> dict[str, Any]:
    """Plain JSON values; paths as text."""
    return _plain(asdict(plan))


def plan_text(plan: Plan) -> str:
    """One line a fact, aligned; warnings last."""
    rows = list(_rows(plan))
    width = max(len(label) for label, _ in rows)
    lines = [f"{label:<{width}}  {text}" for label, text in rows]
    return "\n".join(lines + [f"warning: {warning}" for warning in plan.warnings])


def _rows(plan: Plan) -> Iterator[tuple[str, str]]:
    machine, engines, batch, calls = plan.machine, plan.engines, plan.batch, plan.calls
    yield "recipe", f"{plan.name} ({' extends '.join(plan.sources)})"
    yield "run directory", f"{plan.runs_in}/{plan.name}-<time>"
    gpus = f", {_count(len(machine.gpus), 'GPU')}" if machine.gpus else ""
    memory = f"{machine.memory_gib:.1f} GiB of memory, {machine.memory_free_gib:.1f} free"
    here = f"{_count(machine.cores, 'core')}, {memory}{gpus}"
    yield "machine", here if plan.ray_address is None else f"Ray cluster {plan.ray_address}; here {here}"
    on_gpus = f", {_count(plan.num_gpus, 'GPU')}: engines {engines.placement}" if plan.num_gpus else ""
    yield "device", plan.device + on_gpus
    yield "policy", _model(plan.policy)
    for role, facts in plan.judges.items():
        yield role, _model(facts)
    counted = "counted at the start of the run" if plan.num_train is None else f"{plan.num_train:,} to train on"
    yield "prompts", counted + ("" if plan.num_heldout is None else f", {plan.num_heldout:,} held out")
    threads = f", {_count(engines.threads, 'thread')} each" if engines.threads else ""
    cache = f", KV cache of {engines.kv_tokens:,} tokens each" if engines.kv_tokens else ""
    parallel = f"{engines.num_engines} x tensor parallel {engines.tensor_parallel_size}"
    yield "engines", f"{parallel}, up to {engines.max_model_len} tokens{threads}{cache}; weights by {engines.sync}"
    yield "learner", f"{_count(plan.learner_ranks, 'rank')}, ZeRO {plan.zero_stage}"
    yield "objective", _objective(plan)
    sampled = f"up to {batch.max_sampled_tokens:,} tokens sampled, {batch.max_learned_tokens:,} read by the learner"
    prompts = _count(batch.num_prompts, "prompt")
    yield "step", f"{prompts} x {batch.group_size} = {batch.num_rollouts} rollouts; {sampled}"
    per_step = f"{_count(batch.num_steps, 'step')} x {batch.optimizer_steps_per_step}"
    in_all = f"{_count(batch.optimizer_steps, 'optimizer step')}, {_count(calls.num_evaluations, 'evaluation')}"
    yield "run", f"{per_step} = {in_all}"
    if calls.per_group:
        games = f"{calls.per_group} a group, {calls.per_step:,} a step, {calls.per_evaluation:,} an evaluation"
        in_steps = f", {calls.audit_per_step:,} of them a step" if calls.audit_per_step else ""
        audit = f", {calls.audit:,} by the audit judge{in_steps}" if calls.audit else ""
        votes = f"; a call is up to {calls.votes} requests" if calls.votes > 1 else ""
        writing = f"; {calls.writing} a group of them to write criteria, once per prompt" if calls.writing else ""
        yield "judge calls", f"up to {games}, {calls.per_run:,} a run{audit}{votes}{writing}"
    yield "memory", f"about {plan.memory_gib:.1f} GiB{_unknown(plan.memory)}"
    for item in plan.memory:
        yield "", _memory(item)
    if plan.sft is not None:
        yield from _sft_rows(plan.sft)


def _sft_rows(sft: SFTPlan) -> Iterator[tuple[str, str]]:
    """What `podium sft` would do first."""
    yield "sft", f"{_count(sft.num_rows, 'row')} to learn from, {sft.num_heldout:,} held out"
    budget = f"{_count(sft.rows_per_step, 'row')} each, up to {sft.max_tokens:,} tokens a row"
    yield "sft run", f"{_count(sft.num_steps, 'step')} of {budget}"
    yield "sft learner", f"{_count(sft.learner_ranks, 'rank')}, ZeRO {sft.zero_stage}, about {sft.memory_gib:.1f} GiB"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _objective(plan: Plan) -> str:
    objective = plan.objective
    constant = f" / {objective.constant_tokens} tokens" if objective.constant_tokens else ""
    kl = f", {objective.kl_estimator} KL x {objective.kl_coef} in the {objective.kl_in}" if objective.kl_coef else ""
    entropy = f", entropy bonus x {objective.entropy_coef}" if objective.entropy_coef else ""
    if objective.disco:
        knobs = objective.disco
        held = f"KL held under {knobs.kl_limit} by {knobs.kl_penalty:g}"
        return f"{objective.kind}: pairs weighed by {knobs.score}, tau {knobs.tau:g}, {held}{kl}{entropy}"
    clips = f" {objective.clip_low}/{objective.clip_high}" if objective.surrogate in ("clip", "cispo", "gmpo") else ""
    level = "" if objective.ratio_level == "token" else f" of the {objective.ratio_level}'s ratio"
    weights = f", segments x {list(objective.segment_weights)}" if objective.segment_weights else ""
    if objective.bypass:
        level += ", the engine's logprobs as old ones"
    if objective.off_policy.weight != "none":
        cut = "masked" if objective.off_policy.mask_outside else "truncated"
        level += f", {objective.off_policy.weight} mismatch weights {cut} at {objective.off_policy.high:g}"
    advantage = f"advantage {objective.advantage}"
    if objective.criteria:
        mixed = ", ".join(f"{name} x {weight:g}" for name, weight in objective.criteria.weights.items())
        advantage += f" of criteria {mixed}{' whitened' if objective.criteria.whiten else ''}"
    return (
        f"{objective.kind}: {advantage}, {objective.surrogate}{clips}{level}, "
        f"mean by {objective.aggregation}{constant}{weights}{kl}{entropy}"
    )


def _model(facts: ModelFacts) -> str:
    size = f"{facts.num_params / 1e6:,.1f} M parameters" if facts.num_params else "size known once it is downloaded"
    context = f", context {facts.max_context}" if facts.max_context else ""
    return f"{facts.name}: {size}{context}"


def _memory(item: MemoryItem) -> str:
    share = f" ({item.parts} x {item.gib / item.parts:.2f})" if item.parts > 1 and item.gib is not None else ""
    return f"{'?' if item.gib is None else f'{item.gib:.2f}':>8}  {item.what}{share}"


def _unknown(memory: tuple[MemoryItem, ...]) -> str:
    return " and what is not known yet (?)" if any(item.gib is None for item in memory) else ""


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
