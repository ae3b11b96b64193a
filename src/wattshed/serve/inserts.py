"""How rows get into the database of a ledger: those that are there already are passed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import chain, compress, islice, repeat
from typing import Any

import sqlalchemy as sql
from sqlalchemy.dialects import postgresql

from wattshed.errors import FileError

Values = tuple[Any, ...]
"""A row, in the order of the columns of its table."""
Insert = Callable[[sql.Connection, sql.Table, Sequence[Values]], None]
MOST_ROWS, MOST_VALUES = 1024, 32_766
"""Of one statement for SQLite."""


def insert_of(engine: sql.Engine) -> Insert:
    """How rows are added to a database of this kind.

    Raises
    ------
    FileError
    """
    inserts: dict[str, Insert] = {"sqlite": IntoSqlite().insert, "postgresql": _into_postgresql}
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


class IntoSqlite:
    """Many rows to a statement, and what all of them have in common given once.

    Python's lock is let go and taken again at each step of a statement. Each time the thread that
    serves requests hands it over and waits for it, for longer than a row costs. So one statement
    takes any number of rows. While values are handed over the lock is held: each of them counts.
    """

    def __init__(self) -> None:
        self._varying: dict[sql.Table, list[bool]] = {}

    def insert(self, connection: sql.Connection, table: sql.Table, rows: Sequence[Values]) -> None:
        """Add rows to a table."""
        columns = list(zip(*rows, strict=True))
        varying = tuple(self._note(table, columns))
        common = [column[0] for column, varies in zip(columns, varying, strict=True) if not varies]
        own = zip(*compress(columns, varying), strict=True)
        wide = sum(varying)
        most = min(MOST_ROWS, (MOST_VALUES - len(common)) // wide)
        for first in range(0, len(rows), most):
            number = min(most, len(rows) - first)
            size = min(most, 1 << (number - 1).bit_length())  # few sizes: each is prepared once
            filled = chain.from_iterable(islice(own, number))
            values = (*common, *filled, *repeat(None, (size - number) * wide))
            connection.exec_driver_sql(_statement(table, varying, size), values)

    def _note(self, table: sql.Table, columns: Sequence[Values]) -> list[bool]:
        """Which columns vary within a commit, or have in an earlier one.

        What has varied once counts as varying: there are few statements, and they are prepared.
        """
        before = self._varying.get(table) or [c.primary_key for c in table.columns]
        found = [
            varied or column.count(column[0]) < len(column)
            for varied, column in zip(before, columns, strict=True)
        ]
        self._varying[table] = found
        return found


@cache
def _statement(table: sql.Table, varying: tuple[bool, ...], rows: int) -> str:
    """An insert of at most so many rows: what has no key is none. Its names are our tables' own."""
    names = _names(table)
    own = list(compress(names, varying))
    common = [name for name, varies in zip(names, varying, strict=True) if not varies]
    taken = ", ".join(["each.*", *("?" * len(common))])
    row = f"({', '.join('?' * len(own))})"
    values = ", ".join([row] * rows)
    key = [column.name for column in table.primary_key]
    there = f"each.column{1 + own.index(key[0])} IS NOT NULL"
    return (
        f"INSERT INTO {table.name} ({', '.join([*own, *common])}) SELECT {taken}"  # nosec B608 # our own names
        f" FROM (VALUES {values}) AS each WHERE {there} ON CONFLICT ({', '.join(key)}) DO NOTHING"
    )


def _into_postgresql(connection: sql.Connection, table: sql.Table, rows: Sequence[Values]) -> None:
    key = [column.name for column in table.primary_key]
    insert = postgresql.insert(table).on_conflict_do_nothing(index_elements=key)
    names = _names(table)
    connection.execute(insert, [dict(zip(names, row, strict=True)) for row in rows])
