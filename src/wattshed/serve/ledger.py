"""The ledger: one row for each request, appended by a thread of its own and never changed.

What meters say comes later, window by window: a row of `windows`, and one of `metered` for each
request that was there, in one commit, so that they always add up.

Rows are committed together, at most `interval_s` after they were appended (100 ms unless told) or
as long as a commit takes. What was appended longer ago survives the end of the process, however it
ends; SQLite writes its log through to the disk at each commit, so that it survives a loss of power,
too. A commit that fails is tried again with the same rows; their ids are unique, and a row that is
there already is not added again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sql

from wattshed.errors import FileError, ParameterError
from wattshed.serve.inserts import Values, insert_of, values_of

log = logging.getLogger("wattshed.serve")
LARGEST_BACKLOG = 100_000
"""Rows that may wait for a disk that fails; then requests are refused."""
BATCH = 2_000
"""Rows of one commit."""

LATER = {"later": True}
"""Marks columns that older ledgers lack: they are added when one is opened, and read as null."""

metadata = sql.MetaData()
requests = sql.Table(
    "requests",
    metadata,
    sql.Column("id", sql.String(40), primary_key=True),
    sql.Column("arrived_at", sql.Double, nullable=False, index=True),
    sql.Column("sent_s", sql.Double),
    sql.Column("first_s", sql.Double),
    sql.Column("end_s", sql.Double),
    sql.Column("tenant", sql.Text),
    sql.Column("path", sql.Text),
    sql.Column("model", sql.Text),
    sql.Column("slo_class", sql.Text),
    sql.Column("deadline_s", sql.Double),
    sql.Column("policy", sql.Text),
    sql.Column("endpoint", sql.Text),
    sql.Column("deployment", sql.Text),
    sql.Column("shadow_endpoint", sql.Text),
    sql.Column("candidates", sql.Text),
    sql.Column("tried", sql.Text),
    sql.Column("input_estimate", sql.BigInteger),
    sql.Column("expected_output_tokens", sql.Double),
    sql.Column("late_output_tokens", sql.Double),
    sql.Column("input_tokens", sql.BigInteger),
    sql.Column("output_tokens", sql.BigInteger),
    sql.Column("tokens_counted", sql.Boolean),
    sql.Column("joules", sql.Double),
    sql.Column("idle_joules", sql.Double),
    sql.Column("low_joules", sql.Double),
    sql.Column("high_joules", sql.Double),
    sql.Column("energy_method", sql.Text),
    sql.Column("boundary", sql.Text),
    sql.Column("extrapolated", sql.Boolean),
    sql.Column("kept", sql.Boolean),
    sql.Column("outcome", sql.Text, nullable=False),
    sql.Column("status", sql.Integer, nullable=False),
    sql.Column("energy_weight", sql.Double, info=LATER),
    sql.Column("greenest", sql.Boolean, info=LATER),
    sql.Column("arm", sql.Text, info=LATER),
    sql.Column("reason", sql.Text, info=LATER),
    sql.Column("stands_for", sql.Integer, info=LATER),
)

windows = sql.Table(
    "windows",
    metadata,
    sql.Column("id", sql.String(40), primary_key=True),
    sql.Column("meter", sql.Text, nullable=False),
    sql.Column("endpoints", sql.Text, nullable=False),
    sql.Column("began_at", sql.Double, nullable=False, index=True),
    sql.Column("ended_at", sql.Double, nullable=False),
    sql.Column("joules", sql.Double),
    sql.Column("low_joules", sql.Double),
    sql.Column("high_joules", sql.Double),
    sql.Column("idle_joules", sql.Double),
    sql.Column("unattributed_joules", sql.Double),
    sql.Column("method", sql.Text),
    sql.Column("kind", sql.Text),
    sql.Column("boundary", sql.Text),
    sql.Column("flags", sql.Text),
)
metered = sql.Table(
    "metered",
    metadata,
    sql.Column("id", sql.String(40), primary_key=True),
    sql.Column("window", sql.String(40), primary_key=True),
    sql.Column("endpoint", sql.String(200), primary_key=True),
    sql.Column("joules", sql.Double),
    sql.Column("idle_joules", sql.Double),
    sql.Column("low_joules", sql.Double),
    sql.Column("high_joules", sql.Double),
    sql.Column("energy_method", sql.Text),
    sql.Column("boundary", sql.Text),
    sql.Column("ended", sql.Boolean, nullable=False),
    sql.Column("whole", sql.Boolean, nullable=False),
)
TABLES = (requests, windows, metered)
Rows = Sequence[tuple[sql.Table, dict[str, Any]]]


class Ledger:
    """Appends rows without waiting for the disk.

    Parameters
    ----------
    url : str
        An SQLite file, or what SQLAlchemy understands, such as ``postgresql+psycopg://...``.
    interval_s : float
        Longest time from a row to its commit.

    Raises
    ------
    FileError
        If the database cannot be opened.
    """

    def __init__(self, url: str, interval_s: float = 0.1) -> None:
        self.url, self._engine = url, open_database(url)
        self._interval_s = interval_s
        self._insert = insert_of(self._engine)
        # Any thread appends; only the writer deletes. Each does so in one step of the interpreter.
        self._requests: list[Values] = []
        self._together: list[Rows] = []
        self._some, self._stop = threading.Event(), threading.Event()
        self.error: str | None = None
        self._writer = threading.Thread(target=self._write, name="ledger", daemon=True)
        self._writer.start()

    def append(self, row: Mapping[str, Any]) -> None:
        """Add a row of a request; columns that it does not name are null."""
        self.append_values(values_of(requests, row))

    def append_values(self, row: Values) -> None:
        """Add a row of a request, in the order of the columns of `requests`."""
        self._requests.append(row)
        if not self._some.is_set():  # to set it takes three times as long as to look
            self._some.set()

    def append_together(self, rows: Rows) -> None:
        """Add rows that are committed together or not at all."""
        self._together.append(rows)
        self._some.set()

    @property
    def backlog(self) -> int:
        """Rows that are not committed, or groups of them that are committed together."""
        return len(self._requests) + len(self._together)

    @property
    def overflows(self) -> bool:
        """Whether it can take no more."""
        return self.backlog >= LARGEST_BACKLOG

    def close(self, seconds: float = 10.0) -> int:
        """Commit what is there, and close. Returns the rows that could not be committed."""
        self._stop.set()
        self._some.set()
        self._writer.join(seconds)
        self._engine.dispose()
        return self.backlog

    def _write(self) -> None:
        due_s = 0.0
        while not self._stop.is_set():
            self._some.wait()
            now_s = time.monotonic()
            self._stop.wait(due_s - now_s)  # so that more rows share a commit
            due_s = max(now_s, due_s) + self._interval_s
            self._some.clear()
            self._commit_all()
        if self.error is None:
            self._commit_all()  # what came during the last one

    def _commit_all(self) -> None:
        """Commit what is there, and leave what comes meanwhile to the next turn."""
        there = self.backlog
        while there > 0:
            single, groups = self._requests[:BATCH], self._together[:BATCH]
            if not self._commit(single, groups):
                self._some.set()  # and again after the interval
                return
            del self._requests[: len(single)]
            del self._together[: len(groups)]
            there -= len(single) + len(groups)

    def _commit(self, single: list[Values], groups: list[Rows]) -> bool:
        rows: dict[sql.Table, list[Values]] = {table: [] for table in TABLES}
        rows[requests] += single
        for table, row in (each for group in groups for each in group):
            rows[table].append(values_of(table, row))
        try:
            with self._engine.begin() as connection:
                for table, those in rows.items():
                    if those:
                        self._insert(connection, table, those)
        except (sql.exc.SQLAlchemyError, ValueError, OverflowError) as error:
            if self.error is None:
                log.warning("the ledger cannot be written, rows are kept: %s", _first_line(error))
            self.error = _first_line(error)
            return False
        self.error = None
        return True


def database_url(source: str) -> sql.URL:
    """The URL of a ledger that is given as one, or as an SQLite file.

    Raises
    ------
    ParameterError
    """
    if "://" not in source:
        return sql.URL.create("sqlite", database=source)
    try:
        return sql.make_url(source)
    except (sql.exc.ArgumentError, ValueError):
        cure = "write it as postgresql+psycopg://user@host/name"
        raise ParameterError("the ledger", "is no URL of a database", cure) from None


def shown(source: str) -> str:
    """A ledger's name for people: no password."""
    return database_url(source).render_as_string() if "://" in source else source


