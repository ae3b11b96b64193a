"""`wattshed report`: what a ledger adds up to."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.shared import (
    command_line,
    errors_at_the_edge,
    folder_option,
    json_option,
    note,
    print_json,
    print_tables,
    write_folder,
)

if TYPE_CHECKING:
    from wattshed.fleet import Fleet
    from wattshed.records import LedgerSummary, Provenance

EXTRA = "ledgers need packages that are not installed: pip install 'wattshed[serve]'"


def _seconds(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """A time as ISO 8601 writes it, in seconds since 1970; UTC where it has no zone."""
    if value is None:
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        raise click.BadParameter(
            f"{value!r} is no time; write 2026-11-21 or 2026-11-21T17:00+01:00"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


@click.command()
@click.argument("ledger")
@click.option(
    "--since",
    "since_s",
    callback=_seconds,
    metavar="TIME",
    help="Only requests that came then or later.",
)
@click.option(
    "--until", "until_s", callback=_seconds, metavar="TIME", help="Only requests that came before."
)
@click.option(
    "--fleet",
    "fleet_source",
    default=None,
    metavar="FILE|NAME",
    help="Fleet whose sites say what the energy causes: carbon, water and cost.",
)
@click.option(
    "--export",
    "export",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="Write the rows as they are (.csv or .parquet).",
)
@folder_option()
@json_option
def report(
    *,
    ledger: str,
    since_s: float | None,
    until_s: float | None,
    fleet_source: str | None,
    export: Path | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Add up a LEDGER that wattshed serve wrote: an SQLite file, or the URL of a database.

    Requests, tokens, energy and promises kept by tenant, model, endpoint and hour, and the energy
    that was predicted against what it came to. It reads beside a gateway that runs. Times are ISO
    8601, UTC where they name no zone.

    \b
    Examples:
      wattshed report ledger.sqlite
      wattshed report ledger.sqlite --since 2026-11-21 --fleet fleet.toml -o november
      wattshed report postgresql+psycopg://me@db/wattshed --export requests.parquet
    """
    with errors_at_the_edge():
        read_rows, shown = reader()
        import msgspec

        from wattshed.errors import FileError, ParameterError
        from wattshed.serve.comparison import with_comparisons
        from wattshed.serve.rows import read_meters
        from wattshed.serve.summary import COLUMNS, summarise

        if export is not None and export.suffix not in (".csv", ".parquet"):
            found = f"unknown kind of file {export.suffix!r}"
            raise ParameterError(f"--export {export}", found, "use .csv or .parquet")
        fleet = _fleet(fleet_source)
        columns = () if export else (COLUMNS,)
        rows = read_rows(ledger, *columns, since_s=since_s, until_s=until_s)
        name = shown(ledger)
        if rows.is_empty():
            within = " within these times" if since_s is not None or until_s is not None else ""
            raise FileError(name, f"has no requests{within}", "send some, or widen the times")
        meters = read_meters(ledger, since_s, until_s)
        summary = msgspec.structs.replace(with_comparisons(summarise(rows), rows), meters=meters)
        if fleet is not None:
            from wattshed.serve.impacts import with_impacts

            summary = with_impacts(summary, rows, fleet)
        if export is not None:
            from wattshed.runs import write_runs

            write_runs(rows, export)
            note(f"rows: {export}")
        if folder:
            _write(summary, _sources(fleet), name, ledger, folder)
    if as_json:
        inputs = {
            "ledger": name,
            "since_s": since_s,
            "until_s": until_s,
            "fleet": {"name": fleet.name, "sha256": fleet.content_hash} if fleet else None,
        }
        print_json("report", inputs, _results(summary), _sources(fleet))
    else:
        _print(summary)


def reader() -> Any:
    """What reads a ledger, and what names it for people; its packages may be missing.

    Raises
    ------
    ClickException
    """
    try:
        from wattshed.serve.ledger import shown
        from wattshed.serve.rows import read_rows
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{EXTRA} ({error.name} is missing)") from None
    return read_rows, shown


def _fleet(source: str | None) -> Fleet | None:
    """The fleet that names sites.

    Raises
    ------
    FleetError
        If it names none.
    """
    if source is None:
        return None
    from wattshed.errors import FleetError
    from wattshed.fleet import load_fleet

    fleet = load_fleet(source)
    if not any(d.site for d in fleet.deployments):
        raise FleetError(source, "no deployment has a site", "add [sites.NAME] and site = NAME")
    return fleet


def _sources(fleet: Fleet | None) -> list[Provenance]:
    """Of the carbon signals."""
    sites = fleet.sites.values() if fleet else ()
    return list(dict.fromkeys(s.carbon_signal.provenance for s in sites if s.carbon_signal))


def _results(summary: LedgerSummary) -> dict[str, Any]:
    import msgspec

    results: dict[str, Any] = msgspec.to_builtins(summary)
    return results


def _print(summary: LedgerSummary) -> None:
    from wattshed.report.ledger_document import caveats, headline, ledger_tables

    print_tables(ledger_tables(summary))
    click.echo(headline(summary))
    for each in caveats(summary):
        note(f"note: {each}")


def _write(
    summary: LedgerSummary, sources: list[Provenance], name: str, ledger: str, folder: Path
) -> None:
    from wattshed.report.ledger_document import ledger_document

    # The URL may hold a password; and the name of an argument is no word of the command.
    command = command_line().replace(shlex.join(["ledger", ledger]), shlex.quote(name))
    write_folder(ledger_document(summary, sources, command, name), folder)
