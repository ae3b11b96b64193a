"""`wattshed simulate`: policies and controllers on the same requests, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.limits import with_slo
from wattshed.cli.shared import (
    command_line,
    errors_at_the_edge,
    fleet_option_of,
    folder_option,
    json_option,
    note,
    print_json,
    print_tables,
    progress,
    seed_option,
    stoppable,
    workload_option_of,
    write_folder,
)
from wattshed.cli.traffic import (
    parse_arrivals,
    parse_clocks,
    parse_names,
    parse_outages,
    traffic_options,
)

if TYPE_CHECKING:
    import polars as pl

    from wattshed.fleet import Fleet
    from wattshed.records import Provenance, SimulationResults
    from wattshed.simulate.model import Outage
    from wattshed.simulate.scenario import Arrivals

PARQUET_ABOVE = 100_000
"""Rows; a table of more requests is written as Parquet, a smaller one as CSV."""
SERIES = ("stack", "cdf")
"""Long series of a contender, which stand in simulation.json only."""


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
    help="What sets clock and batch of each replica: pinned, static:CLOCK, phases[:RESERVE] or"
    " batch-cap[:SHARE]. Each is tried with each policy. Repeatable.",
)
@traffic_options
@click.option(
    "--slo",
    "slos",
    multiple=True,
    metavar="[CLASS:]KEY=S,...",
    help="Latency that is promised, instead of the fleet's [slo.CLASS]: ttft, tbt and e2e in"
    " seconds. Without CLASS, for all requests whose class has none. Repeatable.",
)
@click.option(
    "--target",
    type=float,
    default=0.99,
    show_default=True,
    help="Part of the promises that is to be kept.",
)
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
    help="A replica takes no more requests, finishes what it has, and boots at the end. Repeatable.",
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
    replications: int,
    forecast: str,
    clocks: str | None,
    fails: tuple[str, ...],
    drains: tuple[str, ...],
    no_retry: bool,
    plan: Path | None,
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
      wattshed simulate --rate 8 --requests 20000 --replications 5
      wattshed simulate --rates servegen-rates#m-large --scale 0.05 --window 0:86400
      wattshed simulate --slo ttft=2,tbt=0.1 --target 0.95 --json
      wattshed simulate --fail h100-tp8/0@600-1200 --drain a100-tp8/1@0
    """
    from wattshed.fleet import load_fleet
    from wattshed.simulate.fleet import simulate_fleet
    from wattshed.workload.table import read_workload

    with errors_at_the_edge():
        settings: dict[str, Any] = {
            "policies": parse_names("--policy", policies),
            "controllers": parse_names("--controller", controllers),
            "replications": replications,
            "seed": seed,
            "forecast": forecast,
            "target": target,
            "clocks": parse_clocks(clocks),
            "retry": not no_retry,
            "plan": plan,
            "bound": not no_bound,
        }
        refuse_unknown_policies(settings["policies"])
        fleet = with_slo(load_fleet(fleet_source), slos)
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
            _write(found, inputs, sources, tables, folder)
    if as_json:
        print_json("simulate", inputs, simulation_results(found), sources)
    else:
        _print(found, target)
    if found.partial:
        raise click.exceptions.Exit(1)


def refuse_unknown_policies(names: tuple[str, ...]) -> None:
    """Before anything is simulated, which may take long.

    Raises
    ------
    ParameterError
    """
    from wattshed.route.registry import find_policy

    for name in names:
        find_policy(name.partition(":")[0])


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


class RequestTables:
    """Encodes the requests of each contender at once, so that few tables are in memory."""

    def __init__(self) -> None:
        self.files: list[tuple[str, str, bytes]] = []

    def keep(self, table: pl.DataFrame) -> None:
        """Take the table of one contender."""
        import io

        label = f"{table['policy'][0]}-{table['controller'][0]}"
        if table.height <= PARQUET_ABOVE:
            self.files.append((label, "csv", table.write_csv().encode()))
            return
        file = io.BytesIO()
        table.write_parquet(file)
        self.files.append((label, "parquet", file.getvalue()))

    def by_name(self) -> dict[str, bytes]:
        """Content by name of the file."""
        from wattshed.report.simulation_charts import distinct_slugs

        slugs = distinct_slugs([label for label, _, _ in self.files])
        return {
            f"requests-{slug}.{suffix}": content
            for slug, (_, suffix, content) in zip(slugs, self.files, strict=True)
        }


