"""The report as text: what a run prints when it is done."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launch.report.findings import read_findings

NUM_EXAMPLES = 3
WIDTH = 100

HEALTH = {
    "judge/order_flip_rate": "training: matches that the order decided",
    "judge/audit_agreement": "training: the second judge says the same",
    "judge/calibration_accuracy": "training: known answers right",
    "reward/length_correlation": "training: correlation of reward and length",
}
"""Figures of judge_health that the text shows; the page has them all."""


def report_text(run: Path) -> str:
    """Summary and the first three held-out prompts with both answers.

    Raises:
        UserError: no run at `run`, or a damaged file in it.
    """
    findings = read_findings(run)
    head = findings.name if findings.finished else f"{findings.name} (not finished)"
    return "\n".join([head, "", summary_text(findings.summary, findings.games)])


def summary_text(summary: Mapping[str, Any], games: Sequence[Mapping[str, Any]] = ()) -> str:
    """Lines of `label  value` for what `summary.json` has, then the first three of `games` (rows of an evaluation)."""
    facts = summary_facts(summary)
    width = max(len(label) for label, _ in facts)
    lines = [f"{label:<{width}}  {value}" for label, value in facts]
    for number, game in enumerate(games[:NUM_EXAMPLES], start=1):
        lines += [
            "",
            f"held-out prompt {number}: {outcome_text(game['outcome'])}",
            _indented("prompt", game["prompt"]),
            _indented("before", game["before"]),
            _indented("after", game["after"]),
        ]
    return "\n".join(lines) + "\n"


def summary_facts(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and value of everything in a summary, in reading order; what is absent is left out."""
    facts = [("steps", str(summary["steps"]))]
    if heldout := summary.get("heldout"):
        facts.append((f"held-out win rate against the {heldout.get('opponent', 'starting model')}", rate_text(heldout)))
        if judged := heldout.get("judged"):
            facts.append(("of these, pairs that no gate decided", rate_text(judged)))
    if audit := summary.get("audit"):
        agreement = audit.get("agreement") or {}
        share = agreement.get("share")
        agrees = f"; agrees with the first on {share:.0%} of the pairs" if share is not None else ""
        facts.append(("same answers, second judge", rate_text(audit) + agrees))
        if judged := audit.get("judged"):
            facts.append(("second judge, the pairs that no gate decided", rate_text(judged)))
    health = summary.get("judge_health") or {}
    facts += [(label, figure_text(health[name])) for name, label in HEALTH.items() if name in health]
    facts += [("judge alarm over the run", phrase) for phrase in summary.get("judge_alarms", ())]
    if length := summary.get("mean_length"):
        facts.append(("mean answer tokens", f"{length['before']:.1f} before, {length['after']:.1f} after"))
    if loss := summary.get("heldout_loss"):
        perplexity = loss["perplexity"]
        change = f"{loss['before']:.4f} before, {loss['after']:.4f} after"
        facts.append(("held-out loss, nats a token", change))
        facts.append(("held-out perplexity", f"{perplexity['before']:.2f} before, {perplexity['after']:.2f} after"))
    if "judge_calls" in summary:
        facts.append(("judge calls", f"{summary['judge_calls']:,.0f}"))
    if seconds := summary.get("seconds_by_phase"):
        by_phase = ", ".join(f"{phase} {value:.0f}" for phase, value in seconds.items())
        facts.append(("seconds", f"{sum(seconds.values()):.0f} in all: {by_phase}"))
    if summary.get("final_checkpoint"):
        facts.append(("final checkpoint", str(summary["final_checkpoint"])))
    return facts


def rate_text(played: Mapping[str, Any]) -> str:
    """`0.79 [0.73, 0.85] on 64 prompts`; the bracket is the 95 % interval."""
    low, high = played["ci95"]
    prompts = f" on {played['num_prompts']} prompts" if "num_prompts" in played else ""
    return f"{played['win_rate']:.3f} [{low:.3f}, {high:.3f}]{prompts}"


def figure_text(figure: Mapping[str, float]) -> str:
    """`0.79 [0.73, 0.85]`; the bracket is the 95 % interval."""
    return f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def outcome_text(outcome: float | None) -> str:
    """Who won a held-out game."""
    if outcome is None:
        return "no verdict"
    return "after won" if outcome > 0.5 else "before won" if outcome < 0.5 else "level"


def _indented(label: str, text: str) -> str:
    one_line = textwrap.shorten(" ".join(text.split()), width=4 * WIDTH, placeholder=" ...") or "(empty)"
    return textwrap.fill(one_line, width=WIDTH, initial_indent=f"  {label:<8}", subsequent_indent=" " * 10)
