"""`wattshed plan`: a workload to deployments."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.shared import (
    errors_at_the_edge,
    folder_option,
    json_option,
    note,
    print_json,
    print_tables,
    seed_option,
    write_folder,
)

if TYPE_CHECKING:
    from wattshed.fleet import Fleet
    from wattshed.plan.cost import Weights
    from wattshed.records import Plan, Policy
    from wattshed.workload.table import Workload


@click.command()
@click.option(
    "--fleet",
    "fleet_source",
    default="hybrid-2024",
    show_default=True,
    metavar="FILE|NAME",
    help="fleet.toml, or a built-in fleet.",
)
@click.option(
    "--workload",
    "workload_source",
    default="alpaca",
    show_default=True,
    metavar="FILE|NAME",
    help="CSV, Parquet or JSONL, an Azure or Mooncake trace, or a built-in workload.",
)
@click.option(
    "--lambda",
    "energy_weight",
    type=float,
    default=1.0,
    show_default=True,
    help="Weight of energy against runtime: 1 is energy alone, 0 runtime alone.",
)
@click.option(
    "--zeta",
    type=float,
    default=None,
    help="Weight of energy and runtime against accuracy: 0 is accuracy alone."
    " Without it accuracy plays no part.",
)
@click.option(
    "--normalise",
    default="ideal",
    show_default=True,
    help="Scales of energy, runtime and accuracy: ideal (each at its own optimum), range"
    " (min-max, as in the offline study) or none (joules plus seconds, as in the hybrid study).",
)
@click.option(
    "--idle-power",
    multiple=True,
    metavar="NAME=W",
    help="Idle watts of a replica that stays on whatever is decided. Repeatable.",
)
@folder_option()
@seed_option
@json_option
def plan(
    *,
    fleet_source: str,
    workload_source: str,
    energy_weight: float,
    zeta: float | None,
    normalise: str,
    idle_power: tuple[str, ...],
    folder: Path | None,
    seed: int,
    as_json: bool,
) -> None:
    """Assign each query of a workload to the deployment where it costs least.

    The assignment is exact: U = λ E/E0 + (1 - λ) R/R0 is minimised query by query. It is
    compared with every single system, round robin, random and the best threshold rules,
    each with the interval of the saving.

    \b
    Examples:
      wattshed plan                                  three 2024 systems, Alpaca
      wattshed plan --fleet fleet.toml --workload trace.csv -o plan
      wattshed plan --lambda 0.9 --json
      wattshed plan --idle-power a100=60
    """
    from wattshed.fleet import load_fleet
    from wattshed.plan.cost import Weights
    from wattshed.plan.planner import plan_workload
    from wattshed.workload.table import read_workload

    with errors_at_the_edge():
        weights = Weights(energy_weight, zeta, normalise)
        idle = parse_idle_power(idle_power)
        fleet = load_fleet(fleet_source)
        workload = read_workload(workload_source)
        made = plan_workload(fleet, workload, weights, idle_power_w=idle, seed=seed)
        inputs = {
            "fleet": {"name": fleet_source, "sha256": fleet.content_hash},
            "workload": {"name": workload_source, "sha256": workload.content_hash},
            "lambda": energy_weight,
            "zeta": zeta,
            "normalise": normalise,
            "idle_power_w": idle,
            "seed": seed,
        }
        if folder:
            _write(made, fleet, workload, weights, inputs, folder)
    if as_json:
        from wattshed.documents import plan_sources

        print_json("plan", inputs, plan_results(made), plan_sources(fleet, workload))
        return
    from wattshed.report.plan_document import plan_summary_tables

    print_tables(plan_summary_tables(made))
    click.echo(made.verdict)
    for warning in made.warnings:
        note(f"warning: {warning}")


def parse_idle_power(values: tuple[str, ...]) -> dict[str, float]:
    """Read NAME=W options.

    Raises
    ------
    ParameterError
    """
    from wattshed.errors import ParameterError

    parsed = {}
    for value in values:
        name, _, power = value.rpartition("=")
        try:
            parsed[name] = float(power)
        except ValueError:
            raise ParameterError("--idle-power", repr(value), "give NAME=WATTS") from None
    return parsed


def plan_results(made: Plan) -> dict[str, Any]:
    """The stable keys of `wattshed plan --json`."""
    import msgspec

    results: dict[str, Any] = msgspec.to_builtins(made)
    results["baselines"] = [_baseline(policy) for policy in made.baselines]
    return results


def _baseline(policy: Policy) -> dict[str, Any]:
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(policy)
    interval = policy.saving
    found["saving_low_pct"] = interval.low if interval else None
    found["saving_high_pct"] = interval.high if interval else None
    return found


def _write(
    made: Plan,
    fleet: Fleet,
    workload: Workload,
    weights: Weights,
    inputs: dict[str, Any],
    folder: Path,
) -> None:
    import msgspec

    from wattshed import __version__
    from wattshed.documents import plan_document

    command = f"wattshed plan --fleet {fleet.name} --workload {workload.name}"
    document = plan_document(made, fleet, workload, weights, command, inputs["seed"])
    content = {
        "schema": "wattshed/plan",
        "version": 1,
        "created_by": f"wattshed {__version__}",
        "inputs": inputs,
        "seed": inputs["seed"],
        "plan": made,
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    write_folder(document, folder, {"plan.json": encoded})
