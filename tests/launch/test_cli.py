"""The command line: exit codes, streams, and no traceback for anything a user can do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from launch.cli import app
from recipes.load import dump_resolved, load_recipe
from rewards.aggregator_config import AggregatorConfig
from rewards.attacks import ATTACKS
from rewards.simulation_grid import JUDGES
from rewards.strict import config_kinds
from rewards.topology_config import TopologyConfig
from tests.launch.fakes import PYTHON_JUDGE, write_recipe_folder
from tests.recipes.mutate import mutated

ROOT = Path(__file__).resolve().parents[2]

MUTANTS = 20


@pytest.fixture(autouse=True)
def recipe_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(tmp_path)]))
    write_recipe_folder(tmp_path)
    return tmp_path


def podium(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "launch.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def refused(*arguments: str) -> str:
    done = podium(*arguments)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


def test_version_and_help() -> None:
    version = podium("--version")
    assert (version.returncode, version.stdout.count(".")) == (0, 2)
    shown = podium("--help")
    assert shown.returncode == 0
    for command in (
        *("check", "doctor", "train", "sft", "eval", "export", "pairs", "rank", "simulate", "report", "schema"),
        *("serve", "score", "rejudge", "judge-audit"),
    ):
        assert command in shown.stdout


@pytest.mark.parametrize(
    ("command", "choices"),
    [
        ("judge-audit", [ATTACKS]),
        ("simulate", [JUDGES, config_kinds(TopologyConfig), config_kinds(AggregatorConfig)]),
        ("rank", [config_kinds(AggregatorConfig)]),
    ],
)
def test_help_names_the_choices(command: str, choices: list[Iterable[str]]) -> None:
    shown = " ".join(CliRunner().invoke(app, [command, "--help"]).stdout.split())
    for names in choices:
        assert f"{', '.join(names)}." in shown


def test_help_shows_an_argument_that_may_be_left_out_in_one_pair_of_brackets() -> None:
    for command in ("train", "sft"):
        shown = CliRunner().invoke(app, [command, "--help"]).stdout
        assert f"{command} [OPTIONS] [RECIPE]\n" in shown


def test_help_imports_nothing_heavy() -> None:
    program = """
