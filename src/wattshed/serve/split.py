"""A window of a meter that was split among requests, and its rows in the ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from wattshed.measure.clock import NS_PER_S
from wattshed.serve.attribution import Shares
from wattshed.serve.gauge import Closed
from wattshed.serve.ledger import Rows, metered, windows
from wattshed.serve.metered import SUMS
from wattshed.serve.stays import Stay

if TYPE_CHECKING:
    from wattshed.serve.metering import Watch


@dataclass(frozen=True)
class Split:
    """A window that was split.

    Attributes
    ----------
    shares : Shares or None
        None where the meter said nothing that can be used.
    stays : list of Stay
        That were there; `shares.parts` is in their order.
    """

    id: str
    watch: Watch
    closed: Closed
    shares: Shares | None
    stays: list[Stay]

    def ended(self, stay: Stay) -> bool:
        """Whether nothing will come of a request in later windows."""
        return stay.end_s is not None and stay.end_s <= self.closed.end_ns / NS_PER_S


def rows_of(split: Split) -> Rows:
    """Rows of the ledger: the window, and each request that was there."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for i, stay in enumerate(split.stays):
        row, before = _share_row(split, i), found.get((stay.id, stay.endpoint))
        found[stay.id, stay.endpoint] = row if before is None else _both(before, row)
    return [(windows, _window_row(split)), *((metered, row) for row in found.values())]


def _window_row(split: Split) -> dict[str, Any]:
    closed, shares, watch = split.closed, split.shares, split.watch
    energy = closed.energy
    return {
        "id": split.id,
        "meter": watch.text,
        "endpoints": msgspec.json.encode(list(watch.covered)).decode(),
        "began_at": closed.began_at,
        "ended_at": closed.ended_at,
        "joules": energy.value_j,
        "low_joules": energy.low_j,
        "high_joules": energy.high_j,
        "idle_joules": math.fsum(shares.idle_j.values()) if shares else None,
        "unattributed_joules": shares.unattributed_j if shares else None,
        "method": energy.method,
        "kind": energy.kind,
        "boundary": watch.boundary,
        "flags": ",".join(energy.flags),
    }


def _share_row(split: Split, i: int) -> dict[str, Any]:
    stay, share = split.stays[i], split.shares.parts[i] if split.shares else None
    known = share is not None and split.watch.idle_is_known(stay.endpoint)
    return {
        "id": stay.id,
        "window": split.id,
        "endpoint": stay.endpoint,
        "joules": share.joules if share else None,
        "idle_joules": share.idle_joules if share and known else None,
        "low_joules": share.low_j if share else None,
        "high_joules": share.high_j if share else None,
        "energy_method": split.watch.method,
        "boundary": split.watch.boundary,
        "ended": split.ended(stay),
        "whole": stay.whole,
    }


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A request that was sent to an endpoint twice in a window."""
    sums = {
        name: None if one[name] is None or other[name] is None else one[name] + other[name]
        for name in SUMS
    }
    whole = {"ended": one["ended"] and other["ended"], "whole": one["whole"] and other["whole"]}
    return {**other, **sums, **whole}
