from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from launch.report import report_text, summary_text, write_report
from launch.report.svg import HEIGHT, TOP, line_chart
from launch.run_dir import RunDir
from rewards.errors import UserError

SUMMARY: dict[str, Any] = {
    "steps": 4,
    "heldout": {"win_rate": 0.7891, "ci95": [0.731, 0.852], "num_prompts": 64, "opponent": "starting model"},
    "audit": {"win_rate": 0.7, "ci95": [0.62, 0.78], "num_prompts": 64, "agreement": {"share": 0.8125, "kappa": 0.4}},
    "judge_health": {
        "judge/audit_agreement": {"value": 0.75, "low": 0.5, "high": 0.9, "num_steps": 4},
        "judge/tie_rate": {"value": 0.125, "low": 0.1, "high": 0.2, "num_steps": 3},
    },
    "judge_alarms": ["judge/tie_rate 0.125 is over max_tie_rate = 0.1"],
    "mean_length": {"before": 31.25, "after": 18.5},
    "judge_calls": 12345,
    "seconds_by_phase": {"sample": 40.2, "learn": 100.4},
    "final_checkpoint": "checkpoints/step_4",
}
HOSTILE = "</p><script>alert(1)</script><img src=x onerror=alert(2)>\" ' & <!--"


def row(step: int) -> dict[str, float]:
    metrics = {
        "reward/reliability": 0.5 + 0.01 * step,
        "sync/logprob_gap": 0.03,
        "rollout/mean_tokens": 30.0 - step,
        "judge/num_calls": 56.0,
        "judge/order_flip_rate": 0.1,
        "judge/tie_rate": 0.0,
        "time/sample_s": 4.0,
        "time/learn_s": 10.0,
        "time/step_s": 15.0,
        "rl/grad_norm": float("nan") if step == 2 else 1.0,
    }
    if step % 2 == 0:
        metrics |= {"heldout/win_rate": 0.6, "heldout/ci95_low": 0.5, "heldout/ci95_high": 0.7}
    return metrics


def games(count: int, text: str = "An answer.") -> list[dict[str, Any]]:
    outcomes = [1.0, 0.0, 0.5, None]
    return [
        {
            "prompt": f"prompt {i} {text}",
            "before": f"old {i} {text}",
            "after": f"new {i} {text}",
            "outcome": outcomes[i % 4],
        }
        for i in range(count)
    ]


def test_judge_health_over_the_run_is_on_the_page_and_its_core_in_the_text(run: RunDir) -> None:
    run.save_summary(SUMMARY)
    assert "training: the second judge says the same      0.750 [0.500, 0.900]" in summary_text(SUMMARY)
    assert "judge alarm over the run                      judge/tie_rate 0.125 is over" in summary_text(SUMMARY)
    page = write_report(run.path).read_text(encoding="utf-8")
    assert "<th>judge/tie_rate</th><td>0.125 [0.100, 0.200]</td><td>3</td>" in page
    run.append_metrics(1, {"judge/audit_agreement": 0.5, "judge/calibration_accuracy": 1.0})
    assert "the second judge agrees" in write_report(run.path).read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.create(tmp_path, "demo", {"name": HOSTILE}, seed=7, command=["podium", "train", HOSTILE])


class Page(HTMLParser):
    """Checks that tags are balanced and gathers what a browser would run or fetch."""

    VOID = frozenset({"meta", "circle", "path", "polyline", "polygon"})

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def read_page(run: RunDir) -> tuple[str, Page]:
    path = write_report(run.path)
    assert path == run.path / "report.html"
    html = path.read_text(encoding="utf-8")
    return html, Page(html)


def test_a_finished_run_shows_everything(run: RunDir) -> None:
    for step in range(1, 5):
        run.append_metrics(step, row(step))
    run.save_evaluation(2, games(1))
    run.save_evaluation(4, games(10))
    run.save_summary(SUMMARY)
    html, page = read_page(run)
    for text in (
        "0.789 [0.731, 0.852] on 64 prompts",
        "0.700 [0.620, 0.780] on 64 prompts; agrees with the first on 81% of the pairs",
        "31.2 before, 18.5 after",
        "12,345",
        "Held-out answers, step 4",
        "after won 3, level 2, before won 3, no verdict 2",
        "2 more",
        "old 9 An answer.",
    ):
        assert text in page.text
    assert "Not finished" not in page.text
    assert html.count("<svg") == 7
    assert html.count("<article>") == 10


