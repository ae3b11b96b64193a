"""`wattshed simulate`: policies and controllers on the same requests, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from wattshed.cli.limits import with_slo
from wattshed.cli.shared import (
    errors_at_the_edge,
    fleet_option_of,
    folder_option,
    json_option,
    note,
    print_json,
    progress,
    seed_option,
    stoppable,
    workload_option_of,
)
from wattshed.cli.simulated import (
    RequestTables,
    inputs_of,
    print_simulation,
    simulation_results,
    sources_of,
    write_simulation,
)
from wattshed.cli.traffic import (
    parse_arrivals,
    parse_clocks,
    parse_names,
    parse_outages,
    promise_options,
    traffic_options,
)


@click.command()
@fleet_option_of("mixed-70b")
@workload_option_of("azure-conv-2023")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    default=("round-robin,least-loaded,frugal",),
    show_default=True,
    metavar="NAME,...",
    help="What decides where each request goes; single:DEPLOYMENT and threshold:SMALL,LARGE,T_IN"
    " are names, too. Repeatable.",
)
@click.option(
    "--controller",
    "controllers",
    multiple=True,
    default=("pinned",),
    show_default=True,
    metavar="NAME,...",
    help="What sets clock and batch of each replica: pinned, governor, static:CLOCK, static:best,"
    " phases[:RESERVE] or batch-cap[:FACTOR]. Each is tried with each policy. Repeatable.",
)
@traffic_options
@promise_options("Part of the promises that is to be kept.")
@click.option(
    "--replications",
    type=int,
    default=1,
    show_default=True,
    metavar="K",
    help="Draw the requests so often, and give intervals. All contenders get the same.",
)
@click.option(
    "--forecast",
    default="histogram",
    show_default=True,
    metavar="known|mean|histogram",
    help="What policies know of output lengths before they are there.",
)
@click.option(
    "--clocks",
    default=None,
    metavar="F,...",
    help="Fractions of the highest clock that controllers choose from.  [default: 0.4 to 1 in"
    " steps of 0.1]",
)
@click.option(
    "--fail",
    "fails",
    multiple=True,
    metavar="REPLICA@START[-END]",
    help="A replica (DEPLOYMENT/NUMBER, from 0) fails, and boots at the end. Repeatable.",
)
@click.option(
    "--drain",
    "drains",
    multiple=True,
    metavar="REPLICA@START[-END]",
    help="A replica takes no more requests, finishes what it has, and boots at the end."
    " Repeatable.",
)
@click.option(
    "--no-retry",
    is_flag=True,
    help="Requests whose replica fails before their first token are lost, not sent once more.",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="plan.json whose prices the policy prices follows.  [default: a plan of the workload]",
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="WHAT=MEAN",
    help="What the policy frugal is to keep on average per request: accuracy=PART, carbon=GRAMS,"
    " energy=JOULES or energy:CLASS=JOULES (that they add). Repeatable.",
)
@click.option(
    "--equal-attainment",
    is_flag=True,
    help="Let policies and controllers that learn aim higher than the target until they reach it.",
)
@click.option(
    "--no-bound", is_flag=True, help="Leave out what no schedule of the requests can undercut."
)
@folder_option()
@seed_option
@json_option
def simulate(
    *,
    fleet_source: str,
    workload_source: str,
    policies: tuple[str, ...],
    controllers: tuple[str, ...],
    slos: tuple[str, ...],
    target: float,
    every_token: bool,
    replications: int,
    forecast: str,
    clocks: str | None,
    fails: tuple[str, ...],
    drains: tuple[str, ...],
    no_retry: bool,
    plan: Path | None,
    budgets: tuple[str, ...],
    equal_attainment: bool,
    no_bound: bool,
    folder: Path | None,
    seed: int,
    as_json: bool,
    **traffic: Any,
) -> None:
    """Serve the same requests with each policy, and compare energy and latency.

    Every engine step of every replica is followed: queueing, batching, KV caches, clocks,
    outages. Energy per request and idling add up to what the replicas draw. Savings are
    paired by replication and count only where as many promises are kept.

    \b
    Examples:
      wattshed simulate                              an hour of chats on twelve replicas
      wattshed simulate --policy frugal --controller pinned,phases -o simulation
      wattshed simulate --load 0.7 --requests 20000 --replications 5
      wattshed simulate --rates servegen-rates#m-large --scale 0.05 --window 0:86400
      wattshed simulate --slo ttft=2,tbt=0.1 --target 0.95 --json
      wattshed simulate --fail h100-tp8/0@600-1200 --drain a100-tp8/1@0
    """
    from wattshed.fleet import load_fleet
    from wattshed.simulate.fleet import simulate_fleet
    from wattshed.simulate.scenario import in_order
    from wattshed.workload.table import read_workload

    with errors_at_the_edge():
        settings: dict[str, Any] = {
            "policies": parse_names("--policy", policies),
            "controllers": parse_names("--controller", controllers),
            "replications": replications,
            "seed": seed,
            "forecast": forecast,
            "target": target,
            "every_token": every_token,
            "clocks": parse_clocks(clocks),
            "retry": not no_retry,
            "plan": plan,
            "budgets": budgets,
            "equal_attainment": equal_attainment,
            "bound": not no_bound,
        }
        refuse_unknown_policies(settings["policies"], plan, budgets)
        fleet = in_order(with_slo(load_fleet(fleet_source), slos))
        arrivals = parse_arrivals(read_workload(workload_source), **traffic)
        outages = parse_outages(fleet, fails, drains)
        tables = RequestTables()
        with simulating() as report:
            found = simulate_fleet(
                fleet,
                arrivals,
                **settings,
                outages=outages,
                report=report,
                tables=tables.keep if folder else None,
            )
        inputs = inputs_of(fleet, arrivals, outages, settings)
        sources = sources_of(fleet, arrivals)
        if folder:
            write_simulation(found, inputs, sources, tables.by_name(), folder)
    if as_json:
        print_json("simulate", inputs, simulation_results(found), sources)
    else:
        print_simulation(found, target)
    if found.partial:
        raise click.exceptions.Exit(1)


def refuse_unknown_policies(
    names: tuple[str, ...], plan: Path | None, budgets: tuple[str, ...]
) -> None:
    """Before anything is simulated, which may take long.

    Raises
    ------
    ParameterError
        Also for a plan or a budget that no policy follows.
    """
    from wattshed.errors import ParameterError
    from wattshed.route.registry import find_policy

    for name in names:
        find_policy(name.partition(":")[0])
    if plan is not None and "prices" not in names:
        cure = "add prices to --policy, or leave it out"
        raise ParameterError("--plan", f"{plan}, which no policy follows", cure)
    if budgets and "frugal" not in names:
        cure = "add frugal to --policy, or leave it out"
        raise ParameterError("--budget", f"{budgets[0]}, which no policy keeps", cure)


@contextmanager
def simulating() -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar with contender and requests sent; Ctrl-C ends with what there is so far."""
    from wattshed.compiled import when_compiling

    def tell() -> None:
        note("compiling the simulator: about half a minute, once on this machine")

    with progress("simulating") as bar, stoppable() as check, when_compiling(tell):

        def report(stage: str, done: int, total: int) -> None:
            bar(stage, done, total)
            check()

        yield report
