"""What became of the requests of a replay: one row for each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import Array
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.drivers.openai_stream import Tally
from wattshed.simulate.layout import FATES
from wattshed.simulate.model import Requests
from wattshed.simulate.result import Timed

UNFINISHED, SERVED, REJECTED, LOST = range(len(FATES))


class Receipt(msgspec.Struct, frozen=True):
    """``usage.energy`` of an answer, as `wattshed serve` words it."""

    joules: float
    idle_joules: float | None = None
    low: float | None = None
    high: float | None = None
    method: str = ""
    boundary: str = ""


@dataclass
class Trip:
    """A request on its way; times in ns of one monotonic clock.

    Attributes
    ----------
    sent_ns : int or None
        None until it is sent.
    ended : bool
        Whether it is known what became of it.
    status : int or None
        Of HTTP.
    error : str
        Why it failed.
    """

    tally: Tally = field(default_factory=Tally)
    sent_ns: int | None = None
    ended: bool = False
    status: int | None = None
    error: str = ""
    endpoint: str | None = None
    id: str | None = None

    @property
    def fate(self) -> int:
        """As simulations have it: refused before its first token, or lost after it."""
        if not self.ended:
            return UNFINISHED
        if not self.error:
            return SERVED
        return LOST if self.tally.arrived_ns else REJECTED

    @property
    def receipt(self) -> Receipt | None:
        """The energy of its answer, if that told it."""
        try:
            return msgspec.convert(self.tally.energy, Receipt | None)
        except msgspec.ValidationError:
            return None


@dataclass(frozen=True)
class Replay(Timed):
    """Requests (Q) as their client saw them; what is not known is nan, or None.

    Times count from when the first request was due, and latencies from when each was.

    Attributes
    ----------
    gap_s : array
        All times between tokens of requests that were served.
    low_j, high_j : arrays (Q,)
        Ends of the intervals of `dynamic_energy_j`.
    input_counted, output_counted : arrays (Q,)
        Tokens as the server counts.
    end_s : float
        When the last answer was complete, or the last request was sent.
    """

    requests: Requests
    fate: NDArray[np.int64]
    sent_s: Array
    first_token_s: Array
    finish_s: Array
    longest_gap_s: Array
    gap_s: Array
    dynamic_energy_j: Array
    static_energy_j: Array
    low_j: Array
    high_j: Array
    input_counted: Array
    output_counted: Array
    trips: tuple[Trip, ...]
    receipts: tuple[Receipt | None, ...]
    end_s: float
    partial: bool

    @property
    def served(self) -> NDArray[np.bool_]:
        """Which requests were served, (Q,)."""
        return np.asarray(self.fate == SERVED)

    @property
    def lag_s(self) -> Array:
        """How late it was sent, (Q,)."""
        return self.sent_s - self.requests.arrival_s

    @property
    def charged_energy_j(self) -> Array:
        """Dynamic and static energy together, (Q,)."""
        return self.dynamic_energy_j + self.static_energy_j


def conclude(
    requests: Requests, trips: list[Trip], begun_ns: int, engine_speed: float, *, partial: bool
) -> Replay:
    """Turn what was seen into a record.

    Parameters
    ----------
    requests : Requests
        Of which as many were sent as there are trips.
    begun_ns : int
        When the first was due.
    engine_speed : float
        Seconds of the engines in one of ours; all times are told in theirs.
    """

    def since(t_ns: float) -> float:
        return (t_ns - begun_ns) / NS_PER_S * engine_speed

    receipts = tuple(trip.receipt for trip in trips)
    fate = np.array([trip.fate for trip in trips], np.int64)
    sent_s = np.array([np.nan if t.sent_ns is None else since(t.sent_ns) for t in trips])
    seen = [trip if trip.fate == SERVED else Trip() for trip in trips]
    gaps = [np.diff(t.tally.token_ns()) / NS_PER_S * engine_speed for t in seen]
    finish_s = np.array([since(t.tally.ended_ns) if t.ended else np.nan for t in seen])
    known = np.append(finish_s[~np.isnan(finish_s)], sent_s[~np.isnan(sent_s)])
    return Replay(
        requests,
        fate,
        sent_s,
        np.array([_first(t, since) for t in seen]),
        finish_s,
        np.array([_longest(t, gap) for t, gap in zip(seen, gaps, strict=True)]),
        np.concatenate([*gaps, np.zeros(0)]),
        _energy(receipts, "joules"),
        _energy(receipts, "idle_joules"),
        _energy(receipts, "low"),
        _energy(receipts, "high"),
        np.array([_number(t.tally.input_tokens) for t in trips]),
        np.array([_number(t.tally.output_tokens) for t in trips]),
        tuple(trips),
        receipts,
        float(known.max(initial=0.0)),
        partial,
    )


def _first(trip: Trip, since: Any) -> float:
    """When the first token was there; not known of answers that came at once."""
    if trip.tally.whole or not trip.tally.arrived_ns:
        return np.nan
    return float(since(trip.tally.arrived_ns[0]))


def _longest(trip: Trip, gap_s: Array) -> float:
    if not trip.ended or trip.tally.whole or not trip.tally.token_ns():
        return np.nan
    return float(gap_s.max(initial=0.0))


def _energy(receipts: tuple[Receipt | None, ...], name: str) -> Array:
    return np.array([_number(getattr(receipt, name, None)) for receipt in receipts])


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)
