"""`wattshed pareto`: the exact trade-offs of energy with runtime and with accuracy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.shared import (
    errors_at_the_edge,
    fleet_option,
    folder_option,
    json_option,
    note,
    print_json,
    print_tables,
    seed_option,
    workload_option,
    write_folder,
)

if TYPE_CHECKING:
    from wattshed.fleet import Fleet
    from wattshed.records import Pareto
    from wattshed.workload.table import Workload


@click.command()
@fleet_option
@workload_option
@click.option(
    "--accuracy-measure",
    default="query-mean",
    show_default=True,
    help="How accuracy is averaged: query-mean (each query counts the same) or token-weighted.",
)
@click.option(
    "--points",
    type=int,
    default=200,
    show_default=True,
    help="About how many points of each front to print and write; 0 for all.",
)
@click.option(
    "--normalise",
    default="ideal",
    show_default=True,
    help="Scales for which λ and ζ of the points hold: ideal, range or none, as in `plan`.",
)
@folder_option()
@seed_option
@json_option
def pareto(
    *,
    fleet_source: str,
    workload_source: str,
    accuracy_measure: str,
    points: int,
    normalise: str,
    folder: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Find every plan that is the best at some price of runtime, and that price.

    The front of energy and runtime is exact: no grid of weights is tried. Each point comes
    with what one more second of mean runtime would save, and with the λ that gives it in
    `wattshed plan`. If the deployments differ in accuracy, the front of energy and
    accuracy is found the same way.

    \b
    Examples:
      wattshed pareto                                three 2024 systems, Alpaca
      wattshed pareto --fleet fleet.toml --workload trace.csv -o front
      wattshed pareto --points 0 --json
      wattshed pareto --accuracy-measure token-weighted --normalise range
    """
    from wattshed.fleet import load_fleet
    from wattshed.plan.pareto import find_pareto
    from wattshed.workload.table import read_workload

    with errors_at_the_edge():
        fleet = load_fleet(fleet_source)
        workload = read_workload(workload_source)
        found = find_pareto(
            fleet,
            workload,
            normalisation=normalise,
            accuracy_measure=accuracy_measure,
            points=points,
            seed=seed,
        )
        inputs = {
            "fleet": {"name": fleet_source, "sha256": fleet.content_hash},
            "workload": {"name": workload_source, "sha256": workload.content_hash},
            "accuracy_measure": accuracy_measure,
            "points": points,
            "normalise": normalise,
            "seed": seed,
        }
        if folder:
            _write(found, fleet, workload, inputs, folder)
    if as_json:
        from wattshed.documents import plan_sources

        print_json("pareto", inputs, pareto_results(found), plan_sources(fleet, workload))
        return
    from wattshed.report.pareto_document import offers_table, pareto_verdict

    print_tables([offers_table(found)])
    click.echo(pareto_verdict(found))
    for warning in found.warnings:
        note(f"warning: {warning}")


def pareto_results(found: Pareto) -> dict[str, Any]:
    """The stable keys of `wattshed pareto --json`."""
    import msgspec

    results: dict[str, Any] = msgspec.to_builtins(found)
    return results


def _write(
    found: Pareto, fleet: Fleet, workload: Workload, inputs: dict[str, Any], folder: Path
) -> None:
    import msgspec

    from wattshed import __version__
    from wattshed.documents import plan_sources
    from wattshed.report.pareto_document import pareto_document

    command = f"wattshed pareto --fleet {fleet.name} --workload {workload.name}"
    sources = plan_sources(fleet, workload)
    document = pareto_document(found, workload.name, sources, command, inputs["seed"])
    content = {
        "schema": "wattshed/pareto",
        "version": 1,
        "created_by": f"wattshed {__version__}",
        "inputs": inputs,
        "seed": inputs["seed"],
        "pareto": found,
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    write_folder(document, folder, {"pareto.json": encoded})