def inputs_of(
    fleet: Fleet, arrivals: Arrivals, outages: tuple[Outage, ...], settings: dict[str, Any]
) -> dict[str, Any]:
    """Everything that decided the result."""
    import msgspec

    curve, workload, plan = arrivals.curve, arrivals.workload, settings["plan"]
    return {
        "fleet": {"name": fleet.name, "sha256": fleet.content_hash},
        "workload": {"name": workload.name, "sha256": workload.content_hash},
        "rates": {"name": curve.name, "sha256": curve.content_hash} if curve else None,
        **{k: v for k, v in settings.items() if k != "plan"},
        "plan": _source_of(plan) if plan else None,
        "requests": arrivals.requests,
        "rate_per_s": arrivals.rate_per_s,
        "cv": arrivals.cv,
        "speed": arrivals.speed,
        "scale": arrivals.scale,
        "window_s": [arrivals.start_s, arrivals.end_s],
        "outages": [_outage(fleet, outage) for outage in outages],
        "slo": msgspec.to_builtins(fleet.slo),
    }


def _source_of(path: Path) -> dict[str, str]:
    from wattshed.files import sha256

    return {"name": str(path), "sha256": sha256(path)}


def _outage(fleet: Fleet, outage: Outage) -> dict[str, Any]:
    from wattshed.simulate.external import endpoint_names

    ends = outage.end_s < float("inf")
    return {
        "replica": endpoint_names(fleet.deployments)[outage.replica],
        "start_s": outage.start_s,
        "end_s": outage.end_s if ends else None,
        "drains": outage.drains,
    }


def sources_of(fleet: Fleet, arrivals: Arrivals) -> list[Provenance]:
    """Provenance of profiles, workload, rates and carbon signals, each once."""
    from wattshed.documents import plan_sources

    curve = [arrivals.curve.provenance] if arrivals.curve else []
    signals = [s.carbon_signal.provenance for s in fleet.sites.values() if s.carbon_signal]
    found = [*plan_sources(fleet, arrivals.workload), *curve, *signals]
    return list(dict.fromkeys(found))


def simulation_results(found: SimulationResults) -> dict[str, Any]:
    """The stable keys of `wattshed simulate --json`: all but the long series."""
    import msgspec

    results: dict[str, Any] = msgspec.to_builtins(found)
    for policy in results["policies"]:
        for key in SERIES:
            del policy[key]
    return results


def _print(found: SimulationResults, target: float) -> None:
    from wattshed.report.simulation_document import headline, modelled_of
    from wattshed.report.simulation_tables import summary_table

    print_tables([summary_table(found)])
    click.echo(headline(found, target))
    for saving in found.savings:
        click.echo(saving.sentence)
    for text in found.notes:
        note(f"note: {text}")
    for text in modelled_of(found):
        note(f"modelled: {text}")


def _write(
    found: SimulationResults,
    inputs: dict[str, Any],
    sources: list[Provenance],
    tables: RequestTables,
    folder: Path,
) -> None:
    import msgspec

    from wattshed import __version__
    from wattshed.report.simulation_document import simulation_document

    seed = inputs["seed"]
    document = simulation_document(found, sources, command_line(), seed, inputs["target"])
    content = {
        "schema": "wattshed/simulation",
        "version": 1,
        "created_by": f"wattshed {__version__}",
        "inputs": inputs,
        "seed": seed,
        "simulation": found,
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    write_folder(document, folder, {"simulation.json": encoded, **tables.by_name()})
