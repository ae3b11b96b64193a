"""What meters said, as a ledger has it: energies of requests, and whether all of it adds up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sql

from wattshed.records import LedgerMeter
from wattshed.serve.ledger import metered, requests, windows

MODELLED = "modelled_joules"
"""What the profile says of a request; `joules` is what was metered, where that is known."""
ATTRIBUTED, ESTIMATED = "attributed", "estimated"
"""Metered, and split by the steps of the profile; or by time alone, where it knows none."""
SUMS = ("joules", "idle_joules", "low_joules", "high_joules")
WORDS = ("energy_method", "boundary")


def energies(
    connection: sql.Connection, names: Sequence[str], only: Sequence[str] | None = None
) -> sql.Select[Any]:
    """A query of the columns of requests that has what was metered in place of what was modelled.

    A request has what was metered of it once it is over, if all of its time was metered, at the
    endpoint that served it and at those that failed it. Where the ids are given of all that are
    asked for, no others are read.
    """
    inspector = sql.inspect(connection)
    there = {column["name"] for column in inspector.get_columns(requests.name)}
    if not inspector.has_table(metered.name):  # an older ledger
        return sql.select(*(_modelled(name, there) for name in names))
    found = _totals(only)
    columns = [
        sql.func.coalesce(found.c[name], requests.c[name]).label(name)
        if name in WORDS
        else sql.case((found.c.id.is_(None), requests.c[name]), else_=found.c[name]).label(name)
        if name in SUMS
        else _modelled(name, there)
        for name in names
    ]
    ended = sql.exists().where(
        metered.c.id == requests.c.id,
        metered.c.endpoint == requests.c.endpoint,
        metered.c.ended.is_(True),
    )
    same = (found.c.id == requests.c.id) & ended
    return sql.select(*columns).select_from(requests.outerjoin(found, same))


def _modelled(name: str, there: Collection[str]) -> sql.ColumnElement[Any]:
    """A column as it is selected: null where the ledger is older than it is."""
    if name == MODELLED:
        return requests.c.joules.label(MODELLED)
    return requests.c[name] if name in there else sql.null().label(name)


def _totals(only: Sequence[str] | None) -> sql.Subquery:
    """Requests whose whole time was metered; or some of them, so that no other has to be read."""
    asked = [] if only is None else [metered.c.id.in_(only)]
    known = sql.func.min(sql.case((metered.c.whole, 1), else_=0)) == 1
    sums = (_sum(metered.c[name]).label(name) for name in SUMS)
    words = (sql.func.max(metered.c[name]).label(name) for name in WORDS)
    return (
        sql.select(metered.c.id, *sums, *words).where(*asked).group_by(metered.c.id).having(known)
    ).subquery()


def _sum(column: sql.ColumnElement[Any]) -> sql.ColumnElement[Any]:
    """A sum that is not known where a part is not."""
    return sql.case((sql.func.count(column) == sql.func.count(), sql.func.sum(column)))


def meters(
    connection: sql.Connection, since_s: float | None, until_s: float | None
) -> list[LedgerMeter]:
    """What each meter said within some time, and where it went."""
    if not sql.inspect(connection).has_table(windows.name):
        return []
    within = [windows.c.began_at >= since_s] if since_s is not None else []
    within += [windows.c.began_at < until_s] if until_s is not None else []
    given = (
        sql.select(
            metered.c.window,
            sql.func.sum(metered.c.joules).label("joules"),
            sql.func.sum(metered.c.idle_joules).label("idle"),
        )
        .group_by(metered.c.window)
        .subquery()
    )
    said = windows.c.joules.is_not(None)
    seconds = windows.c.ended_at - windows.c.began_at
    names = (windows.c.meter, windows.c.endpoints, windows.c.boundary, windows.c.kind)
    columns = [
        *names,
        _total(sql.case((said, seconds))),
        _total(sql.case((~said, seconds))),
        *(_total(sql.case((said, windows.c[n]))) for n in ("joules", "low_joules", "high_joules")),
        _total(given.c.joules),
        _total(given.c.idle),
        _total(windows.c.idle_joules),
        _total(windows.c.unattributed_joules),
    ]
    joined = windows.outerjoin(given, given.c.window == windows.c.id)
    asked = sql.select(*columns).select_from(joined).where(*within).group_by(*names)
    return [LedgerMeter(*row) for row in connection.execute(asked.order_by(windows.c.meter))]


def _total(column: sql.ColumnElement[Any]) -> sql.ColumnElement[Any]:
    return sql.func.coalesce(sql.func.sum(column), 0.0)
