"""report.html: one file that needs nothing else. All text of a run passes through `escape`: answers may hold markup."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from launch import atomic
from launch.report.findings import Findings, read_findings
from launch.report.svg import line_chart
from launch.report.text import figure_text, outcome_text, summary_facts

STYLE = Path(__file__).with_name("style.css")

CURVES: tuple[tuple[str, Mapping[str, str], tuple[float, float] | None], ...] = (
    ("Reliability of the rewards", {"reward/reliability": "mean"}, (0.0, 1.0)),
    ("Answer tokens", {"rollout/mean_tokens": "training", "heldout/mean_tokens": "held-out"}, None),
    ("Learner against engine, mean |logprob gap|", {"sync/logprob_gap": "mean"}, None),
    (
        "Judge health",
        {
            "judge/order_flip_rate": "order flips",
            "judge/tie_rate": "ties",
            "judge/failure_rate": "failures",
            "judge/circular_triad_rate": "circular triads",
        },
        None,
    ),
    (
        "Is the judge right?",
        {"judge/audit_agreement": "the second judge agrees", "judge/calibration_accuracy": "known answers right"},
        (0.0, 1.0),
    ),
    ("Loss, nats an answer token", {"sft/loss": "training", "sft/heldout_loss": "held-out"}, None),
    ("Gradient norm", {"rl/grad_norm": "norm"}, None),
    ("Seconds a step", {"time/step_s": "all phases"}, None),
)
"""Title, metrics (`rl/events.py`) with their labels, and limits of the charts beside the win rate."""

OUTCOMES = ("after won", "level", "before won", "no verdict")

OPEN_GAMES = 8
"""Games that are unfolded; the others follow under one click."""


def write_report(run: Path) -> Path:
    """Write RUN/report.html from what the run left on disk, finished or not; returns its path.

    Raises:
        UserError: no run at `run`, or a damaged file in it.
        RunStopped: the disk is full.
    """
    path = Path(run).resolve() / "report.html"
    atomic.write_bytes(path, page(read_findings(run)).encode("utf-8"))
    return path


def page(findings: Findings) -> str:
    """The whole page as text."""
    name = escape(findings.name)
    parts = (_summary, _charts, _health, _seconds, _games, _origin)
    sections = [part(findings) for part in parts]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{name}</title><style>{STYLE.read_text(encoding='utf-8')}</style></head>\n"
        f"<body><h1>{name}</h1>\n" + "\n".join(section for section in sections if section) + "\n</body></html>\n"
    )


def _summary(findings: Findings) -> str:
    state = "" if findings.finished else '<p class="state">Not finished: figures of the steps so far.</p>'
    rows = "".join(f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in _facts(findings))
    return f"{state}<table>{rows}</table>"


def _facts(findings: Findings) -> list[tuple[str, str]]:
    return [fact for fact in summary_facts(findings.summary) if fact[0] != "seconds"]


def _charts(findings: Findings) -> str:
    charts = []
    if win_rate := findings.curve("heldout/win_rate"):
        ends = zip(findings.curve("heldout/ci95_low"), findings.curve("heldout/ci95_high"), strict=True)
        band = [(x, low, high) for (x, low), (_, high) in ends]
        chart = line_chart({"win rate": win_rate}, band=band, reference=0.5, limits=(0.0, 1.0))
        charts.append(_figure("Held-out win rate, 95 % interval", chart, ()))
    for title, metrics, limits in CURVES:
        lines = {label: points for metric, label in metrics.items() if (points := findings.curve(metric))}
        if lines:
            charts.append(_figure(title, line_chart(lines, limits=limits), tuple(lines) if len(metrics) > 1 else ()))
    return f'<h2>Over the steps</h2><div class="charts">{"".join(charts)}</div>' if charts else ""


def _figure(title: str, chart: str, labels: Sequence[str]) -> str:
    legend = "".join(f'<span class="key key{number}">{escape(label)}</span>' for number, label in enumerate(labels))
    return f"<figure><figcaption>{escape(title)} {legend}</figcaption>{chart}</figure>"


def _health(findings: Findings) -> str:
    health: Mapping[str, Mapping[str, float]] = findings.summary.get("judge_health") or {}
    rows = "".join(
        f"<tr><th>{escape(name)}</th><td>{escape(figure_text(figure))}</td><td>{figure['num_steps']:.0f}</td></tr>"
        for name, figure in health.items()
    )
    return (
        "<h2>Judge health over the run</h2><p>Means over the steps with their 95 % intervals; what each says is in "
        f"rewards/diagnostics/README.md.</p><table><tr><th></th><td>figure</td><td>steps</td></tr>{rows}</table>"
        if rows
        else ""
    )


def _seconds(findings: Findings) -> str:
    seconds: Mapping[str, float] = findings.summary.get("seconds_by_phase") or {}
    total = sum(seconds.values())
    if not total:
        return ""
    rows = "".join(
        f"<tr><th>{escape(phase)}</th><td>{value:,.0f}</td>"
        f'<td class="bar"><span style="width:{100 * value / total:.1f}%"></span></td></tr>'
        for phase, value in seconds.items()
    )
    return f"<h2>Seconds by phase</h2><table>{rows}<tr><th>all</th><td>{total:,.0f}</td><td></td></tr></table>"


def _games(findings: Findings) -> str:
    if not findings.games:
        return ""
    cards = [_game(game) for game in findings.games]
    rest = cards[OPEN_GAMES:]
    folded = f"<details><summary>{len(rest)} more</summary>{''.join(rest)}</details>" if rest else ""
    count: dict[str, int] = dict.fromkeys(OUTCOMES, 0)
    for game in findings.games:
        count[outcome_text(game["outcome"])] += 1
    tally = ", ".join(f"{word} {number}" for word, number in count.items() if number)
    return (
        f"<h2>Held-out answers, step {findings.games_step}</h2><p>In the order of the prompts: {tally}.</p>"
        f"{''.join(cards[:OPEN_GAMES])}{folded}"
    )


def _game(game: Mapping[str, Any]) -> str:
    outcome = outcome_text(game["outcome"])
    return (
        f'<article><header><span class="outcome {outcome.replace(" ", "-")}">{outcome}</span>'
        f'<p class="prompt">{escape(game["prompt"])}</p></header>'
        f'<div class="answers"><section><h3>before</h3><p>{escape(game["before"])}</p></section>'
        f"<section><h3>after</h3><p>{escape(game['after'])}</p></section></div></article>"
    )


def _origin(findings: Findings) -> str:
    origin = findings.provenance
    git = origin.get("git")
    commit = f"{git['commit']}{' with local changes' if git['dirty'] else ''}" if git else "not a checkout"
    facts = [
        ("recipe", str(findings.recipe.get("name", ""))),
        ("seed", str(origin.get("seed", ""))),
        ("started", str(origin.get("started", ""))),
        ("commit", commit),
        ("command", " ".join(map(str, origin.get("command", [])))),
    ]
    rows = "".join(f"<tr><th>{escape(label)}</th><td>{escape(value)}</td></tr>" for label, value in facts)
    return f"<h2>Origin</h2><table>{rows}</table>"
