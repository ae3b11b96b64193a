"""How rows get into the database of a ledger: those that are there already are passed over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from itertools import islice
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql

from wattshed.errors import FileError

Row = dict[str, Any]
Insert = Callable[[sql.Connection, sql.Table, Sequence[Row]], None]
TOGETHER = (128, 16, 1)
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


def _into_sqlite(connection: sql.Connection, table: sql.Table, rows: Sequence[Row]) -> None:
    """Many rows to a statement.

    Python's lock is let go and taken again at each statement: for each row of its own, the thread
    that serves requests would lose more time to that than the row costs.
    """
    names = [column.name for column in table.columns]
    left = iter(rows)
    number = len(rows)
    for size in TOGETHER:
        for _ in range(number // size):
            values = tuple(row.get(name) for row in islice(left, size) for name in names)
            connection.exec_driver_sql(_statement(table, size), values)
        number %= size


@cache
def _statement(table: sql.Table, rows: int) -> str:
    """An insert of so many rows; every name in it is of our own tables."""
    row = f"({', '.join('?' * len(table.columns))})"
    names = ", ".join(column.name for column in table.columns)
    key = ", ".join(column.name for column in table.primary_key)
    values = ", ".join([row] * rows)
    return f"INSERT INTO {table.name} ({names}) VALUES {values} ON CONFLICT ({key}) DO NOTHING"  # nosec B608 # our own names


def _into_postgresql(connection: sql.Connection, table: sql.Table, rows: Sequence[Row]) -> None:
    key = [column.name for column in table.primary_key]
    insert = postgresql.insert(table).on_conflict_do_nothing(index_elements=key)
    connection.execute(insert, rows)
