"""What `wattshed simulate` prints and writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.shared import command_line, note, print_tables, write_folder

if TYPE_CHECKING:
    import polars as pl

    from wattshed.fleet import Fleet
    from wattshed.records import Provenance, SimulationResults
    from wattshed.simulate.model import Outage
    from wattshed.simulate.scenario import Arrivals

PARQUET_ABOVE = 100_000
"""Rows; a table of more requests is written as Parquet, a smaller one as CSV."""
SHOWN_MODELLED = 3
"""Of the parts that rest on assumptions, each with its source."""
SERIES = ("stack", "cdf")
"""Long series of a contender, which stand in simulation.json only."""


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
        "load": arrivals.load,
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


def print_simulation(found: SimulationResults, target: float) -> None:
    """Table and sentences on stdout, what to know of them on stderr."""
    from wattshed.report.simulation_document import headline, modelled_of
    from wattshed.report.simulation_tables import comparable, summary_table

    print_tables([summary_table(found)])
    text = headline(found, target)
    click.echo(text)
    for saving in comparable(found):
        if saving.sentence not in text:
            click.echo(saving.sentence)
    for each in found.notes:
        note(f"note: {each}")
    modelled = modelled_of(found)
    for each in modelled[:SHOWN_MODELLED]:
        note(f"modelled: {each}")
    if len(modelled) > SHOWN_MODELLED:
        note(f"modelled: {len(modelled) - SHOWN_MODELLED} more, in the report and in --json")


def write_simulation(
    found: SimulationResults,
    inputs: dict[str, Any],
    sources: list[Provenance],
    tables: dict[str, bytes],
    folder: Path,
) -> None:
    """The report, simulation.json, and the requests by name of their file."""
    import msgspec

    from wattshed import __version__
    from wattshed.report.simulation_document import Aim, simulation_document

    seed = inputs["seed"]
    aim = Aim(inputs["target"], inputs["every_token"])
    document = simulation_document(found, sources, command_line(), seed, aim)
    content = {
        "schema": "wattshed/simulation",
        "version": 1,
        "created_by": f"wattshed {__version__}",
        "inputs": inputs,
        "seed": seed,
        "simulation": found,
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    write_folder(document, folder, {"simulation.json": encoded, **tables})
