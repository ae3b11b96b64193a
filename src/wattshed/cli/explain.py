"""`wattshed explain`: why a request went where it went."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wattshed.cli.report import reader
from wattshed.cli.shared import errors_at_the_edge, json_option, print_json, print_tables

if TYPE_CHECKING:
    from wattshed.records import Explanation


@click.command()
@click.argument("request_id")
@click.option(
    "--ledger",
    default="ledger.sqlite",
    show_default=True,
    metavar="LEDGER",
    help="SQLite file, or the URL of a database.",
)
@json_option
def explain(*, request_id: str, ledger: str, as_json: bool) -> None:
    """Tell why a request went where it went, and what became of it.

    REQUEST_ID is in the header X-Wattshed-Request of its answer.

    \b
    Examples:
      wattshed explain 0b8c5a9e --ledger ledger.sqlite
      wattshed explain 0b8c5a9e --json
    """
    with errors_at_the_edge():
        read_rows, shown = reader()
        from wattshed.errors import ParameterError
        from wattshed.serve.explain import explain as explained

        rows = read_rows(ledger, request=request_id)
        name = shown(ledger)
        if rows.is_empty():
            cure = "copy X-Wattshed-Request from an answer that has ended"
            raise ParameterError(name, f"no request {request_id!r}", cure)
        found = explained(rows.row(0, named=True))
    if as_json:
        import msgspec

        inputs = {"ledger": name, "request": request_id}
        print_json("explain", inputs, msgspec.to_builtins(found), [])
    else:
        _print(found)


def _print(found: Explanation) -> None:
    from wattshed.report.explanation import (
        asked_text,
        became_text,
        candidates_table,
        weighed_table,
    )

    click.echo(asked_text(found))
    tables = [table for table in (candidates_table(found), weighed_table(found)) if table.rows]
    if tables:
        print_tables(tables)
    for sentence in found.why:
        click.echo(sentence)
    click.echo(became_text(found))
