"""`wattshed plan`: a workload to deployments."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.limits import limit_options, parse_limits, parse_weight, with_slo
from wattshed.cli.shared import (
    FiniteRange,
    errors_at_the_edge,
    finite,
    fleet_option,
    folder_option,
    json_option,
    note,
    planning,
    print_json,
    print_tables,
    seed_option,
    workload_option,
    write_folder,
)

if TYPE_CHECKING:
    from wattshed.fleet import Fleet
    from wattshed.plan.limits import Limits
    from wattshed.records import OutOfSample, Plan, Policy
    from wattshed.workload.table import Workload


@dataclass(frozen=True)
class Evaluation:
    """How a plan's rule does on a workload that it was not made on."""

    workload: Workload
    found: list[OutOfSample]


@click.command()
@fleet_option
@workload_option
@click.option(
    "--lambda",
    "energy_weight",
    type=FiniteRange(0, 1),
    default=None,
    help="Weight of energy against runtime: 1 is energy alone, 0 runtime alone.  [default: 1]",
)
@click.option(
    "--minimize",
    metavar="energy|runtime",
    help="The same by name: energy is --lambda 1, runtime is --lambda 0. Within budgets the other"
    " needs no weight.",
)
@click.option(
    "--zeta",
    type=FiniteRange(0, 1),
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
    "--robust",
    metavar="expected|p90",
    help="Allow for the uncertainty of the fits: minimise the mean of the cost over their bootstrap"
    " draws (expected), or the mean of its worst tenth, which bounds the 90 % quantile (p90).",
)
@limit_options
@click.option(
    "--idle-power",
    multiple=True,
    metavar="NAME=W",
    help="Idle watts of a replica that stays on whatever is decided. Repeatable.",
)
@click.option(
    "--evaluate-on",
    metavar="FILE|NAME|half",
    help="Judge the plan's rule on another workload, where output lengths are known or predicted;"
    " half plans one half of the workload and judges on the other.",
)
@folder_option()
@seed_option
@json_option
def plan(
    *,
    fleet_source: str,
    workload_source: str,
    energy_weight: float | None,
    minimize: str | None,
    zeta: float | None,
    normalise: str,
    robust: str | None,
    runtime_budgets: tuple[str, ...],
    energy_budget: str | None,
    accuracy_floor: float | None,
    accuracy_measure: str,
    slos: tuple[str, ...],
    horizon: float | None,
    idle_power: tuple[str, ...],
    evaluate_on: str | None,
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
      wattshed plan --runtime-budget 1.5x            least energy within a mean runtime
      wattshed plan --minimize runtime --energy-budget 0.98x
      wattshed plan --slo ttft=1,e2e=60              where every query keeps its latency
      wattshed plan --horizon 86400                  with the replicas that there are, in a day
      wattshed plan --idle-power a100=60
      wattshed plan --robust p90                     least energy where the fits are at their worst
      wattshed plan --evaluate-on half               can it save before answers are known?
    """
    from dataclasses import asdict

    import msgspec

    from wattshed.fleet import load_fleet, with_idle_power
    from wattshed.plan.cost import Weights
    from wattshed.plan.planner import plan_workload

    with errors_at_the_edge():
        weights = Weights(parse_weight(minimize, energy_weight), zeta, normalise)
        limits = parse_limits(
            runtime_budgets, energy_budget, accuracy_floor, accuracy_measure, horizon
        )
        idle = parse_idle_power(idle_power)
        refuse_evaluation_of_robust(robust, evaluate_on)
        fleet = with_slo(load_fleet(fleet_source), slos)
        workload, test = _workloads(workload_source, evaluate_on, seed)
        with planning() as on_progress:
            made = plan_workload(
                fleet,
                workload,
                weights,
                limits=limits,
                idle_power_w=idle,
                robust=robust,
                seed=seed,
                on_progress=on_progress,
            )
        fleet = with_idle_power(fleet, idle)
        judged = _evaluate(fleet, workload, test, made, limits)
        inputs = {
            "fleet": {"name": fleet_source, "sha256": fleet.content_hash},
            "workload": {"name": workload_source, "sha256": workload.content_hash},
            "lambda": weights.energy,
            "zeta": zeta,
            "normalise": normalise,
            "robust": robust,
            "limits": asdict(limits),
            "slo": msgspec.to_builtins(fleet.slo),
            "idle_power_w": idle,
            "evaluate_on": {"name": evaluate_on, "sha256": test.content_hash} if test else None,
            "seed": seed,
        }
        if folder:
            _write(made, fleet, workload, inputs, folder, judged)
    if as_json:
        from wattshed.documents import plan_sources

        workloads = [workload, test] if test else [workload]
        sources = plan_sources(fleet, *workloads)
        print_json("plan", inputs, plan_results(made, judged), sources)
        return
    from wattshed.report.evaluation import evaluation_tables
    from wattshed.report.plan_document import plan_summary_tables

    print_tables(plan_summary_tables(made))
    click.echo(made.verdict)
    if judged:
        print_tables(evaluation_tables(judged.found, workload.name, judged.workload.name))
    for warning in made.warnings:
        note(f"warning: {warning}")


def refuse_evaluation_of_robust(robust: str | None, evaluate_on: str | None) -> None:
    """Out of sample, only rules of the fits alone are judged.

    Raises
    ------
    ParameterError
    """
    from wattshed.errors import ParameterError

    if evaluate_on and robust:
        raise ParameterError(
            "--evaluate-on", f"--robust is {robust}, too", "evaluate a plan without --robust"
        )


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
            parsed[name] = finite(power)
        except ValueError:
            raise ParameterError("--idle-power", repr(value), "give NAME=WATTS") from None
    return parsed


def plan_results(made: Plan, judged: Evaluation | None = None) -> dict[str, Any]:
    """The stable keys of `wattshed plan --json`."""
    import msgspec

    results: dict[str, Any] = msgspec.to_builtins(made)
    results["baselines"] = [_with_ends(policy) for policy in made.baselines]
    results["out_of_sample"] = [_with_ends(each) for each in judged.found] if judged else None
    return results


def _workloads(source: str, evaluate_on: str | None, seed: int) -> tuple[Workload, Workload | None]:
    """The workload to plan, and the one to judge the plan's rule on."""
    from wattshed.workload.split import split_half
    from wattshed.workload.table import read_workload

    workload = read_workload(source)
    if evaluate_on is None:
        return workload, None
    if evaluate_on == "half":
        return split_half(workload, seed=seed)
    return workload, read_workload(evaluate_on)


def _evaluate(
    fleet: Fleet, train: Workload, test: Workload | None, made: Plan, limits: Limits
) -> Evaluation | None:
    from wattshed.plan.evaluate import evaluate_out_of_sample

    if test is None:
        return None
    return Evaluation(test, evaluate_out_of_sample(fleet, train, test, made, limits))


def _with_ends(record: Policy | OutOfSample) -> dict[str, Any]:
    """A record with the ends of its saving's interval beside it."""
    import msgspec

    found: dict[str, Any] = msgspec.to_builtins(record)
    interval = record.saving
    found["saving_low_pct"] = interval.low if interval else None
    found["saving_high_pct"] = interval.high if interval else None
    return found


def _write(
    made: Plan,
    fleet: Fleet,
    workload: Workload,
    inputs: dict[str, Any],
    folder: Path,
    judged: Evaluation | None,
) -> None:
    from wattshed.documents import add_evaluation, plan_document
    from wattshed.plan.files import encode_plan

    command = f"wattshed plan --fleet {fleet.name} --workload {inputs['workload']['name']}"
    if inputs["robust"]:
        command += f" --robust {inputs['robust']}"
    if judged:
        command += f" --evaluate-on {inputs['evaluate_on']['name']}"
    document = plan_document(made, fleet, workload, command, inputs["seed"])
    if judged:
        document = add_evaluation(document, judged.found, workload, judged.workload)
    encoded = encode_plan(made, inputs, judged.found if judged else None)
    write_folder(document, folder, {"plan.json": encoded})
