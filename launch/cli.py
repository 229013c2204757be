"""The command line, `podium`. Thin: each command reads its arguments and calls one function that does the work.

Exit codes: 0 done, 1 failed or stopped, 2 bad input, 130 interrupted. Work is imported inside the commands, so that
`podium --help` is quick.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from rewards.errors import RunStopped, UserError

app = typer.Typer(
    name="podium",
    help="Train language models from rankings inside a group.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

RecipeFile = Annotated[Path, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="Run directory, e.g. runs/NAME-TIME.")]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY.PATH=VALUE", help="Override a key; may be repeated.")
]
TOPOLOGIES = (
    "round_robin, anchor, random_reference, single_elimination, double_elimination, swiss, repeated_knockout, "
    "sliding_window, heapsort, adaptive, k_wise"
)
AGGREGATORS = (
    "win_rate, rank_quantile, borda, bradley_terry, davidson, plackett_luce, elo, trueskill, soft_condorcet, kemeny, "
    "tour, empirical_bayes"
)
JUDGES = "bradley_terry, noisy, position_biased, cyclic, failing, wrong"
ATTACKS = "padded_length, flattery, injected_instructions, changed_number, flipped_negation, swapped_names"
"""Choices for the help, which imports nothing; a test keeps them complete."""

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(version_of("podium-rl"))
        raise typer.Exit


@app.command()
def check(
    recipe: RecipeFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    resolved: Annotated[bool, typer.Option("--resolved", help="Print the recipe with every key, as YAML.")] = False,
) -> None:
    """Print what RECIPE would do on this machine; starts nothing."""
    from launch.check import check_recipe
    from launch.show_plan import plan_json, plan_text
    from recipes.load import dump_resolved, load_recipe
    from recipes.yaml_text import dump_yaml

    loaded = load_recipe(recipe, overrides or ())
    plan = check_recipe(loaded)
    if as_json:
        _print_json({"plan": plan_json(plan), "recipe": dump_resolved(loaded.recipe)} if resolved else plan_json(plan))
    elif resolved:
        typer.echo(dump_yaml(dump_resolved(loaded.recipe)), nl=False)
    else:
        typer.echo(plan_text(plan))


@app.command()
def doctor(
    as_json: AsJson = False,
    storage: Annotated[str, typer.Option(help="Folder of run directories, as in launch.storage.")] = "runs",
) -> None:
    """Look for what would keep training from starting here, with a cure for each fault."""
    from dataclasses import asdict

    from rich.console import Console

    from launch.doctor import can_train, diagnose, findings_table
    from launch.environment import read_environment

    findings = diagnose(read_environment(storage))
    if as_json:
        _print_json({"can_train": can_train(findings), "findings": [asdict(finding) for finding in findings]})
    else:
        Console().print(findings_table(findings))
    if not can_train(findings):
        raise typer.Exit(1)


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")] = None,
    chaos: Annotated[
        str | None, typer.Option(metavar="FAULTS", help="Inject faults, for instance kill=engine:0.1,judge=error:0.2.")
    ] = None,
    chaos_seed: Annotated[int, typer.Option(min=0, help="Which faults come when.")] = 0,
) -> None:
    """Train RECIPE, or go on with a run: `podium train --resume RUN`."""
    if (recipe is None) == (resume is None):
        raise UserError("podium train: give a recipe, or --resume RUN, one of the two")
    if resume is not None:
        _must_be_run(resume)
    from launch.chaos import parse_chaos

    faults = parse_chaos(chaos, seed=chaos_seed) if chaos is not None else None

    from launch.check import check_recipe
    from recipes.load import load_recipe

    loaded = load_recipe(recipe or Path(resume or "", "recipe.json"), overrides or ())
    check_recipe(loaded)

    from launch.compose import train as train_recipe

    with _ended_by_a_signal("go on with podium train --resume RUN"):
        run = train_recipe(loaded, resume=resume, chaos=faults)
    from launch.report import report_text

    typer.echo(report_text(run))


@app.command()
def sft(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="Recipe file (YAML).")] = None,
    overrides: Overrides = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with a run that was stopped.")] = None,
) -> None:
    """Learn from the written answers that RECIPE's `sft` section names: a warm start for `podium train`."""
    if (recipe is None) == (resume is None):
        raise UserError("podium sft: give a recipe, or --resume RUN, one of the two")
    if resume is not None:
        _must_be_run(resume)
    from launch.check_sft import check_sft
    from recipes.load import load_recipe

    loaded = load_recipe(recipe or Path(resume or "", "recipe.json"), overrides or ())
    check_sft(loaded)

    from launch.sft import train_sft

    with _ended_by_a_signal("go on with podium sft --resume RUN"):
        run = train_sft(loaded, resume=resume)
    from launch.report import report_text

    typer.echo(report_text(run))