def test_the_page_needs_no_network_and_runs_no_script(run: RunDir) -> None:
    run.append_metrics(2, row(2))
    run.save_evaluation(2, games(3, HOSTILE))
    html, page = read_page(run)
    assert not page.tags & {"script", "img", "link", "iframe", "object"}
    assert not {name for name in page.attributes if name.startswith("on") or name in ("src", "href")}
    assert not re.search(r"https?:|url\(|@import", html)
    assert f"old 0 {HOSTILE}" in page.text


def test_a_run_that_just_began_and_one_in_the_middle_have_a_page(run: RunDir) -> None:
    _, page = read_page(run)
    assert "Not finished" in page.text
    run.append_metrics(1, row(1))
    run.append_metrics(2, row(2))
    _, page = read_page(run)
    assert "0.600 [0.500, 0.700]" in page.text
    assert "112" in page.text
    assert "not finished" in report_text(run.path)


def test_no_run_is_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is not a run directory"):
        write_report(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_text_at_the_end(run: RunDir) -> None:
    run.save_summary(SUMMARY)
    run.save_evaluation(4, games(5))
    text = report_text(run.path)
    assert text.startswith(run.path.name + "\n")
    assert "held-out win rate against the starting model  0.789 [0.731, 0.852] on 64 prompts" in text
    assert "seconds                                       141 in all: sample 40, learn 100" in text
    assert "held-out prompt 1: after won\n  prompt  prompt 0 An answer.\n  before  old 0 An answer." in text
    assert text.count("held-out prompt ") == 3


def test_a_warm_start_tells_its_losses(tmp_path: Path) -> None:
    loss = {"before": 3.25, "after": 0.5, "perplexity": {"before": 25.79, "after": 1.649}, "num_tokens": 70}
    text = summary_text({"kind": "sft", "steps": 2, "heldout_loss": loss, "final_checkpoint": "checkpoints/step_2"})
    assert "held-out loss, nats a token  3.2500 before, 0.5000 after" in text
    assert re.search(r"held-out perplexity +25\.79 before, 1\.65 after", text)
    assert "judge calls" not in text
    run = RunDir.create(tmp_path, "warm-sft", {}, seed=0)
    for step in (1, 2):
        run.append_metrics(step, {"sft/loss": 3.0 / step, "sft/heldout_loss": 2.0 / step, "time/step_s": 1.0})
    assert "Loss, nats an answer token" in write_report(run.path).read_text(encoding="utf-8")


def test_long_and_empty_answers_stay_readable() -> None:
    game = {"prompt": "word " * 400, "before": " \n", "after": "x\ny", "outcome": None}
    text = summary_text({"steps": 1, "judge_calls": 0}, [game])
    assert max(map(len, text.splitlines())) <= 100
    assert "  before  (empty)\n  after   x y\n" in text
    assert "no verdict" in text


def points(svg: str, tag: str) -> list[tuple[float, float]]:
    found = re.search(rf'<{tag} class="[^"]*" points="([^"]*)"', svg)
    assert found is not None
    return [(float(x), float(y)) for x, y in (pair.split(",") for pair in found[1].split())]


def test_a_chart_puts_low_below_high_and_first_before_last() -> None:
    svg = line_chart({"a": [(1, 0.0), (2, 1.0), (3, 0.5)]}, limits=(0.0, 1.0))
    (x1, y1), (x2, y2), (x3, y3) = points(svg, "polyline")
    assert x1 < x2 < x3
    assert y2 == TOP
    assert y1 > y3 > y2
    assert y1 < HEIGHT
    assert x2 - x1 == pytest.approx(x3 - x2, abs=0.2)


def test_a_chart_of_one_point_and_a_flat_line_can_be_drawn() -> None:
    ((x, y),) = points(line_chart({"a": [(5, 0.0)]}, band=[(5, -1.0, 1.0)]), "polyline")
    assert x > 0
    assert 0 < y < HEIGHT
    flat = points(line_chart({"a": [(1, 7.0), (2, 7.0)]}), "polyline")
    assert flat[0][1] == flat[1][1]
    with pytest.raises(ValueError, match="at least one point"):
        line_chart({"a": []})
