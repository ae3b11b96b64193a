"""What the compiled rule reads and writes when it decides, laid out once and filled in each time.

A gateway decides thousands of times a second between a few endpoints. Then the rule itself takes
less than making arrays for it, so there is one set of them, which is written as bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wattshed.compiled import compiled, ready
from wattshed.engines.model import BatchingDeployment
from wattshed.engines.model import Deployment as Engine
from wattshed.engines.tables import Tables, tabulate
from wattshed.records import Endpoint
from wattshed.route.frugal_rule import (
    Bid,
    Budgets,
    Seen,
    Wanted,
    better,
    joules_of,
    late_by,
    latencies_of,
    price_of,
    spend,
)

KIND = np.dtype(
    [
        ("alone", "i8"),  # serves one query at a time
        ("f", "i8"),
        ("max_batch", "i8"),
        ("chunk", "i8"),
        ("kv", "i8"),
        ("idle_w", "f8"),
        ("wake_s", "f8"),
        ("wake_j", "f8"),
        ("runtime_s", "f8"),  # of the request alone, by the forecast, if so; written each time
        ("energy_j", "f8"),
        ("first_s", "f8"),
    ]
)
"""What is the same for all endpoints of a deployment; see `Seen`."""
ENDPOINT = np.dtype(
    [
        ("kind", "i8"),
        ("batch", "i8"),
        ("held", "i8"),
        ("waiting", "i8"),
        ("backlog", "i8"),
        ("asleep", "i8"),
    ]
)
"""An endpoint now; see `Seen`."""
WANTED = np.dtype(
    [(name, "i8" if name in {"m", "every_token", "tenant"} else "f8") for name in Wanted._fields]
)
"""A request; see `Wanted`."""
WEIGHED = np.dtype([("ttft_s", "f8"), ("tbt_s", "f8"), ("joules", "f8"), ("price_j", "f8")])
"""What the rule finds of an endpoint."""

_WANTED, _ALONE, _ENDPOINT = Struct("q5dq2dqd"), Struct("3d"), Struct("6q")
OF_ALONE = KIND.fields["runtime_s"][1] if KIND.fields else 0
"""Where in a row of `KIND` that of the request alone begins, in bytes."""
FIRST = 64
"""Endpoints for which there is room at first."""


class Desk:
    """The arrays that `choose` works on.

    Parameters
    ----------
    engines : sequence of Deployment
        Of the fleet.
    budgets : Budgets
        Their queues are written.

    Attributes
    ----------
    want : callable
        Writes down a request, given the fields of `Wanted` in their order.
    """

    def __init__(self, engines: Sequence[Engine], budgets: Budgets) -> None:
        tables, first = tabulate(engines)
        self._budgets = tuple(budgets) if len(budgets.queue) else None
        self._kinds, kinds = _room(KIND, len(engines))
        kinds[:] = _kinds(engines, first[1:] - 1)
        room, wanted = _room(WANTED, 1)
        self.want: Callable[..., None] = partial(_WANTED.pack_into, room, 0)
        self._fixed = (*tables, kinds, wanted)
        self._choose: Callable[..., tuple[int, float]] | None = None
        self._resize(FIRST)

    def alone(self, kind: int, runtime_s: float, energy_j: float, first_s: float) -> None:
        """Write down what it takes alone on a deployment that serves one query at a time."""
        _ALONE.pack_into(self._kinds, kind * KIND.itemsize + OF_ALONE, runtime_s, energy_j, first_s)

    def choose(
        self, order: Sequence[Endpoint], kind: Mapping[str, int], keep: float, packs: bool
    ) -> tuple[int, float]:
        """The best of some endpoints, and the joules that budgets were charged with.

        Parameters
        ----------
        order : sequence of Endpoint
            The first of equal ones is chosen.
        kind : dict
            Number of each deployment.
        keep : float
            Part of the limits that may be used.
        packs : bool
        """
        number = len(order)
        if number > self._size:
            self._resize(2 * number)
        rows, at = self._rows, 0
        for e in order:
            _ENDPOINT.pack_into(
                rows,
                at,
                kind[e.deployment],
                e.running,
                e.context_tokens,
                e.waiting,
                e.prompt_tokens,
                e.asleep,
            )
            at += _ENDPOINT.size
        if self._choose is None:
            self._choose = ready(choose, self._arrays, 0, keep, packs, self._budgets)
        return self._choose(self._arrays, number, keep, packs, self._budgets)

    def weighed(self, number: int) -> tuple[float, ...]:
        """What the last choice found of its endpoints, for `columns_of`."""
        return self._unpack[number](self._found)

    def _resize(self, size: int) -> None:
        self._size = size
        self._rows, rows = _room(ENDPOINT, size)
        self._found, view = _room(WEIGHED, size)
        self._arrays = (*self._fixed, rows, view)
        each = len(WEIGHED.names or ())
        self._unpack = [Struct(f"{each * number}d").unpack_from for number in range(size + 1)]


def columns_of(
    weighed: tuple[float, ...],
) -> tuple[list[float], list[float], list[float], list[float]]:
    """The fields of WEIGHED, each of all endpoints."""
    return [*weighed[::4]], [*weighed[1::4]], [*weighed[2::4]], [*weighed[3::4]]


def _room(dtype: np.dtype[Any], size: int) -> tuple[bytearray, Any]:
    """Bytes, and the same as an array."""
    room = bytearray(dtype.itemsize * size)
    return room, np.frombuffer(room, dtype)


def _kinds(engines: Sequence[Engine], clock: NDArray[np.int64]) -> Any:
    """Rows of `KIND` (K,)."""
    rows = np.zeros(len(engines), KIND)
    rows["idle_w"] = [engine.idle_power_w for engine in engines]
    for row, engine, f in zip(rows, engines, clock, strict=True):
        row["alone"] = not isinstance(engine, BatchingDeployment)
        if isinstance(engine, BatchingDeployment):
            row["f"], row["max_batch"], row["chunk"] = f, engine.max_batch, engine.chunk_tokens
            row["kv"] = engine.kv_tokens
            row["wake_s"], row["wake_j"] = _waking(engine)
    return rows


def _waking(engine: BatchingDeployment) -> tuple[float, float]:
    """Seconds and joules until an engine that sleeps can begin; the idling it saved is forgone."""
    s = engine.sleep
    if s is None:
        return 0.0, 0.0
    return s.ready_s, s.ready_energy_j + s.after_s * (engine.idle_power_w - s.power_w)


@compiled
def choose(arrays: Any, number: int, keep: float, packs: bool, budgets: Any) -> tuple[int, float]:
    """The best of some endpoints, or -1, and the joules that budgets were charged with.

    Parameters
    ----------
    arrays : tuple of array
        Those of `Tables`, KIND (K,), WANTED (1,), ENDPOINT (N,), and WEIGHED (N,), which is
        written. Plain tuples here and below: named ones take longer to hand over.
    number : int
        Rows that count.
    keep : float
        Part of the limits that may be used.
    packs : bool
    budgets : tuple or None
        As of `Budgets`, if there are any.
    """
    clocks, pieces, seconds, joules_by_batch, kinds, asked, rows, found = arrays
    tables = Tables(clocks, pieces, seconds, joules_by_batch)
    wanted = asked[0]
    best, bid, spent = -1, Bid(np.inf, np.inf, np.inf), 0.0
    for i in range(number):
        row, kind = rows[i], kinds[rows[i].kind]
        load = float(row.batch + row.waiting)
        if kind.alone:
            ttft_s = load * kind.runtime_s + kind.first_s
            tbt_s = (kind.runtime_s - kind.first_s) / max(wanted.n - 1.0, 1.0)
            joules = kind.energy_j - kind.idle_w * kind.runtime_s
        else:
            # No step is fuller than the engine lets it be, and the tables end there: those of
            # others, or more of ours than the profile was told of, wait.
            batch = min(row.batch, kind.max_batch)
            seen = Seen(
                kind.f,
                kind.max_batch,
                kind.chunk,
                kind.kv,
                kind.idle_w,
                batch,
                row.held,
                row.waiting + row.batch - batch,
                row.backlog,
                kind.wake_s if row.asleep else 0.0,
                kind.wake_j if row.asleep else 0.0,
            )
            ttft_s, tbt_s = latencies_of(tables, seen, wanted)
            joules = joules_of(tables, seen, wanted)
        price_j = 0.0
        if budgets is not None:
            price_j = price_of(Budgets(*budgets), row.kind, wanted, joules)
        found[i].ttft_s, found[i].tbt_s = ttft_s, tbt_s
        found[i].joules, found[i].price_j = joules, price_j
        other = Bid(late_by(wanted, ttft_s, tbt_s) / keep, joules + price_j, load)
        if best < 0 or better(other, bid, packs):
            best, bid, spent = i, other, joules
    if budgets is not None and best >= 0:
        spend(Budgets(*budgets), rows[best].kind, wanted, spent)
    return best, spent
