from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from rewards.errors import UserError

FAST = ["--groups", "4", "--batches", "1", "--judge", "bradley_terry", "--topology", "round_robin"]


def simulate(*arguments: str):
    return CliRunner().invoke(app, ["simulate", *arguments])


def test_json_has_a_row_per_way_and_the_scenes() -> None:
    done = simulate(*FAST, "--topology", "swiss", "--aggregator", "win_rate", "--equal-share", "0,0.5", "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [scene["equal_share"] for scene in found["scenes"]] == [0.0, 0.5]
    assert {(row["topology"], row["aggregator"], row["equal_share"]) for row in found["rows"]} == {
        (topology, "win_rate", share) for topology in ("round_robin", "swiss") for share in (0.0, 0.5)
    }


def test_the_table_puts_the_most_faithful_first() -> None:
    done = simulate(*FAST, "--topology", "random_reference", "--aggregator", "empirical_bayes", "--groups", "24")
    assert done.exit_code == 0, done.output
    assert done.stdout.index("round_robin") < done.stdout.index("random_reference")


def test_the_plot_is_one_file_with_everything_in_it(tmp_path: Path) -> None:
    path = tmp_path / "plot.html"
    assert simulate(*FAST, "--aggregator", "win_rate", "--plot", str(path)).exit_code == 0
    text = path.read_text()
    assert "round_robin" in text
    assert len(text) > 1_000_000  # plotly's own code is inside


def test_where_the_plot_goes_is_looked_at_before_anything_is_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("launch.simulate.simulate", lambda *_: pytest.fail("has played"))
    done = simulate("--plot", str(tmp_path / "no" / "plot.html"))
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith(f"--plot {tmp_path}/no/plot.html: there is no folder {tmp_path}/no")


def test_a_recipe_brings_its_own_way_and_group_size() -> None:
    recipe = str(Path(__file__).parents[2] / "recipes" / "quickstart.yaml")
    done = simulate("--groups", "4", "--batches", "1", "--judge", "bradley_terry", "--recipe", recipe, "--json")
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)["rows"]
    assert (row["topology"], row["aggregator"], row["group_size"], row["calls_per_group"]) == (
        "recipe",
        "recipe",
        8,
        28,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "swis"], "did you mean 'swiss'"),
        (["--aggregator", "elo2"], "unknown --aggregator"),
        (["--judge", "cyclc"], "did you mean 'cyclic'"),
        (["--orders", "all"], "unknown --orders"),
        (["--group-size", "8,x"], "--group-size 8,x: 'x' is no int"),
        (["--group-size", "1"], "1 is not between 2 and 256"),
        (["--equal-share", "1.5"], "1.5 is not between 0 and 1"),
        (["--set", "seed=1"], "--set changes a recipe's keys; name one with --recipe"),
        (
            ["--recipe", "any.yaml", "--group-size", "32"],
            "--group-size: the recipe says it; use --set rollouts.group_size=N",
        ),
    ],
)
def test_bad_options_are_one_clear_line_and_exit_2(arguments: list[str], message: str) -> None:
    done = simulate(*arguments)
    assert isinstance(done.exception, UserError)
    assert message in str(done.exception)
    assert "\n" not in str(done.exception)


def test_bad_options_exit_with_2() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "launch.cli", "simulate", "--judge", "nobody"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (2, "")
