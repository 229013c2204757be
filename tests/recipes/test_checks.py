"""Cross-field checks: each impossible combination is refused at the key to change, and its neighbour is accepted."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from recipes.load import dump_resolved, load_recipe
from recipes.messages import RecipeError
from recipes.schema import Recipe

FULL = Path(__file__).parent / "data" / "full.yaml"
"""300 + 48 tokens, 6 prompts x 8 rollouts, single elimination by anchor, both orders: 6 x 14 x 2 = 168 calls a step."""

K_WISE = "{kind: k_wise}"
"""8 rollouts in 4 rounds of 2 slates of 4, both orders: 6 x 8 x 2 = 96 calls a step; 4 x 3 x 2 = 24 verdicts each."""


RUBRIC = (
    "rewards.judge={kind: rubric, endpoint: {base_url: 'http://h/v1', model: m}, "
    "rubric: {criteria: [{id: facts, text: t}, {id: depth, text: t}]}}"
)
CRITERIA = "rl.objective.criteria={weights: {facts: 1.0, depth: 0.5}}"
NOT_SKIPPED = "rl.min_batch_reliability=0"
SCORER = "rewards={kind: scorer, scorer: {kind: slate_rank}}"

PANEL = (
    "rewards.judge={kind: panel, members: [{judge: {kind: python, target: a:b}}, "
    "{judge: {kind: python, target: a:c}, name: second}]}"
)
SLATE_RANK = "{kind: slate_rank, source: {kind: synthetic}}"


def keys(*overrides: str) -> set[str]:
    with pytest.raises(RecipeError) as caught:
        load_recipe(FULL, overrides)
    return {".".join(map(str, fault.path)) for fault in caught.value.faults}


CASES = [
    # lengths
    (["model.max_context=347", "rollouts.engine.max_model_len=null"], "rollouts.max_tokens"),
    (["rollouts.engine.max_model_len=347"], "rollouts.engine.max_model_len"),
    (["model.max_context=400", "rollouts.engine.max_model_len=401"], "rollouts.engine.max_model_len"),
    (["rl.learner.micro_batch_tokens=347"], "rl.learner.micro_batch_tokens"),
    (["rewards.judge.max_model_len=395"], "rewards.judge.max_model_len"),
    (
        ["evaluation.audit_judge={kind: verdict_tokens, model: m, max_model_len: 395}"],
        "evaluation.audit_judge.max_model_len",
    ),
    # keys that would do nothing
    *(([f"rewards.aggregator={{kind: {kind}}}"], "rl.min_batch_reliability")
      for kind in ("rank_quantile", "borda", "elo", "soft_condorcet", "kemeny", "tour")),
    (["rewards={kind: scorer, target: a:b}"], "rl.min_batch_reliability"),
    (["rewards.judge={kind: python, target: a:b}", "rewards.aggregator.score_error=0.5"],
     "rewards.aggregator.score_error"),
    (["rewards.judge={kind: python, target: a:b, verdict: hard}", "rewards.aggregator.score_rewards=win_share"],
     "rewards.aggregator.score_rewards"),
    ([f"rewards.topology={K_WISE}", "rewards.aggregator.score_error=0.5"], "rewards.aggregator.score_error"),
    (["rewards.aggregator.judge_weights={nobody: 3}"], "rewards.aggregator.judge_weights.nobody"),
    ([PANEL, "rewards.aggregator.judge_weights={'python:a:c': 3}"], "rewards.aggregator.judge_weights.python:a:c"),
    (["rewards.topology.kind=round_robin", "rewards.prior_scorer=a:b"], "rewards.prior_scorer"),
    (["rewards.prior_scorer=a:b"], "rewards.prior_scorer"),
    # prior scores
    (["rewards.topology={kind: swiss, seeding: prior}"], "rewards.topology.seeding"),
    (["rewards.topology={kind: anchor, anchors: median}"], "rewards.topology.anchors"),
    # counts
    (["rl.min_group=9"], "rl.min_group"),
    (["rl.updates_per_step=49"], "rl.updates_per_step"),
    (["rl.learner.ranks=7"], "rl.learner.ranks"),
    (["rl.learner.zero_stage=0", "rl.learner.dtype=bfloat16"], "rl.learner.zero_stage"),
    (["rl.optimizer.warmup_steps=21"], "rl.optimizer.warmup_steps"),
    (["rl.optimizer.warmup_steps=21", "rl.updates_per_step=4"], "rl.optimizer.warmup_steps"),
    (["rollouts.engines_per_node=3"], "rollouts.engines_per_node"),
    # sft
    (["sft.num_steps=5"], "sft.num_steps"),
    (["sft.heldout_data=x.jsonl"], "sft.heldout_share"),
    (["sft.apply_chat_template=false", "sft.turns=last"], "sft.turns"),
    (["sft.learner.micro_batch_tokens=299"], "sft.learner.micro_batch_tokens"),
    (["sft.max_tokens=4097", "sft.learner.micro_batch_tokens=5000"], "sft.max_tokens"),
    (["sft.rows_per_step=1"], "sft.learner.ranks"),
    (["sft.num_epochs=null", "sft.num_steps=5", "sft.optimizer.warmup_steps=6"], "sft.optimizer.warmup_steps"),
    (["sft.learner.zero_stage=0"], "sft.learner.zero_stage"),
    (["sft.learner.lora={dropout: 0.1}"], "sft.learner.lora.dropout"),
    # LoRA and offload
    (["rl.learner.lora={dropout: 0.1}"], "rl.learner.lora.dropout"),
    (["rl.learner.offload={params: cpu}"], "rl.learner.offload.params"),
    (["rl.learner.offload={optimizer: nvme}"], "rl.learner.offload.nvme_path"),
    (["launch.device=cpu", "rl.learner.offload={optimizer: cpu}"], "rl.learner.offload.optimizer"),
    (["launch.device=cpu", "sft.learner.offload={optimizer: cpu}"], "sft.learner.offload.optimizer"),
    # evaluation
    (["evaluation.num_prompts=65"], "evaluation.num_prompts"),
    (["evaluation.audit_judge={kind: python, target: a:b}", "rewards.judge={kind: python, target: a:b}"],
     "evaluation.audit_judge"),
    (["evaluation.audit_judge=null", "evaluation.audit_share=0.1"], "evaluation.audit_share"),
    (["rewards={kind: scorer, target: a:b}", "evaluation.audit_share=0.1"], "evaluation.audit_share"),
    (["evaluation.audit_share=0.05", "rewards.budget={calls_per_step: 20}"], "evaluation.audit_share"),
    (["evaluation.audit_share=0.5"], "rewards.max_calls_per_step"),
    (["rewards.calibration={file: k.jsonl, per_group: 3}", "rewards.budget={calls_per_step: 29}"],
     "rewards.budget.calls_per_step"),
    (["rewards.alarms=[{min_audit_kappa: 0.2}]"], "rewards.alarms.0.min_audit_kappa"),
    # scorers
    (["rewards={kind: scorer, scorer: {kind: slate_rank}}"], "rewards.scorer.kind"),
    (["rewards={kind: scorer, scorer: {kind: slate_rank}}", f"task={SLATE_RANK}", "task.segments=items"],
     "task.segments"),
    (["rewards={kind: scorer, scorer: {kind: item_rank}}", f"task={SLATE_RANK}"], "task.segments"),
    ([SCORER, f"task={SLATE_RANK}", "rl.objective={kind: grpo, focal_gamma: 0.5}"], "rl.objective.focal_gamma"),
    ([SCORER, "task={kind: python, target: a:b}", "rl.objective={kind: focal}"], "rl.objective.kind"),
    (["rewards={kind: scorer, scorer: {kind: item_rank}}", f"task={SLATE_RANK}", "task.segments=items",
      "rl.objective={kind: focal, focal_gamma: 1.0}"], "rl.objective.focal_gamma"),
    ([f"task={SLATE_RANK}", "task.heldout=1"], "evaluation.num_prompts"),
    # criteria
    ([CRITERIA], "rl.objective.criteria"),
    ([CRITERIA, "rewards.judge={kind: embedding, model: m}"], "rl.objective.criteria"),
    ([CRITERIA, SCORER, f"task={SLATE_RANK}"], "rl.objective.criteria"),
    ([CRITERIA, f"rewards.topology={K_WISE}", "rewards.judge={kind: python, target: a:b, ranks: true}"],
     "rl.objective.criteria"),
    ([RUBRIC, "rl.objective.criteria={weights: {facts: 1.0, dept: 0.5}}"], "rl.objective.criteria.weights.dept"),
    ([RUBRIC, "rewards.judge.criteria_from=pair", "rl.objective.criteria={weights: {fatal: 1.0}}"],
     "rl.objective.criteria.weights.fatal"),
    # devices
    (["rollouts.placement=colocated", "rl.learner.ranks=1"], "rl.learner.ranks"),
    (["rollouts.placement=colocated", "rollouts.engines=1", "rollouts.engines_per_node=1",
      "rollouts.engine.tensor_parallel_size=2"], "rollouts.engine.tensor_parallel_size"),
    (["launch.device=cpu", "rollouts.placement=colocated"], "rollouts.placement"),
    (["launch.device=cpu", "rollouts.engine.tensor_parallel_size=2"], "rollouts.engine.tensor_parallel_size"),
    (["launch.device=cpu", "rollouts.engine.enable_sleep_mode=true"], "rollouts.engine.enable_sleep_mode"),
    (["launch.device=cpu", "rl.sync.backend=nccl"], "rl.sync.backend"),
    (["rl.sync.backend=ipc"], "rl.sync.backend"),
    (["rl.sync.backend=nccl", "rollouts.placement=colocated"], "rl.sync.backend"),
    # judging
    (["rewards.gates.0.min_words=26"], "rewards.gates.0.min_words"),
    (["rewards.gates=[{kind: length}, {kind: length, max_words: 9}]"], "rewards.gates.1.name"),
    ([PANEL, "rewards.judge.members.1.name=null", "rewards.judge.members.1.judge.target=a:b"],
     "rewards.judge.members.1.name"),
    ([PANEL, "rewards.judge.members.1.name='python:a:b'"], "rewards.judge.members.1.name"),
    (["rewards.gates=[{kind: length, part: slate}]"], "rewards.gates.0.part"),
    (["rewards.gates=[{kind: format, parts: [answer, slate]}]"], "rewards.gates.0.parts.1"),
    ([f"task={SLATE_RANK}", "rewards.gates=[{kind: length, part: slate}]"], "rewards.gates.0.part"),
    (["rewards.judge.choices=[A, A]"], "rewards.judge.choices"),
    (["rewards.judge.choices=[A, ' ']"], "rewards.judge.choices"),
    (["rewards.min_verdicts=5"], "rewards.min_verdicts"),
    (["rewards.orders=both_if_close", "rewards.close_margin=1.0", "rewards.min_verdicts=3"], "rewards.min_verdicts"),
    (["rewards.max_calls_per_step=167"], "rewards.max_calls_per_step"),
    # rankings
    ([f"rewards.topology={K_WISE}", "rewards.judge={kind: python, target: a:b}"], "rewards.topology.kind"),
    ([f"rewards.topology={K_WISE}", "rewards.judge.max_model_len=491"], "rewards.judge.max_model_len"),
    ([f"rewards.topology={K_WISE}", "rewards.judge.labels=[A, B, C]"], "rewards.judge.labels"),
    ([f"rewards.topology={K_WISE}", "rewards.judge.labels=[A, B, C, ' A']"], "rewards.judge.labels"),
    ([f"rewards.topology={K_WISE}", "rewards.min_verdicts=25"], "rewards.min_verdicts"),
    ([f"rewards.topology={K_WISE}", "rewards.max_calls_per_step=95"], "rewards.max_calls_per_step"),
    (["rewards.judge={kind: reward_model, model: m, max_tokens: 347}"], "rewards.judge.max_tokens"),
    (
        ["rewards.judge={kind: panel, members: [{judge: {kind: python, target: a:b}}, "
         "{judge: {kind: verdict_tokens, model: m, max_model_len: 395}}]}"],
        "rewards.judge.members.1.judge.max_model_len",
    ),
    (
        [f"rewards.topology={K_WISE}", "rewards.judge={kind: panel, members: [{judge: {kind: python, target: a:b}}, "
         "{judge: {kind: program, by: {kind: length, target: 9}}}]}"],
        "rewards.topology.kind",
    ),
    # fields
    (["task.source={kind: package_lines, package: p, files: [f]}", "task.template='{prompt}'"], "task.template"),
    (
        ["task.source={kind: package_lines, package: p, files: [f]}", "rewards.gates.1.field=body"],
        "rewards.gates.1.field",
    ),
    (
        ["task.source={kind: package_lines, package: p, files: [f]}", "evaluation.audit_judge.reference_field=body"],
        "evaluation.audit_judge.reference_field",
    ),
    (
        ["task.source={kind: package_lines, package: p, files: [f]}",
         "evaluation.audit_judge={kind: likelihood, model: m, reference_field: body}"],
        "evaluation.audit_judge.reference_field",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("overrides", "key"), CASES)
def test_an_impossible_combination_is_refused_at_its_key(overrides: list[str], key: str) -> None:
    assert key in keys(*overrides)


@pytest.mark.parametrize(
    "overrides",
    [
        [f"rewards.topology={K_WISE}", "rewards.judge.max_model_len=492", "rewards.judge.labels=[A, B, C, D]"],
        [f"rewards.topology={K_WISE}", "rewards.min_verdicts=24", "rewards.max_calls_per_step=96"],
        [f"rewards.topology={K_WISE}", "rewards.judge={kind: python, target: a:b, ranks: true}"],
        [f"rewards.topology={K_WISE}", "rewards.judge={kind: embedding, model: m}"],
        ["rewards.judge.labels=[A, B]"],
        ["model.max_context=348", "rollouts.engine.max_model_len=348"],
        ["rl.learner.micro_batch_tokens=348", "rewards.judge.max_model_len=396"],
        ["rl.learner.zero_stage=0", "rl.learner.dtype=float32"],
        ["rewards.topology={kind: swiss, seeding: prior}", "rewards.prior_scorer=tests.rewards.test_arena:by_length"],
        ["rewards.topology={kind: swiss}"],
        ["rl.min_group=8", "rl.updates_per_step=48", "rl.learner.ranks=6", "rl.optimizer.warmup_steps=20"],
        ["rollouts.engines_per_node=1", "evaluation.num_prompts=1", "rewards.gates.0.min_words=25"],
        ["launch.device=cuda", "rollouts.placement=colocated", "rl.sync.backend=ipc"],
        ["launch.device=cuda", "rollouts.placement=colocated", "rl.sync.backend=auto"],
        ["launch.device=cuda", "rollouts.engine.tensor_parallel_size=2", "rl.sync.backend=nccl"],
        ["launch.device=cpu", "rl.sync.backend=shm"],
        ["rewards.min_verdicts=4", "rewards.max_calls_per_step=168"],
        ["rewards.topology.kind=round_robin", "rewards.min_verdicts=14", "rewards.max_calls_per_step=336"],
        ["rewards.topology.seeding=random", "rewards.min_verdicts=2", "rewards.max_calls_per_step=84"],
        ["task.source={kind: package_lines, package: p, files: [f]}"],
        ["evaluation.audit_judge={kind: likelihood, model: m, reference_field: text}"],
        ["rewards={kind: scorer, target: a:b}", NOT_SKIPPED],
        ["rewards.aggregator={kind: elo}", NOT_SKIPPED],
        ["rewards.aggregator={kind: davidson}"],
        ["rewards.aggregator.score_error=0.5", "rewards.aggregator.score_rewards=win_share"],
        [PANEL, "rewards.aggregator.judge_weights={'python:a:b': 3, second: 0.5}", "rewards.max_calls_per_step=null"],
        [
            "rewards.judge={kind: python, target: a:b}",
            "rewards.gates=[{kind: length, soft: true}]",
            "rewards.router={gate: length}",
            "rewards.aggregator.judge_weights={'router:length': 3}",
        ],
        [RUBRIC, "rewards.judge.criteria_from=prompt", "rewards.prior_scorer=a:b", "rewards.max_calls_per_step=null"],
        [CRITERIA, RUBRIC],
        [CRITERIA, RUBRIC, "rewards.gates.0.soft=true"],
        [CRITERIA, RUBRIC, "rewards.judge.criteria_from=prompt", "rl.objective.criteria={weights: {tone: 1.0}}"],
        [RUBRIC, "rewards.judge.criteria_from=pair", "rl.objective.criteria={weights: {facts: 1.0, core: 2.0}}"],
        [CRITERIA, "rewards.judge={kind: python, target: a:b}"],
        [CRITERIA, "rewards={kind: scorer, target: a:b}", NOT_SKIPPED],
        ["task={kind: python, target: a:b}"],
        ["task={kind: python, target: a:b}", "rewards.gates=[{kind: length, part: slate}]"],
        ["rewards.gates=[{kind: length, part: answer}, {kind: format, parts: [answer]}]"],
        [f"task={SLATE_RANK}", "rewards.gates=[{kind: format}]"],
        ["rewards={kind: scorer, scorer: {kind: slate_rank}}", f"task={SLATE_RANK}", NOT_SKIPPED],
        ["rewards={kind: scorer, scorer: {kind: item_rank}}", f"task={SLATE_RANK}", "task.segments=items", NOT_SKIPPED],
        ["rewards={kind: scorer, scorer: {kind: slate_rank}}", "task={kind: python, target: a:b}", NOT_SKIPPED],
        [SCORER, f"task={SLATE_RANK}", "rl.objective={kind: focal, focal_gamma: 0.0}", NOT_SKIPPED],
        ["rewards={kind: scorer, target: a:b}", "rl.objective={kind: focal}", NOT_SKIPPED],
    ],
)
def test_its_neighbours_are_accepted(overrides: list[str]) -> None:
    load_recipe(FULL, overrides)


def test_all_impossible_combinations_are_reported_together() -> None:
    assert keys("rl.min_group=9", "evaluation.num_prompts=65", "rewards.judge.choices=[A, A]") == {
        "rl.min_group",
        "evaluation.num_prompts",
        "rewards.judge.choices",
    }


def test_a_recipe_made_in_python_is_held_to_the_same_rules() -> None:
    values = dump_resolved(load_recipe(FULL).recipe)
    values["rl"]["min_group"] = 9
    with pytest.raises(ValidationError, match=r"rl\.min_group: every group would be dropped"):
        Recipe.model_validate(values, strict=False)


def test_a_judge_that_cannot_rank_is_named_beside_the_topology() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(FULL, ["rewards.topology={kind: k_wise}", "rewards.judge={kind: python, target: a:b}"])
    (line,) = str(caught.value).splitlines()
    assert "rewards.topology.kind" in line
    assert "rewards.judge of kind python only compares two" in line


STALE = ("rl.staleness=1", "launch.device=cuda")


def test_stale_rollouts_need_engines_beside_the_learner() -> None:
    colocated = ("rollouts.placement=colocated", "rl.sync.backend=auto")
    assert "rl.staleness" in keys(*STALE, *colocated)
    assert "rl.staleness" not in keys("launch.device=cpu", *colocated)


CHAT = "rewards.judge={kind: chat, endpoint: {base_url: 'http://judge/v1', model: m, price_per_million_in: %s}}"


@pytest.mark.parametrize(
    ("judge", "budget", "faults"),
    [
        (CHAT % 2.5, "{tokens_per_run: 9, cost_per_step: 1.5}", set()),
        (CHAT % 0, "{tokens_per_run: 9, cost_per_step: 1.5}", {"rewards.budget.cost_per_step"}),
        ("rewards.judge={kind: python, target: a:b}", "{tokens_per_step: 9}", {"rewards.budget.tokens_per_step"}),
        ("rewards.judge.max_model_len=1024", "{tokens_per_step: 9}", set()),
    ],
)
def test_a_budget_that_nothing_is_counted_against_is_refused(judge: str, budget: str, faults: set[str]) -> None:
    overrides = [judge, f"rewards.budget={budget}"]
    if faults:
        assert keys(*overrides) == faults
    else:
        load_recipe(FULL, overrides)
