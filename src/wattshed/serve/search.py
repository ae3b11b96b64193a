"""Look for requests in the ledger, beside the gateway that writes it."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sql

from wattshed.serve.ledger import requests
from wattshed.serve.rows import reading

MOST_ROWS = 200
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
)
"""Columns that are shown."""


def find_requests(
    source: str,
    *,
    prefix: str = "",
    tenant: str | None = None,
    endpoint: str = "",
    most: int = 50,
) -> list[dict[str, Any]]:
    """The latest rows of a ledger that fit.

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

    Raises
    ------
    FileError
        If the ledger cannot be read.
    """
    asked = sql.select(*(requests.c[name] for name in SHOWN))
    if prefix:
        asked = asked.where(requests.c.id.startswith(prefix, autoescape=True))
    if tenant is not None:
        asked = asked.where(requests.c.tenant == tenant)
    if endpoint:
        named = sql.or_(requests.c.endpoint == endpoint, requests.c.deployment == endpoint)
        asked = asked.where(named)
    latest = asked.order_by(requests.c.arrived_at.desc()).limit(max(1, min(most, MOST_ROWS)))
    with reading(source) as connection:
        return [dict(row) for row in connection.execute(latest).mappings()]