import sys
from typer.testing import CliRunner
from launch.cli import app
assert CliRunner().invoke(app, ["--help"]).exit_code == 0
print(sorted({"torch", "ray", "vllm", "deepspeed", "transformers", "numpy", "pydantic", "yaml"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["check"],
        ["check", "full.yaml", "--sett", "a=b"],
        ["train"],
        ["train", "full.yaml", "--resume", "."],
        ["train", "--resume", "no/such/run"],
        ["export", "no/such/run", "out"],
        ["export", "no/such/run", "out", "--step", "3"],
        ["export", "no/such/run", "out", "--step", "x"],
        ["report", "no/such/run"],
        ["check", "no/such/recipe.yaml"],
        ["check", "."],
        ["check", "full.yaml", "--set", "rl.num_steps=0"],
        ["train", "full.yaml", "--set", "model.path=./missing"],
        ["check", "full.yaml", "--set", "task.heldout=195"],
        ["sft"],
        ["sft", "full.yaml", "--set", "sft=null"],
        ["sft", "full.yaml", "--set", "sft.data=gone.jsonl"],
        ["judge-audit", "gone.jsonl", "--reward", "full.yaml"],
        ["judge-audit", "answers.jsonl", "--reward", "full.yaml", "-o", "no/such/folder.json"],
    ],
)
def test_bad_input_ends_with_two_and_says_why(arguments: list[str]) -> None:
    assert refused(*arguments).strip()


def test_faults_of_a_recipe_come_one_a_line() -> None:
    lines = refused("check", "full.yaml", "--set", "rl.num_steps=0", "--set", "rl.lr=3").splitlines()
    assert lines == [
        "--set rl.num_steps=0: rl.num_steps = 0: must be at least 1",
        "--set rl.lr=3: rl.lr = 3: unknown key; did you mean 'rl.optimizer.lr'?",
    ]


def test_check_prints_the_plan_as_text_json_and_yaml(recipe_folder: Path) -> None:
    text = podium("check", "full.yaml", "--set", PYTHON_JUDGE)
    assert (text.returncode, text.stderr) == (0, "")
    assert "6 prompts x 8 = 48 rollouts" in text.stdout
    plan = json.loads(podium("check", "full.yaml", "--json").stdout)
    assert plan["batch"]["num_rollouts"] == 48
    (recipe_folder / "resolved.yaml").write_text(podium("check", "full.yaml", "--resolved").stdout, encoding="utf-8")
    assert load_recipe("resolved.yaml").recipe == load_recipe("full.yaml").recipe
    both = json.loads(podium("check", "full.yaml", "--json", "--resolved").stdout)
    assert both["recipe"] == dump_resolved(load_recipe("full.yaml").recipe)
    assert both["plan"]["name"] == "full-1"


def test_doctor_tells_scripts_what_it_tells_people() -> None:
    done = podium("doctor", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == (0 if report["can_train"] else 1)
    assert {finding["level"] for finding in report["findings"]} <= {"ok", "warn", "fault"}
    assert "Python" in podium("doctor").stdout


def test_schema_prints_the_file(recipe_folder: Path) -> None:
    import recipes

    assert podium("schema").stdout == Path(recipes.__file__).with_name("podium.schema.json").read_text(encoding="utf-8")


def test_a_reader_that_leaves_is_no_crash() -> None:
    command = f"{sys.executable} -m launch.cli schema | head -c 10"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False, timeout=60)
    assert "Traceback" not in done.stderr


def run_main(body: str) -> subprocess.CompletedProcess[str]:
    """`podium train` with `train` of the composition root replaced by `body`, and its report by a line."""
    program = f"""
import sys, types
compose = types.ModuleType("launch.compose")
def train(loaded, *, resume, chaos):
    {body}
compose.train = train
report = types.ModuleType("launch.report")
report.report_text = "the report of {{}}".format
sys.modules.update({{"launch.compose": compose, "launch.report": report}})
sys.argv = ["podium", "train", "full.yaml"]
from launch.cli import main
main()
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("return 'runs/x'", 0, ""),
        ("from rewards.errors import RunStopped; raise RunStopped('the gap is too wide; look at x')", 1,
         "the gap is too wide; look at x\n"),
        ("from rewards.errors import UserError; raise UserError('no such thing; take another')", 2,
         "no such thing; take another\n"),
        ("import asyncio; raise asyncio.CancelledError", 128 + signal.SIGTERM,
         "ended by a signal; go on with podium train --resume RUN\n"),
        ("raise KeyboardInterrupt", 128 + signal.SIGINT, ""),
    ],
)  # fmt: skip
def test_every_end_of_a_run_has_its_exit_code(body: str, code: int, message: str) -> None:
    done = run_main(body)
    assert (done.returncode, done.stderr) == (code, message)
    assert done.stdout == ("the report of runs/x\n" if code == 0 else "")


def test_a_bug_keeps_its_traceback() -> None:
    done = run_main("return {}['missing']")
    assert done.returncode == 1
    assert "Traceback (most recent call last)" in done.stderr
    assert "KeyError: 'missing'" in done.stderr


@pytest.mark.slow
def test_damaged_recipes_end_with_zero_or_two(recipe_folder: Path) -> None:
    text = Path("full.yaml").read_text(encoding="utf-8")
    codes = set()
    for seed in range(1000, 1000 + MUTANTS):
        Path("mutant.yaml").write_text(mutated(text, seed), encoding="utf-8")
        done = podium("check", "mutant.yaml")
        codes.add(done.returncode)
        assert done.returncode in (0, 2), (seed, done.stderr)
        assert "Traceback" not in done.stderr, seed
        assert (done.stdout == "") == (done.returncode == 2), seed
        assert done.returncode == 0 or all(
            "mutant.yaml" in line or "full.yaml" in line for line in done.stderr.splitlines()
        )
    assert 2 in codes
