"""What the dashboard shows: a function of the records of requests and of the endpoints as they are.

Energies are booked when an answer ends; what is under way is not in any of the figures.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
import numpy as np

from wattshed.serve.recent import Ended
from wattshed.serve.savings import Saved, saved

WINDOW_S = 60.0
"""Over which the power is a mean."""
SPAN_S = 900.0
"""How far back all other figures go, if so many records are kept."""
BIN_S = 15.0
"""Of the history of the power."""
POINTS = 800
"""Most requests in the plane."""
Z = 1.96


class EndpointNow(msgspec.Struct, frozen=True):
    """An endpoint as it is.

    Attributes
    ----------
    usable : bool
        It can be sent requests: it is up, and its breaker is closed.
    simulated : bool
        Whether its answers say that they are.
    """

    name: str
    deployment: str
    model: str
    up: bool
    usable: bool
    running: int
    waiting: int
    max_in_flight: int
    simulated: bool


class Scene(msgspec.Struct, frozen=True):
    """The gateway as it is.

    Attributes
    ----------
    up_s : float
        Since when it runs.
    switched_off : bool
        The kill switch: the default policy decides.
    shadow : str or None
    queue : int
        Requests that wait for room.
    ledger : str
        ``ok``, or what is wrong with it.
    ledger_backlog : int
        Rows that are not committed.
    """

    version: str
    up_s: float
    ready: bool
    policy: str
    switched_off: bool
    shadow: str | None
    queue: int
    ledger: str
    ledger_backlog: int
    endpoints: list[EndpointNow]


class Latency(msgspec.Struct, frozen=True):
    """Quantiles of a time, s; None where no request has it."""

    requests: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


class Attainment(msgspec.Struct, frozen=True):
    """Promises kept.

    Attributes
    ----------
    promised, kept : int
        Requests that were promised a latency which was seen; those that got it.
    share, low, high : float or None
        kept / promised, and its 95 % interval (Wilson's); None where nothing was promised.
    """

    promised: int
    kept: int
    share: float | None
    low: float | None
    high: float | None


class Figures(msgspec.Struct, frozen=True):
    """Figures of some requests.

    Attributes
    ----------
    name : str
        Endpoint; ``all`` for all of them.
    outcomes : dict
        Requests by outcome.
    dynamic_w, idle_w : float or None
        Energy of the requests that ended in the power window, by its length: what they added, and
        their part of the idle power. None where it is not known of any.
    joules_per_output_token : float or None
        Dynamic and idle energy by output tokens, of requests whose energy is known.
    methods, boundaries : list of str
        Of their energies.
    ttft, e2e : Latency
        Time to the first token, where it was streamed; to the end. From arrival, of what was
        served.
    """

    name: str
    requests: int
    outcomes: dict[str, int]
    dynamic_w: float | None
    idle_w: float | None
    joules_per_output_token: float | None
    methods: list[str]
    boundaries: list[str]
    attainment: Attainment
    ttft: Latency
    e2e: Latency


class State(msgspec.Struct, frozen=True):
    """What ``/ui/state`` answers.

    Attributes
    ----------
    gateway : Scene
    span_s : float
        How far back the figures go.
    window_s : float
        Over which powers are means.
    simulated : bool
        Whether any figure comes from a simulated engine.
    total : Figures
    endpoints : list of Figures
    saved : Saved
    bin_s : float
    power : dict
        By endpoint: W in each bin, the oldest first; the last bin ends now.
    points : list
        The latest served requests: input tokens, output tokens, number of the endpoint in
        `endpoints`.
    """

    gateway: Scene
    span_s: float
    window_s: float
    simulated: bool
    total: Figures
    endpoints: list[Figures]
    saved: Saved
    bin_s: float
    power: dict[str, list[float]]
    points: list[tuple[int, int, int]]


def state_of(scene: Scene, records: Sequence[Ended], now_s: float, *, cut: bool = False) -> State:
    """The state of a gateway.

    Parameters
    ----------
    scene : Scene
    records : sequence of Ended
        In the order of their ends.
    now_s : float
        On their clock.
    cut : bool
        Whether older records were dropped: then figures go back no further than the oldest.
    """
    known_s = now_s - records[0].end_s if cut and records else scene.up_s
    span_s = max(min(SPAN_S, known_s), 1e-3)
    window_s = min(WINDOW_S, span_s)
    lately = [r for r in records if now_s - r.end_s <= span_s]
    grouped: dict[str, list[Ended]] = {e.name: [] for e in scene.endpoints}
    for record in lately:
        grouped.setdefault(record.endpoint, []).append(record)
    nowhere = grouped.pop("", [])
    names = list(grouped)
    return State(
        gateway=scene,
        span_s=span_s,
        window_s=window_s,
        simulated=any(r.simulated for r in lately) or any(e.simulated for e in scene.endpoints),
        total=figures("all", lately, now_s, window_s),
        endpoints=[figures(name, grouped[name], now_s, window_s) for name in names]
        + ([figures("sent nowhere", nowhere, now_s, window_s)] if nowhere else []),
        saved=saved(lately, scene.policy),
        bin_s=BIN_S,
        power={name: power_history(grouped[name], now_s, span_s) for name in names},
        points=points(lately, names),
    )


def figures(name: str, records: Sequence[Ended], now_s: float, window_s: float) -> Figures:
    """Figures of requests."""
    served = [r for r in records if r.outcome == "served"]
    energetic = [r for r in records if r.joules is not None]
    now = [r for r in energetic if now_s - r.end_s <= window_s]
    outcomes: dict[str, int] = defaultdict(int)
    for record in records:
        outcomes[record.outcome] += 1
    return Figures(
        name,
        len(records),
        dict(outcomes),
        _mean_w([r.joules for r in now], window_s, known=bool(energetic)),
        _mean_w([r.idle_joules for r in now], window_s, known=_any_idle(energetic)),
        joules_per_output_token(energetic),
        sorted({r.method for r in energetic}),
        sorted({r.boundary for r in energetic}),
        attainment(r.kept for r in records),
        latency(r.first_s for r in served),
        latency(r.whole_s for r in served),
    )


def joules_per_output_token(records: Sequence[Ended]) -> float | None:
    """Energy by output tokens; None where there are no tokens, or the energy of one is unknown."""
    known = [r for r in records if r.joules is not None and r.output_tokens]
    tokens = sum(r.output_tokens or 0 for r in known)
    joules = sum((r.joules or 0.0) + (r.idle_joules or 0.0) for r in known)
    return joules / tokens if tokens else None


def attainment(kept: Iterable[bool | None]) -> Attainment:
    """Promises kept, with Wilson's interval."""
    seen = [k for k in kept if k is not None]
    n, good = len(seen), sum(seen)
    if not n:
        return Attainment(0, 0, None, None, None)
    p, more = good / n, Z**2 / n
    middle = (p + more / 2) / (1 + more)
    half = Z * math.sqrt(p * (1 - p) / n + more / (4 * n)) / (1 + more)
    return Attainment(n, good, p, max(0.0, middle - half), min(1.0, middle + half))


def latency(seconds: Iterable[float | None]) -> Latency:
    """Quantiles of times."""
    known = [s for s in seconds if s is not None]
    if not known:
        return Latency(0, None, None, None)
    return Latency(len(known), *(float(q) for q in np.quantile(known, (0.5, 0.9, 0.99))))


def power_history(records: Sequence[Ended], now_s: float, span_s: float) -> list[float]:
    """Energy booked in each bin by its length, W; the oldest bin first, and only whole ones."""
    bins = [0.0] * int(span_s // BIN_S)
    for record in records:
        ago = int((now_s - record.end_s) // BIN_S)
        if 0 <= ago < len(bins):
            joules = (record.joules or 0.0) + (record.idle_joules or 0.0)
            bins[-1 - ago] += joules / BIN_S
    return bins


def points(records: Sequence[Ended], names: Sequence[str]) -> list[tuple[int, int, int]]:
    """Where the latest served requests lie among input and output tokens, and who served them."""
    number = {name: i for i, name in enumerate(names)}
    served = [
        (r.input_tokens, r.output_tokens, number[r.endpoint])
        for r in records
        if r.outcome == "served" and r.input_tokens and r.output_tokens
    ]
    return served[-POINTS:]


def _any_idle(records: Sequence[Ended]) -> bool:
    return any(r.idle_joules is not None for r in records)


def _mean_w(joules: Iterable[float | None], window_s: float, *, known: bool) -> float | None:
    """Mean power; 0 once energies are known and none falls into the window."""
    return sum(j for j in joules if j is not None) / window_s if known else None
