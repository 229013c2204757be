"""Cross-field checks of the `rewards` section, and of what it reads of the others: as `recipes/checks.py`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from recipes.bounds import calibration_calls, calls_in, calls_per_match, judge_calls, judged_rewards
from rewards.config import ScorerRewards, TournamentRewards
from rewards.gate_config import FormatGate, LengthGate, gate_fields, gate_name
from rewards.judge_config import (
    EmbeddingJudge,
    JudgeConfig,
    LikelihoodJudge,
    PanelJudge,
    ProgramJudge,
    PythonJudge,
    RewardModelJudge,
    RubricJudge,
    SingleJudge,
    VerdictTokensJudge,
    can_rank,
    single_judges,
)
from rewards.program_config import reference_field
from rewards.scorer_config import ItemRankScorer
from rewards.topologies.least import least_matches
from rewards.topology_config import KWise, prior_key
from rewards.voting_config import VotingJudge
from rollouts.config import FreeformTask, PackageLinesSource, SlateRankTask, answer_parts

if TYPE_CHECKING:
    from recipes.schema import Recipe

KeyPath = tuple[str | int, ...]
Fault = tuple[KeyPath, str]

_PLACEHOLDER = re.compile(r"\{\{[A-Za-z_]\w*\}\}|\{([A-Za-z_]\w*)\}")
"""As `rewards/template.py` reads them: `{{name}}` is the text `{name}` and names no field."""


def judging(recipe: Recipe) -> Iterator[Fault]:
    audit = recipe.evaluation.audit_judge
    if audit is not None:
        yield from _twins(audit, ("evaluation", "audit_judge"))
        for path, judge in _members(audit, ("evaluation", "audit_judge")):
            yield from _judge_faults(recipe, judge, path)
    for index, gate in enumerate(recipe.rewards.gates):
        if isinstance(gate, LengthGate) and gate.min_words > gate.max_words:
            rule = f"is more than max_words {gate.max_words}; no answer could pass"
            yield ("rewards", "gates", index, "min_words"), rule
        if gate_name(gate) in {gate_name(other) for other in recipe.rewards.gates[:index]}:
            rule = f"a gate before it is called '{gate_name(gate)}' too; give this one a name of its own"
            yield ("rewards", "gates", index, "name"), rule
    rewards = recipe.rewards
    if not isinstance(rewards, TournamentRewards):
        return
    yield from _twins(rewards.judge, ("rewards", "judge"))
    for path, judge in _members(rewards.judge, ("rewards", "judge")):
        yield from _judge_faults(recipe, judge, path)
        yield from _ranking_faults(recipe, rewards, judge, path)
    least = _least_verdicts(rewards, recipe.rollouts.group_size)
    if rewards.min_verdicts > least:
        rule = f"an early loser of this topology gets only {least}, and would never be scored; lower it"
        yield ("rewards", "min_verdicts"), rule
    for number, alarm in enumerate(rewards.alarms):
        if alarm.needs_audit and not recipe.evaluation.audit_share:
            key = "min_audit_agreement" if alarm.min_audit_agreement is not None else "min_audit_kappa"
            rule = "nobody looks over training's pairs; set evaluation.audit_share and audit_judge"
            yield ("rewards", "alarms", number, key), rule
    calls = judge_calls(recipe)
    bound = calls.per_step + calls.audit_per_step
    if rewards.max_calls_per_step is not None and bound > rewards.max_calls_per_step:
        rule = f"this recipe makes up to {bound} calls per step; raise it, or use a cheaper topology or smaller groups"
        yield ("rewards", "max_calls_per_step"), rule


def parts(recipe: Recipe) -> Iterator[Fault]:
    """Parts of the answer that gates name and the task never finds."""
    known = answer_parts(recipe.task)
    if known is None:
        return
    has = f"has only the part {known[0]!r}" if known else "has no parts"
    for index, gate in enumerate(recipe.rewards.gates):
        named = [] if gate.part is None else [(("part",), gate.part)]
        if isinstance(gate, FormatGate):
            named += [(("parts", number), part) for number, part in enumerate(gate.parts)]
        for key, part in named:
            if part not in known:
                rule = f"no answer has it: one of task.kind {recipe.task.kind} {has}; leave this out"
                yield ("rewards", "gates", index, *key), rule


def prior(recipe: Recipe) -> Iterator[Fault]:
    rewards = recipe.rewards
    if isinstance(rewards, TournamentRewards) and rewards.prior_scorer is None:
        key = prior_key(rewards.topology)
        if key is not None:
            rule = (
                f"{getattr(rewards.topology, key)!r} goes by prior scores: name a function (prompt, candidate) -> "
                "float in rewards.prior_scorer, or choose another"
            )
            yield ("rewards", "topology", key), rule


def budgets(recipe: Recipe) -> Iterator[Fault]:
    """A budget of something that no judge of the recipe ever reports would hold nothing back."""
    rewards = judged_rewards(recipe)
    if not isinstance(rewards, TournamentRewards):
        return
    known, limit = recipe.rollouts.prompts_per_step * calibration_calls(rewards), rewards.budget.calls_per_step
    if limit is not None and known and limit - known < recipe.rollouts.prompts_per_step * calls_per_match(rewards):
        rule = f"up to {known} of {limit} calls a step go to known pairs, which leaves no match for a group; raise it"
        yield ("rewards", "budget", "calls_per_step"), rule
    judges = single_judges(rewards.judge)
    counts_tokens = any(isinstance(judge, VotingJudge | VerdictTokensJudge) for judge in judges)
    has_price = any(isinstance(judge, VotingJudge) and judge.endpoint.has_price for judge in judges)
    for unit, holds, rule in (
        ("tokens", counts_tokens, "none of the judges counts tokens; bound the calls instead"),
        (
            "cost",
            has_price,
            "none of the judges has a price; give endpoint.price_per_million_in and _out of a chat or rubric judge",
        ),
    ):
        for key in (f"{unit}_per_step", f"{unit}_per_run"):
            if getattr(rewards.budget, key) is not None and not holds:
                yield ("rewards", "budget", key), rule


def _twins(judge: JudgeConfig, path: KeyPath) -> Iterator[Fault]:
    names = judge.names if isinstance(judge, PanelJudge) else ()
    for number, name in enumerate(names):
        if name in names[:number]:
            rule = f"a member before it is called '{name}' too; give this one a name of its own"
            yield (*path, "members", number, "name"), rule


def _members(judge: JudgeConfig, path: KeyPath) -> Iterator[tuple[KeyPath, SingleJudge]]:
    """The judge, or the members of a panel, with the key of each."""
    if not isinstance(judge, PanelJudge):
        yield path, judge
        return
    for number, member in enumerate(judge.members):
        yield (*path, "members", number, "judge"), member.judge


def _judge_faults(recipe: Recipe, judge: SingleJudge, path: KeyPath) -> Iterator[Fault]:
    if isinstance(judge, RewardModelJudge):
        longest = recipe.rollouts.max_prompt_tokens + recipe.rollouts.max_tokens
        if judge.max_tokens < longest:
            yield (*path, "max_tokens"), f"the judge reads prompt and answer, up to {longest} tokens; raise it"
    if not isinstance(judge, VerdictTokensJudge):
        return
    first, second = judge.choices
    if first == second or not first.strip() or not second.strip():
        yield (*path, "choices"), "the two verdicts must be different and not empty"
    rollouts = recipe.rollouts
    needed = rollouts.max_prompt_tokens + 2 * rollouts.max_tokens
    if judge.max_model_len < needed:
        rule = (
            f"the judge reads prompt and two answers, up to {rollouts.max_prompt_tokens} + 2 x {rollouts.max_tokens} = "
            f"{needed} tokens; raise it, or lower rollouts.max_prompt_tokens or max_tokens"
        )
        yield (*path, "max_model_len"), rule


def _ranking_faults(recipe: Recipe, rewards: TournamentRewards, judge: SingleJudge, path: KeyPath) -> Iterator[Fault]:
    """A topology of slates needs a judge that ranks, and one that can name and read as many answers at once."""
    topology, rollouts = rewards.topology, recipe.rollouts
    if not isinstance(topology, KWise):
        return
    if not can_rank(judge):
        cure = "choose another of the two"
        if isinstance(judge, PythonJudge):
            method = "rank(prompt, candidates)"
            cure = f"give its class a method {method} and set rewards.judge.ranks to true, or {cure}"
        if isinstance(judge, RubricJudge):
            cure = f"evidence, vetoes and the fixed denominator of a rubric are about a pair; {cure}"
        rule = f"ranks several answers in one call, and rewards.judge of kind {judge.kind} only compares two: {cure}"
        yield ("rewards", "topology", "kind"), rule
    if not isinstance(judge, VerdictTokensJudge):
        return
    shown = min(topology.k, rollouts.group_size)
    labels = [label.strip() for label in judge.labels]
    if not all(labels) or len(set(labels)) < len(labels):
        yield (*path, "labels"), "the labels must be different and not empty"
    if len(labels) < shown:
        rule = f"rewards.topology ranks {shown} answers in one call and needs a label for each; give more, or lower k"
        yield (*path, "labels"), rule
    needed = rollouts.max_prompt_tokens + shown * rollouts.max_tokens
    if judge.max_model_len < needed:
        rule = (
            f"rewards.topology.k lets the judge read prompt and {shown} answers, up to {rollouts.max_prompt_tokens} + "
            f"{shown} x {rollouts.max_tokens} = {needed} tokens; raise it, or lower k or rollouts.max_tokens"
        )
        yield (*path, "max_model_len"), rule


def _least_verdicts(rewards: TournamentRewards, group_size: int) -> int:
    """Verdicts that a rollout gets at least, if no call fails."""
    return least_matches(rewards.topology, group_size) * calls_in(rewards.orders == "both", rewards.judge)


def fields(recipe: Recipe) -> Iterator[Fault]:
    """Keys that name a field of the prompt, where the source says which fields there are."""
    task = recipe.task
    if isinstance(task, FreeformTask) and isinstance(task.source, PackageLinesSource):
        for path, name in named_fields(recipe):
            if name != "text":
                yield path, f"a package_lines prompt has only the field 'text', not '{name[:60]}'"


def named_fields(recipe: Recipe) -> Iterator[tuple[KeyPath, str]]:
    """Every prompt field that the recipe names, with the key that names it."""
    if isinstance(recipe.task, FreeformTask):
        for name in _PLACEHOLDER.findall(recipe.task.template):
            if name:
                yield ("task", "template"), name
    for index, gate in enumerate(recipe.rewards.gates):
        for key, name in gate_fields(gate):
            yield ("rewards", "gates", index, *key), name
    judges: list[tuple[KeyPath, SingleJudge]] = []
    if recipe.evaluation.audit_judge is not None:
        judges += _members(recipe.evaluation.audit_judge, ("evaluation", "audit_judge"))
    if isinstance(recipe.rewards, TournamentRewards):
        judges += _members(recipe.rewards.judge, ("rewards", "judge"))
    for path, judge in judges:
        if isinstance(judge, EmbeddingJudge | LikelihoodJudge) and judge.reference_field is not None:
            yield (*path, "reference_field"), judge.reference_field
        if isinstance(judge, ProgramJudge) and (field := reference_field(judge.by)) is not None:
            yield (*path, "by", "reference_field"), field


def scoring(recipe: Recipe) -> Iterator[Fault]:
    """A built-in scorer reads what one kind of task finds in an answer, and names that task's segments.

    Its rewards are no success rates: slate_rank's lie in [-format_penalty, 1 + rank_weight].
    """
    task, rewards = recipe.task, recipe.rewards
    if not isinstance(rewards, ScorerRewards) or rewards.scorer is None:
        return
    scorer, objective = rewards.scorer, recipe.rl.objective
    if objective.focal_gamma or (objective.kind == "focal" and objective.focal_gamma is None):
        rule = (
            f"the focal scale needs rewards in [0, 1], and those of rewards.scorer {scorer.kind} are sums that leave it"
        )
        cure = "give rewards.target a scorer of your own, or use another kind without focal_gamma"
        yield ("rl", "objective", "focal_gamma" if objective.focal_gamma else "kind"), f"{rule}; {cure}"
    if isinstance(task, FreeformTask):
        yield ("rewards", "scorer", "kind"), f"{scorer.kind} scores a slate and its ranking: needs task.kind slate_rank"
    if not isinstance(task, SlateRankTask):
        return
    wanted = "items" if isinstance(scorer, ItemRankScorer) else "phases"
    if task.segments != wanted:
        rule = f"rewards.scorer {scorer.kind} has a reward for each of the segments that `{wanted}` makes; use that"
        yield ("task", "segments"), rule
