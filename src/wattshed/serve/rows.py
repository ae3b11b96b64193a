"""Read a ledger, beside the gateway that writes it: nothing is locked and nothing is changed."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import sqlalchemy as sql

from wattshed.errors import FileError
from wattshed.records import LedgerMeter
from wattshed.serve.ledger import LATER, database_url, requests, shown
from wattshed.serve.metered import MODELLED, energies, meters

BATCH = 50_000
"""Rows that are read at once."""
CURE = "give the file or URL that wattshed serve --ledger writes"
TYPES: dict[type, type[pl.DataType]] = {
    str: pl.String,
    float: pl.Float64,
    int: pl.Int64,
    bool: pl.Boolean,
}
SCHEMA = {c.name: TYPES[c.type.python_type] for c in requests.columns} | {MODELLED: pl.Float64}


def read_rows(
    source: str,
    columns: Sequence[str] = tuple(SCHEMA),
    *,
    since_s: float | None = None,
    until_s: float | None = None,
    request: str | None = None,
) -> pl.DataFrame:
    """Rows of a ledger in order of arrival, with metered energies where these are known.

    Parameters
    ----------
    source : str
        SQLite file, or URL of SQLAlchemy.
    columns : sequence of str
    since_s, until_s : float, optional
        Arrival, seconds since 1970; from the first on, before the second.
    request : str, optional
        Id of the only row to read.

    Raises
    ------
    FileError
        If it cannot be read, or is no ledger.
    """
    conditions = []
    if since_s is not None:
        conditions.append(requests.c.arrived_at >= since_s)
    if until_s is not None:
        conditions.append(requests.c.arrived_at < until_s)
    if request is not None:
        conditions.append(requests.c.id == request)
    schema = {name: SCHEMA[name] for name in columns}
    with reading(source) as connection:
        only = None if request is None else [request]
        asked = energies(connection, columns, only).where(*conditions)
        found = connection.execute(asked.order_by(requests.c.arrived_at, requests.c.id))
        batches = [
            pl.DataFrame([tuple(row) for row in rows], schema, orient="row")
            for rows in found.partitions(BATCH)
        ]
    return pl.concat(batches) if batches else pl.DataFrame(schema=schema)


def read_meters(
    source: str, since_s: float | None = None, until_s: float | None = None
) -> list[LedgerMeter]:
    """What meters said within some time; see `read_rows`."""
    with reading(source) as connection:
        return meters(connection, since_s, until_s)


@contextmanager
def reading(source: str) -> Iterator[sql.Connection]:
    """A connection that cannot write.

    Raises
    ------
    FileError
    """
    label = shown(source)
    try:
        engine = _engine(source, label)
        with engine.connect() as connection:
            _refuse_others(connection, label)
            yield connection.execution_options(stream_results=True)
    except (sql.exc.SQLAlchemyError, ImportError) as error:
        cause = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise FileError(label, f"cannot be read: {cause}", CURE) from None


def _engine(source: str, label: str) -> sql.Engine:
    url = database_url(source)
    kind = url.get_backend_name()
    if kind == "postgresql":
        only_reads = {"postgresql_readonly": True}
        return sql.create_engine(
            url, execution_options=only_reads, hide_parameters=True, poolclass=sql.NullPool
        )
    if kind != "sqlite":
        raise FileError(label, f"{kind} is not supported", "use sqlite or postgresql")
    path = Path(url.database or "")
    if not path.is_file():
        found = "is a folder" if url.database and path.is_dir() else "there is no such file"
        raise FileError(label, found, CURE)
    place = f"{path.absolute().as_uri()}?{_mode(path)}"
    return sql.create_engine(
        "sqlite://",
        creator=lambda: sqlite3.connect(place, uri=True, timeout=5),
        poolclass=sql.NullPool,
    )


def _mode(path: Path) -> str:
    """How SQLite is to open a ledger."""
    # It shares its log through a file beside the ledger, also with those who only read. Where that
    # file cannot be made no gateway writes, and without a log the ledger is whole.
    log = path.with_name(f"{path.name}-wal")
    effective = os.access in os.supports_effective_ids
    kept = not log.exists() and not os.access(path.parent, os.W_OK, effective_ids=effective)
    return "immutable=1" if kept else "mode=ro"


def _refuse_others(connection: sql.Connection, label: str) -> None:
    """Refuse a database that no gateway made.

    Raises
    ------
    FileError
    """
    inspector = sql.inspect(connection)
    if not inspector.has_table(requests.name):
        raise FileError(label, f"is not a ledger: it has no table {requests.name}", CURE)
    there = {column["name"] for column in inspector.get_columns(requests.name)}
    missing = [c.name for c in requests.columns if c.info != LATER and c.name not in there]
    if missing:
        raise FileError(label, f"is not a ledger: no column {missing[0]}", CURE)
