"""Look for requests in the ledger, beside the gateway that writes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import sqlalchemy as sql

from wattshed.errors import ParameterError
from wattshed.serve.ledger import requests
from wattshed.serve.metered import energies
from wattshed.serve.rows import reading

MOST_ROWS = 200
LONGEST_S = 5.0
STEPS = 10_000
"""Of SQLite's machine, between two looks at the clock: less than a millisecond."""
ID_LENGTH = 32
"""Of what the gateway gives requests."""
SHOWN = (
    "id",
    "arrived_at",
    "tenant",
    "model",
    "policy",
    "endpoint",
    "shadow_endpoint",
    "input_tokens",
    "output_tokens",
    "first_s",
    "end_s",
    "joules",
    "idle_joules",
    "energy_method",
    "boundary",
    "kept",
    "outcome",
    "status",
    "reason",
    "arm",
)
"""Columns that are shown."""


def find_requests(
    source: str,
    *,
    prefix: str = "",
    tenant: str | None = None,
    endpoint: str = "",
    most: int = 50,
    seconds: float = LONGEST_S,
) -> list[dict[str, Any]]:
    """The latest rows of a ledger that fit, with metered energies where these are known.

    Parameters
    ----------
    source : str
        SQLite file, or URL of SQLAlchemy.
    prefix : str
        First letters of the request's id.
    tenant : str, optional
        Exactly; any if None.
    endpoint : str
        Its name, or that of a deployment; any if empty.
    most : int
        Rows, no more than `MOST_ROWS`.
    seconds : float
        How long SQLite may look; a ledger of a million rows takes about one.

    Raises
    ------
    FileError
        If the ledger cannot be read.
    ParameterError
        If it takes longer.
    """
    asked = sql.select(requests.c.id)
    if len(prefix) >= ID_LENGTH:  # found at once
        asked = asked.where(requests.c.id == prefix)
    elif prefix:
        asked = asked.where(requests.c.id.startswith(prefix, autoescape=True))
    if tenant is not None:
        asked = asked.where(requests.c.tenant == tenant)
    if endpoint:
        named = sql.or_(requests.c.endpoint == endpoint, requests.c.deployment == endpoint)
        asked = asked.where(named)
    latest = asked.order_by(requests.c.arrived_at.desc()).limit(max(1, min(most, MOST_ROWS)))
    with reading(source) as connection:
        late = _ended_after(connection, seconds)
        try:
            return _rows(connection, connection.execute(latest).scalars().all())
        except sql.exc.OperationalError:
            if not late():
                raise
            cure = "give a whole id, or export the ledger with wattshed report --export"
            raise ParameterError("search", f"took longer than {seconds:g} s", cure) from None


def _rows(connection: sql.Connection, ids: Sequence[str]) -> list[dict[str, Any]]:
    """What is shown of requests; in the order of their ids."""
    asked = energies(connection, SHOWN, ids).where(requests.c.id.in_(ids))
    by_id = {row["id"]: dict(row) for row in connection.execute(asked).mappings()}
    return [by_id[id_] for id_ in ids]


def _ended_after(connection: sql.Connection, seconds: float) -> Callable[[], bool]:
    """Have SQLite give up; says whether it is time to. Other databases have their own limits."""
    until_s = time.monotonic() + seconds

    def late() -> bool:
        return time.monotonic() >= until_s

    if connection.dialect.name == "sqlite":
        driver: Any = connection.connection.driver_connection
        driver.set_progress_handler(late, STEPS)
    return late
