"""`podium simulate`: what each topology and aggregator is worth in judge calls, before anybody pays for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import Any

from rewards.aggregator_config import AggregatorConfig
from rewards.aggregator_options import check_name
from rewards.errors import UserError
from rewards.simulation_grid import JUDGES, Row, Scene
from rewards.strict import config_kinds
from rewards.topology_config import TopologyConfig

TABLE_WIDTH = 120
COLUMNS = ("judge", "topology", "aggregator", "calls", "fidelity", "kendall", "noise", "unscored", "ms")


def pick_configs(union: Any, what: str, names: Sequence[str]) -> dict[str, Any]:
    """Configs of a union with their default options; all of them where no names are given.

    Raises:
        UserError: an unknown name, with the nearest one.
    """
    kinds = config_kinds(union)
    for name in names:
        check_name(what, name, kinds)
    return {name: kinds[name].model_validate({"kind": name}) for name in names or kinds}


def pick_topologies(names: Sequence[str]) -> dict[str, Any]:
    return pick_configs(TopologyConfig, "--topology", names)


def pick_aggregators(names: Sequence[str]) -> dict[str, Any]:
    return pick_configs(AggregatorConfig, "--aggregator", names)


def pick_judges(names: Sequence[str]) -> list[str]:
    """Raises UserError where a name is unknown."""
    for name in names:
        check_name("--judge", name, JUDGES)
    return list(names or JUDGES)


def recipe_configs(path: Path, overrides: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any], int]:
    """A recipe's own topology and aggregator, under the name `recipe`, and its group size.

    Raises:
        UserError: rewards that are no tournament.
    """
    from recipes.load import load_recipe
    from rewards.config import TournamentRewards

    recipe = load_recipe(path, overrides).recipe
    if not isinstance(recipe.rewards, TournamentRewards):
        raise UserError(f"{path}: rewards.kind is {recipe.rewards.kind}; only tournaments can be simulated")
    return {"recipe": recipe.rewards.topology}, {"recipe": recipe.rewards.aggregator}, recipe.rollouts.group_size


def sorted_rows(rows: Sequence[Row]) -> list[Row]:
    """By judge and scene, the most faithful first."""
    return sorted(rows, key=lambda row: (row.judge, row.group_size, row.equal_share, -row.fidelity))


def rows_table(rows: Sequence[Row], scene: Scene) -> Any:
    """A Rich table of the rows of one scene."""
    from rich.table import Table

    table = Table(
        title=f"groups of {scene.group_size}, {scene.equal_share:.0%} of them without differences, "
        f"{scene.num_batches} batches of {scene.num_groups} groups, orders: {scene.orders}"
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:3] else "right")
    for row in rows:
        table.add_row(
            *(row.judge, row.topology, row.aggregator, f"{row.calls_per_group:.1f}"),
            f"{row.fidelity:.3f} ± {row.stderr:.3f}",
            *(f"{row.kendall:.2f}", f"{row.equal_spread:.2f}", f"{row.unscored:.2f}", f"{1000 * row.seconds:.0f}"),
        )
    return table


def rows_json(rows: Sequence[Row], scenes: Sequence[Scene]) -> dict[str, Any]:
    """Figures that a scene does not have (NaN) are null."""
    plain = [
        {name: None if isinstance(value, float) and isnan(value) else value for name, value in asdict(row).items()}
        for row in rows
    ]
    return {"scenes": [asdict(scene) for scene in scenes], "rows": plain}


def write_plot(rows: Sequence[Row], path: Path) -> None:
    """One self-contained HTML file: fidelity against calls a group, a panel per judge, a colour per aggregator.

    Raises:
        UserError: the file cannot be written.
    """
    from plotly.graph_objects import Figure, Scatter
    from plotly.subplots import make_subplots

    judges = list(dict.fromkeys(row.judge for row in rows))
    figure: Figure = make_subplots(rows=len(judges), cols=1, subplot_titles=judges, shared_xaxes=True)
    colours = {name: number for number, name in enumerate(dict.fromkeys(row.aggregator for row in rows))}
    for panel, judge in enumerate(judges, start=1):
        for aggregator, number in colours.items():
            chosen = sorted(
                (row for row in rows if row.judge == judge and row.aggregator == aggregator),
                key=lambda row: row.calls_per_group,
            )
            figure.add_trace(
                Scatter(
                    x=[row.calls_per_group for row in chosen],
                    y=[row.fidelity for row in chosen],
                    error_y={"array": [row.stderr for row in chosen], "thickness": 1},
                    text=[f"{row.topology}, N = {row.group_size}" for row in chosen],
                    mode="markers",
                    marker={"color": f"hsl({number * 360 // max(1, len(colours))}, 60%, 45%)", "size": 9},
                    name=aggregator,
                    legendgroup=aggregator,
                    showlegend=panel == 1,
                    hovertemplate="%{text}<br>%{x:.1f} calls, fidelity %{y:.3f}",
                ),
                row=panel,
                col=1,
            )
    figure.update_layout(height=360 * len(judges), title="Fidelity of the rewards against judge calls a group")
    figure.update_yaxes(title="cosine with the truth")
    figure.update_xaxes(title="judge calls a group", row=len(judges), col=1)
    try:
        figure.write_html(path, include_plotlyjs=True)
    except OSError as error:
        raise UserError(f"--plot {path}: cannot be written ({error.strerror}); choose another file") from error


def numbers(option: str, text: str, kind: type, low: float, high: float) -> list[Any]:
    """A comma-separated list of numbers in [low, high].

    Raises:
        UserError: anything else.
    """
    values: list[Any] = []
    for word in text.split(","):
        try:
            value = kind(word)
        except ValueError:
            raise UserError(f"{option} {text}: {word!r} is no {kind.__name__}; give numbers with commas") from None
        if not low <= value <= high:
            raise UserError(f"{option} {text}: {word} is not between {low:g} and {high:g}")
        values.append(value)
    return values


def simulate(
    scenes: Sequence[Scene],
    judges: Sequence[str],
    topologies: Mapping[str, Any],
    aggregators: Mapping[str, Any],
) -> list[Row]:
    """All rows of all scenes; a progress bar on stderr."""
    from rich.console import Console
    from rich.progress import Progress

    from rewards.simulation_grid import run_grid

    rows: list[Row] = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        total = len(scenes) * len(judges) * len(topologies) * len(aggregators)
        task = progress.add_task("playing", total=total)
        for scene in scenes:
            for row in run_grid(scene, judges, topologies, aggregators):
                rows.append(row)
                progress.advance(task)
    return sorted_rows(rows)