@app.command()
def export(
    run: RunFolder,
    out: Annotated[Path, typer.Argument(metavar="DIR", help="New folder for the model.")],
    step: Annotated[int, typer.Option(min=0, help="Step of the checkpoint.")],
) -> None:
    """Write the checkpoint of a step to DIR in the Hugging Face layout."""
    _must_be_run(run)
    from launch.compose import export as export_run

    export_run(run, step, out)


@app.command()
def report(run: RunFolder) -> None:
    """Write RUN/report.html from what the run left on disk."""
    _must_be_run(run)
    from launch.report import write_report

    typer.echo(write_report(run))


@app.command("eval")
def evaluate(
    target: Annotated[Path, typer.Argument(metavar="RUN|RECIPE", help="Run directory, or a recipe file (YAML).")],
    models: Annotated[
        list[str] | None,
        typer.Option("--model", metavar="DIR", help="A model that takes part, as model.path; may be repeated."),
    ] = None,
    steps: Annotated[
        list[int] | None, typer.Option("--step", min=1, help="RUN's checkpoint that takes part; may be repeated.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Let models meet on the held-out prompts before the recipe's judge; prints the ladder.

    RUN: its starting model, its checkpoints and every --model. RECIPE: its model and every --model, without training;
    alone it meets itself, which shows what chance and the judge give.
    """
    from launch.standings import standings_text
    from recipes.load import load_recipe

    def say(text: str) -> None:
        typer.echo(text, err=True)

    if target.is_dir():
        _must_be_run(target)
        from launch.eval import evaluate_run
        from launch.run_dir import RunDir

        loaded = load_recipe(target / "recipe.json", overrides or ())
        with _ended_by_a_signal("there is no ladder"):
            result = evaluate_run(loaded, RunDir.open(target), steps=steps or (), models=models or (), say=say)
    else:
        if steps:
            raise UserError("podium eval: --step names checkpoints of a run; a recipe has none, use --model DIR")
        from launch.check import check_recipe

        loaded = load_recipe(target, overrides or ())
        check_recipe(loaded)
        from launch.eval import evaluate_recipe

        with _ended_by_a_signal("there is no ladder"):
            folder, result = evaluate_recipe(loaded, models=models or (), say=say)
        say(f"written to {folder}: ladder.json and, per game, evaluation/ladder.parquet")
    if as_json:
        _print_json(result)
    else:
        typer.echo(standings_text(result))


@app.command()
def simulate(
    group_sizes: Annotated[
        str | None, typer.Option("--group-size", help="Rollouts a group, e.g. 8,16. Default: 8, or the recipe's.")
    ] = None,
    equal_shares: Annotated[
        str, typer.Option("--equal-share", help="Share of groups without any difference, e.g. 0.5,0.8.")
    ] = "0.5",
    judges: Annotated[
        list[str] | None,
        typer.Option("--judge", metavar="NAME", help=f"Default: all; may be repeated. Of {JUDGES}."),
    ] = None,
    topologies: Annotated[
        list[str] | None,
        typer.Option("--topology", metavar="KIND", help=f"Default: all; may be repeated. Of {TOPOLOGIES}."),
    ] = None,
    aggregators: Annotated[
        list[str] | None,
        typer.Option("--aggregator", metavar="KIND", help=f"Default: all; may be repeated. Of {AGGREGATORS}."),
    ] = None,
    batches: Annotated[int, typer.Option(min=1, help="More make smaller errors.")] = 2,
    groups: Annotated[int, typer.Option(min=2, help="Groups a batch.")] = 24,
    orders: Annotated[str, typer.Option(help="first, random or both.")] = "random",
    seed: Annotated[int, typer.Option(min=0)] = 0,
    recipe: Annotated[
        Path | None, typer.Option(help="Take group size, topology and aggregator from this recipe.")
    ] = None,
    overrides: Overrides = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Draw fidelity against calls.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show how faithful every topology and aggregator is to the truth, and what it costs in judge calls."""
    from rich.console import Console

    from launch import simulate as simulation
    from rewards.aggregator_options import check_name
    from rewards.simulation_grid import Scene

    check_name("--orders", orders, ("first", "random", "both"))
    if overrides and recipe is None:
        raise UserError("podium simulate: --set changes a recipe's keys; name one with --recipe")
    if group_sizes is not None and recipe is not None:
        raise UserError("--group-size: the recipe says it; use --set rollouts.group_size=N")
    _check_out(plot, option="--plot")
    sizes = simulation.numbers("--group-size", "8" if group_sizes is None else group_sizes, int, 2, 256)
    chosen_topologies = simulation.pick_topologies(topologies or ())
    chosen_aggregators = simulation.pick_aggregators(aggregators or ())
    if recipe is not None:
        own_topology, own_aggregator, size = simulation.recipe_configs(recipe, overrides or ())
        sizes = [size]
        chosen_topologies = own_topology | (chosen_topologies if topologies else {})
        chosen_aggregators = own_aggregator | (chosen_aggregators if aggregators else {})
    scenes = [
        Scene(size, share, groups, batches, orders, seed)  # type: ignore[arg-type]
        for size in sizes
        for share in simulation.numbers("--equal-share", equal_shares, float, 0, 1)
    ]
    rows = simulation.simulate(scenes, simulation.pick_judges(judges or ()), chosen_topologies, chosen_aggregators)
    if plot is not None:
        simulation.write_plot(rows, plot)
    if as_json:
        _print_json(simulation.rows_json(rows, scenes))
        return
    for scene in scenes:
        here = [row for row in rows if (row.group_size, row.equal_share) == (scene.group_size, scene.equal_share)]
        wide = Console(width=max(Console().width, simulation.TABLE_WIDTH))
        wide.print(simulation.rows_table(here, scene))


@app.command()
def pairs(
    run: RunFolder,
    every: Annotated[bool, typer.Option("--all", help="All pairs of a group, not only its best and worst.")] = False,
    matches: Annotated[
        bool, typer.Option("--matches", help="The pairs that the judge compared, by its own word instead of rewards.")
    ] = False,
    min_margin: Annotated[
        float,
        typer.Option(
            min=0.0, help="Leave out pairs whose rewards differ by less, or whose better answer leads by less."
        ),
    ] = 0.0,
) -> None:
    """Print RUN's groups as preference pairs, one JSON object a line, for DPO-style training elsewhere."""
    import json

    _must_be_run(run)
    if every and matches:
        raise UserError("podium pairs: --all are pairs by reward, --matches those of the judge; give one of the two")
    from launch.pairs import Which, run_pairs
    from launch.run_dir import RunDir

    which: Which = "matches" if matches else "all" if every else "best_worst"
    for row in run_pairs(RunDir.open(run), which=which, min_margin=min_margin):
        typer.echo(json.dumps(row))


@app.command()
def rank(
    matches: Annotated[Path, typer.Argument(metavar="MATCHES.jsonl", help="One match a line; .gz, or - for stdin.")],
    aggregator: Annotated[str, typer.Option(metavar="KIND", help=f"One of {AGGREGATORS}.")] = "empirical_bayes",
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Option of the aggregator; may be repeated.")
    ] = None,
    judge_weights: Annotated[
        list[str] | None,
        typer.Option("--judge-weight", metavar="NAME=W", help="What a judge's verdict counts; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Rank the items of each group in MATCHES.jsonl.

    A line is {"a": ..., "b": ..., "score": 0 to 1, "weight"?: ..., "group"?: ..., "judge"?: ...}; score is of a.
    """
    from launch.rank import rank_file, ranking_json, ranking_table

    groups = rank_file(matches, aggregator=aggregator, settings=settings or (), judge_weights=judge_weights or ())
    if as_json:
        _print_json(ranking_json(groups))
    else:
        from rich.console import Console

        console = Console()
        for name, group in groups.items():
            console.print(ranking_table(name, group))


RewardFile = Annotated[
    Path, typer.Option("--reward", metavar="RECIPE", help="Recipe with `rewards`; all its other keys may be left out.")
]


@app.command()
def score(
    groups: Annotated[Path, typer.Argument(metavar="GROUPS.jsonl", help="One group a line.")],
    reward: RewardFile,
    overrides: Overrides = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", metavar="FILE.jsonl", help="Write a row per group.")] = None,
) -> None:
    """Score the answers of each group in GROUPS.jsonl.

    A line is {"prompt": text or messages, "candidates": [text, ...], "id"?: text, "fields"?: {name: text}}.
    """
    from rich.console import Console

    from launch.score import score_file, score_rows, score_table, write_rows
    from recipes.reward import load_rewards

    _check_out(out)
    loaded = load_rewards(reward, overrides or ())
    with _ended_by_a_signal("nothing was written"):
        scored = score_file(groups, loaded)
    if out is not None:
        write_rows(scored, out)
    if as_json:
        _print_json({"groups": score_rows(scored), "judges": scored.spent})
    elif out is None:
        Console().print(score_table(scored))


@app.command()
def rejudge(
    run: RunFolder,
    reward: RewardFile,
    steps: Annotated[list[int] | None, typer.Option("--step", min=1, help="Default: all; may be repeated.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", metavar="FILE.json", help="Write what --json prints.")] = None,
) -> None:
    """Judge RUN's groups again by other rewards, and show how the order of their rollouts changes."""
    _must_be_run(run)
    _check_out(out)
    from launch.rejudge import rejudge as rejudge_run
    from launch.rejudge import summary_text
    from launch.run_dir import RunDir
    from recipes.reward import load_rewards

    loaded = load_rewards(reward, overrides or ())
    with _ended_by_a_signal("verdicts so far are in the cache, if there is one; start it again"):
        result = rejudge_run(RunDir.open(run), loaded, steps=steps or ())
    if out is not None:
        _write_json(result, out)
    if as_json:
        _print_json(result)
    else:
        typer.echo(summary_text(result))


@app.command("judge-audit")
def judge_audit(
    pairs: Annotated[Path, typer.Argument(metavar="PAIRS.jsonl", help="One pair with a known better answer a line.")],
    reward: RewardFile,
    attacks: Annotated[
        list[str] | None,
        typer.Option("--attack", metavar="NAME", help=f"Default: all; none: without; may be repeated. Of {ATTACKS}."),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
    out: Annotated[Path | None, typer.Option("-o", metavar="FILE.json", help="Write what --json prints.")] = None,
) -> None:
    """Hold RECIPE's judge against human preferences, then attack it: what flips its verdicts?

    A line is {"prompt": text, "better": text, "worse": text, "id"?: text, "fields"?: {name: text}}; chosen and rejected
    are read as better and worse, and messages as podium pairs prints them as texts.
    """
    from launch.judge_audit import audit_text
    from launch.judge_audit import judge_audit as audit
    from recipes.reward import load_rewards
    from rewards.attacks import ATTACKS

    _check_out(out)
    chosen = () if attacks == ["none"] else tuple(attacks or ATTACKS)
    loaded = load_rewards(reward, overrides or ())
    with _ended_by_a_signal("nothing was written"):
        result = audit(pairs, loaded, attacks=chosen)
    if out is not None:
        _write_json(result, out)
    if as_json:
        _print_json(result)
    elif out is None:
        typer.echo(audit_text(result))


@app.command()
def serve(
    recipe: Annotated[
        Path, typer.Argument(metavar="RECIPE", help="Recipe with `rewards`; all its other keys may be left out.")
    ],
    host: Annotated[str, typer.Option(help="Others than this machine need --token-env.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8780,
    token_env: Annotated[
        str | None, typer.Option(metavar="NAME", help="Environment variable with the bearer token of clients.")
    ] = None,
    max_body_mib: Annotated[float, typer.Option(min=0.001)] = 8.0,
    max_group: Annotated[int, typer.Option(min=2, help="Answers in a group.")] = 64,
    max_requests: Annotated[int, typer.Option(min=1, help="At work at once; more get 429.")] = 64,
    deadline_s: Annotated[float, typer.Option(min=0.1, help="Of a request.")] = 600.0,
    gather_deadline_s: Annotated[
        float, typer.Option(min=0.01, help="How long the first of a gathered group waits for the last.")
    ] = 150.0,
    overrides: Overrides = None,
) -> None:
    """Serve the rewards of RECIPE over HTTP: POST /v1/groups/score, /v1/groups/gather, /v1/compare; GET /docs."""
    from launch.serve import serve as serve_recipe
    from recipes.reward import load_rewards
    from rewards.http_door import ServeLimits

    limits = ServeLimits(
        max_body_bytes=int(max_body_mib * 2**20),
        max_group=max_group,
        max_requests=max_requests,
        deadline_s=deadline_s,
        gather_deadline_s=gather_deadline_s,
    )
    loaded = load_rewards(recipe, overrides or ())
    serve_recipe(
        loaded, host=host, port=port, token_env=token_env, limits=limits, say=lambda text: typer.echo(text, err=True)
    )


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    from recipes.schema_file import schema_text

    typer.echo(schema_text(), nl=False)


def main() -> None:
    """Entry point. What podium raises on purpose becomes one message and an exit code; a bug keeps its traceback.

    Typer itself ends with 2 on wrong usage, 130 on Ctrl-C and quietly when the reader of a pipe leaves.
    """
    # Plug-ins beside the recipe are found from where podium is called, as `python -m` would; last, to shadow nothing.
    sys.path.append(os.getcwd())
    try:
        app()
    except UserError as error:
        typer.echo(error, err=True)
        sys.exit(2)
    except RunStopped as error:
        typer.echo(error, err=True)
        sys.exit(1)


def _must_be_run(run: Path) -> None:
    if not (run / "recipe.json").is_file():
        raise UserError(f"{run}: not a run directory (no recipe.json in it); give a folder like runs/NAME-TIME")


@contextmanager
def _ended_by_a_signal(advice: str) -> Iterator[None]:
    """Around work that SIGTERM cancels: a line and the exit code of a signal, no traceback."""
    import asyncio

    try:
        yield
    except asyncio.CancelledError:
        typer.echo(f"ended by a signal; {advice}", err=True)
        raise typer.Exit(128 + signal.SIGTERM) from None


def _check_out(out: Path | None, option: str = "-o") -> None:
    """Before any call is paid for: whether the option's file can be written."""
    if out is None:
        return
    if not out.parent.is_dir():
        raise UserError(f"{option} {out}: there is no folder {out.parent}; name another file")
    if out.is_dir():
        raise UserError(f"{option} {out}: is a folder; name a file in it")
    if not os.access(out.parent, os.W_OK):
        raise UserError(f"{option} {out}: {out.parent} cannot be written; name another file")


def _write_json(value: Any, path: Path) -> None:
    import json

    from launch import atomic

    try:
        atomic.write_bytes(path, (json.dumps(value, indent=2) + "\n").encode())
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}; name another file") from None


def _print_json(value: Any) -> None:
    import json

    typer.echo(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()
