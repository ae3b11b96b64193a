"""How rows get into the database of a ledger: those that are there already are passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain, islice
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql

from wattshed.errors import FileError

Values = tuple[Any, ...]
"""A row, in the order of the columns of its table."""
Insert = Callable[[sql.Connection, sql.Table, Sequence[Values]], None]
TOGETHER = (128, 16, 4, 1)
"""Rows of one statement for SQLite."""


def insert_of(engine: sql.Engine) -> Insert:
    """How rows are added to a database of this kind.

    Raises
    ------
    FileError
    """
    inserts: dict[str, Insert] = {"sqlite": _into_sqlite, "postgresql": _into_postgresql}
    insert = inserts.get(engine.dialect.name)
    if insert is None:
        found = f"{engine.dialect.name} is not supported"
        raise FileError("--ledger", found, "use sqlite or postgresql")
    return insert


def values_of(table: sql.Table, row: Mapping[str, Any]) -> Values:
    """A row whose columns are named; those that are not named are null."""
    return tuple(row.get(name) for name in _names(table))


@cache
def _names(table: sql.Table) -> tuple[str, ...]:
    return tuple(column.name for column in table.columns)


def _into_sqlite(connection: sql.Connection, table: sql.Table, rows: Sequence[Values]) -> None:
    """Many rows to a statement.

    Python's lock is let go and taken again at each statement: for each row of its own, the thread
    that serves requests would lose more time to that than the row costs.
    """
    left = iter(rows)
    number = len(rows)
    for size in TOGETHER:
        for _ in range(number // size):
            values = tuple(chain.from_iterable(islice(left, size)))
            connection.exec_driver_sql(_statement(table, size), values)
        number %= size


@cache
def _statement(table: sql.Table, rows: int) -> str:
    """An insert of so many rows; every name in it is of our own tables."""
    row = f"({', '.join('?' * len(table.columns))})"
    names = ", ".join(_names(table))
    key = ", ".join(column.name for column in table.primary_key)
    values = ", ".join([row] * rows)
    return f"INSERT INTO {table.name} ({names}) VALUES {values} ON CONFLICT ({key}) DO NOTHING"  # nosec B608 # our own names


def _into_postgresql(connection: sql.Connection, table: sql.Table, rows: Sequence[Values]) -> None:
    key = [column.name for column in table.primary_key]
    insert = postgresql.insert(table).on_conflict_do_nothing(index_elements=key)
    names = _names(table)
    connection.execute(insert, [dict(zip(names, row, strict=True)) for row in rows])
