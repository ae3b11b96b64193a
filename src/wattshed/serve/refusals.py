"""Requests that are refused before they are sent anywhere: a row for each, and of a flood a sum.

Whoever sends nonsense as fast as it can must not fill the ledger. In each second `MOST_ROWS`
requests of a kind (reason and tenant) get a row of their own; the others of that second share one,
which says how many it stands for. It is written when the second is over; kill -9 loses it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from wattshed.serve.call import Newcomer
from wattshed.serve.ledger import Ledger, requests
from wattshed.serve.refused import RefusedError

MOST_ROWS = 10
"""Rows of a kind in a second, and one more for the rest."""
LONGEST_NAME = 200
"""Characters of a model's name that are kept: clients choose it."""
BLANK = {column.name: None for column in requests.columns} | {
    "candidates": "{}",
    "tried": "{}",
    "outcome": "refused",
}


@dataclass(frozen=True)
class Kind:
    """What requests that are refused have in common."""

    reason: str
    status: int
    tenant: str


@dataclass
class Refusals:
    """Remembers who was refused in this second. It knows no clock and no ledger.

    Attributes
    ----------
    counts : Counter
        Of all that were refused, by reason and status.
    """

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    _second: int = -1
    _seen: Counter[Kind] = field(default_factory=Counter)
    _last: dict[Kind, dict[str, Any]] = field(default_factory=dict)

    def note(
        self, newcomer: Newcomer, refused: RefusedError, row_id: str, now_s: float
    ) -> list[dict[str, Any]]:
        """Rows to write when a request is refused: its own, and what earlier seconds owe.

        Parameters
        ----------
        newcomer : Newcomer
        refused : RefusedError
        row_id : str
        now_s : float
            On a clock that never jumps.
        """
        due = self.due(now_s)
        kind = Kind(refused.code or str(refused.status), refused.status, newcomer.tenant)
        self.counts[kind.reason, kind.status] += 1
        self._seen[kind] += 1
        if self._seen[kind] <= MOST_ROWS:
            return [*due, refused_row(newcomer, kind, row_id)]
        if kind not in self._last:
            self._last[kind] = refused_row(newcomer, kind, row_id)
        return due

    def due(self, now_s: float) -> list[dict[str, Any]]:
        """Rows for what was only counted in seconds that are over."""
        if int(now_s) == self._second:
            return []
        self._second = int(now_s)
        return self.rest()

    def rest(self) -> list[dict[str, Any]]:
        """Rows for what was only counted up to now: at the end."""
        rows = [
            {**row, "model": None, "path": None, "stands_for": self._seen[kind] - MOST_ROWS}
            for kind, row in self._last.items()
        ]
        self._seen.clear()
        self._last.clear()
        return rows


class Door:
    """Where requests are turned away, and a row is left, unless the ledger is full."""

    def __init__(self, ledger: Ledger) -> None:
        self.refusals, self._ledger = Refusals(), ledger

    def turn_away(
        self, newcomer: Newcomer, refused: RefusedError, row_id: str, now_s: float
    ) -> None:
        """Remember a request that gets no further."""
        self._write(self.refusals.note(newcomer, refused, row_id, now_s))

    def settle(self, now_s: float) -> None:
        """Write what was only counted in seconds that are over."""
        self._write(self.refusals.due(now_s))

    def close(self) -> None:
        """Write all that was only counted."""
        self._write(self.refusals.rest())

    def _write(self, rows: list[dict[str, Any]]) -> None:
        if not self._ledger.overflows:
            for row in rows:
                self._ledger.append(row)


def refused_row(newcomer: Newcomer, kind: Kind, row_id: str) -> dict[str, Any]:
    """The row of a request that is refused: what it was, never what it said."""
    return {
        **BLANK,
        "id": row_id,
        "arrived_at": newcomer.arrived_at,
        "tenant": newcomer.tenant,
        "path": newcomer.path,
        "model": _printable(newcomer.model),
        "reason": kind.reason,
        "status": kind.status,
    }


def _printable(name: str | None) -> str | None:
    """A name that every database takes."""
    if name is None:
        return None
    return "".join(c for c in name[:LONGEST_NAME] if c.isprintable())