def open_database(url: str) -> sql.Engine:
    """Open a ledger, and make its tables if there are none.

    Raises
    ------
    FileError
    """
    try:
        engine = sql.create_engine(database_url(url), hide_parameters=True)
        if engine.dialect.name == "sqlite":
            _refuse_memory(engine)
            sql.event.listen(engine, "connect", _durable)
        metadata.create_all(engine)
        _add_later_columns(engine)
    except (sql.exc.SQLAlchemyError, ImportError) as error:
        found = f"cannot be opened: {_first_line(error)}"
        cure = "give a file such as ledger.sqlite, in a folder that can be written"
        raise FileError(f"--ledger {shown(url)}", found, cure) from None
    return engine


def _add_later_columns(engine: sql.Engine) -> None:
    """Bring an older ledger up to date; its rows stay as they are."""
    there = {column["name"] for column in sql.inspect(engine).get_columns(requests.name)}
    missing = [c for c in requests.columns if c.info == LATER and c.name not in there]
    # Two gateways may open one; SQLite has no such words, and is for one gateway.
    add = "ADD COLUMN IF NOT EXISTS" if engine.dialect.name == "postgresql" else "ADD COLUMN"
    with engine.begin() as connection:
        for column in missing:
            words = sql.schema.CreateColumn(column).compile(dialect=engine.dialect)
            connection.execute(sql.text(f"ALTER TABLE {requests.name} {add} {words}"))


def _refuse_memory(engine: sql.Engine) -> None:
    if engine.url.database in (None, "", ":memory:"):
        found, cure = "a database in memory", "give a file, such as ledger.sqlite"
        raise FileError("--ledger", found, cure)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def _durable(connection: Any, _record: Any) -> None:
    """Readers and the writer do not wait for each other; each commit reaches the disk."""
    cursor = connection.cursor()
    for setting in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=5000"):
        cursor.execute(f"PRAGMA {setting}")
    cursor.close()
