"""`wattshed doctor`: what can be measured here, what cannot, and the cure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.shared import (
    FiniteRange,
    errors_at_the_edge,
    json_option,
    note,
    print_json,
    print_tables,
    progress,
)

if TYPE_CHECKING:
    from wattshed.records import Certificate, MeterFinding
    from wattshed.report.document import Cell, Table


@click.command()
@click.option(
    "--meter",
    "meters",
    multiple=True,
    metavar="NAME[:ARGUMENT]",
    help="Examine this one, too, such as prometheus:http://HOST:9400 or replay:FILE. Repeatable.",
)
@click.option(
    "--engine",
    "engines",
    multiple=True,
    metavar="NAME[:ARGUMENT]",
    help="Open this engine, too, such as openai:http://HOST:8000/v1. Repeatable.",
)
@click.option(
    "--seconds",
    type=FiniteRange(min=0.1, max=600),
    default=2.0,
    show_default=True,
    help="How long meters are read.",
)
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the certificate there (JSON).",
)
@json_option
def doctor(
    *,
    meters: tuple[str, ...],
    engines: tuple[str, ...],
    seconds: float,
    path: Path | None,
    as_json: bool,
) -> None:
    """Examine meters, engines and permissions of this machine.

    Every meter is ok, missing, not_permitted or not_trusted, with the reason and the cure.
    Those that are there are read for a moment: how often they tick, and whether their energy
    counter agrees with their power. A meter that cannot tell says so; none answers zero.

    \b
    Examples:
      wattshed doctor
      wattshed doctor --meter prometheus:http://node7:9400/metrics
      wattshed doctor --engine openai:http://localhost:8000/v1
      wattshed doctor --meter simulated:frozen=1 --json
    """
    from wattshed.measure.doctor import (
        certify,
        examine_engines,
        examine_knobs,
        examine_meters,
        usable,
        write_certificate,
    )
    from wattshed.measure.driver import without_user

    with errors_at_the_edge():
        with progress("looking at meters") as report:
            found = examine_meters(meters, seconds=seconds, report=report)
        certificate = certify(found, examine_engines(engines), examine_knobs())
        if path:
            write_certificate(certificate, path)
            note(f"certificate: {path}")
    if as_json:
        asked = [without_user(text) for text in engines]
        inputs = {"meters": meters, "engines": asked, "seconds": seconds}
        print_json("doctor", inputs, results_of(certificate), [])
        return
    tables = [_meters_table(certificate), _engines_table(certificate), _knobs_table(certificate)]
    print_tables(tables)
    measured = usable(found)
    if measured:
        click.echo(f"Energy can be measured here, with {', '.join(f.name for f in measured)}.")
    else:
        click.echo("No meter can be used here: runs will have runtimes, and no energy.")


def results_of(certificate: Certificate) -> dict[str, Any]:
    """The stable keys of `wattshed doctor --json`."""
    import msgspec

    results: dict[str, Any] = msgspec.to_builtins(certificate)
    for key in ("schema", "created_by"):
        del results[key]
    return results


def _meters_table(certificate: Certificate) -> Table:
    from wattshed.report.document import Table

    some = any(each.health for each in certificate.meters)
    columns = ["scope", "tick (s)", "power (W)", "counter/power"] if some else []
    rows: list[list[Cell]] = [
        [
            each.name,
            each.status.replace("_", " "),
            *(_seen(each) if some else []),
            "; ".join(part for part in (each.reason, each.cure) if part) or None,
        ]
        for each in certificate.meters
    ]
    return Table("meters", "Meters", ["meter", "status", *columns, "reason and cure"], rows)


def _seen(found: MeterFinding) -> list[Cell]:
    """What a look at a meter showed."""
    info, health = found.info, found.health
    if info is None or health is None:
        return [None] * 4
    return [info.scope, health.tick_s, health.mean_power_w, health.counter_over_power]


def _engines_table(certificate: Certificate) -> Table:
    from wattshed.report.document import Table

    rows: list[list[Cell]] = [
        [e.name, e.status, "; ".join(part for part in (e.reason, e.cure, e.detail) if part)]
        for e in certificate.engines
    ]
    return Table("engines", "Engines", ["engine", "status", "reason and cure"], rows)


def _knobs_table(certificate: Certificate) -> Table:
    from wattshed.report.document import Table

    rows: list[list[Cell]] = [
        [
            k.name,
            k.status.replace("_", " "),
            k.power_limit_w,
            "; ".join(part for part in (k.reason, k.cure) if part) or None,
        ]
        for k in certificate.knobs
    ]
    columns = ["component", "status", "power limit (W)", "reason and cure"]
    return Table("knobs", "Clocks and power limits", columns, rows)
