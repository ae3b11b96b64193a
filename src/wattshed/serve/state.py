"""What the dashboard shows: a function of the records of requests and of the endpoints as they are.

Energies are booked when an answer ends; what is under way is not in any of the figures. What was
metered takes the place of what was modelled once it is known, some seconds later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.serve.comparison import wilson
from wattshed.serve.recent import Ended
from wattshed.serve.savings import saved
from wattshed.serve.shown import Attainment, Figures, Latency, Scene, State

WINDOW_S = 60.0
"""Over which the power is a mean."""
SPAN_S = 900.0
"""How far back all other figures go, if so many records are kept."""
BIN_S = 15.0
"""Of the history of the power."""
POINTS = 800
"""Most requests in the plane."""
NOWHERE = "sent nowhere"
"""Name of the figures of requests that no endpoint got."""
Numbers = NDArray[np.float64]
Truths = NDArray[np.bool_]


class Columns(NamedTuple):
    """Records as columns (R,), NaN where something is not known."""

    end_s: Numbers
    first_s: Numbers
    whole_s: Numbers
    output_tokens: Numbers
    joules: Numbers
    idle_joules: Numbers
    kept: Numbers
    served: Numbers


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
        grouped.setdefault(record.endpoint or NOWHERE, []).append(record)
    names = [name for name in grouped if name != NOWHERE]
    return State(
        gateway=scene,
        span_s=span_s,
        window_s=window_s,
        simulated=any(r.simulated for r in lately) or any(e.simulated for e in scene.endpoints),
        total=figures("all", lately, now_s, window_s),
        endpoints=[
            figures(name, grouped[name], now_s, window_s)
            for name in (*names, NOWHERE)
            if name in grouped
        ],
        saved=saved(lately, scene.policy),
        bin_s=BIN_S,
        power={name: power_history(grouped[name], now_s, span_s) for name in names},
        points=points(lately, names),
    )


def figures(name: str, records: Sequence[Ended], now_s: float, window_s: float) -> Figures:
    """Figures of requests."""
    columns = columns_of(records)
    with_energy = ~np.isnan(columns.joules)
    now = now_s - columns.end_s <= window_s
    served = columns.served > 0
    known = [(r.method, r.boundary) for r in records if r.joules is not None]
    return Figures(
        name,
        len(records),
        dict(Counter(r.outcome for r in records)),
        _mean_w(columns.joules, now, window_s),
        _mean_w(columns.idle_joules, now & with_energy, window_s),
        joules_per_output_token(columns),
        dict(sorted(Counter(method for method, _ in known).items())),
        sorted({boundary for _, boundary in known}),
        attainment(columns.kept),
        latency(columns.first_s[served]),
        latency(columns.whole_s[served]),
    )


def columns_of(records: Sequence[Ended]) -> Columns:
    """Records as columns: sums over thousands of them are for each second that somebody looks."""
    rows = [
        (
            r.end_s,
            r.first_s,
            r.whole_s,
            r.output_tokens,
            r.joules,
            r.idle_joules,
            r.kept,
            r.outcome == "served",
        )
        for r in records
    ]
    return Columns(*np.array(rows, float).reshape(-1, len(Columns._fields)).T)


def joules_per_output_token(columns: Columns) -> float | None:
    """Energy by output tokens, of requests whose energy is known; None without tokens."""
    known = ~np.isnan(columns.joules) & (columns.output_tokens > 0)
    tokens = columns.output_tokens[known].sum()
    joules = columns.joules[known].sum() + np.nansum(columns.idle_joules[known])
    return float(joules / tokens) if tokens else None


def attainment(kept: Numbers) -> Attainment:
    """Promises kept (R,), NaN where there was none or it was not seen; with Wilson's interval."""
    seen = kept[~np.isnan(kept)]
    n, good = len(seen), int(seen.sum())
    if not n:
        return Attainment(0, 0, None, None, None)
    return Attainment(n, good, good / n, *wilson(good, n))


def latency(seconds: Numbers) -> Latency:
    """Quantiles of times (R,), NaN where there is none."""
    known = seconds[~np.isnan(seconds)]
    if not len(known):
        return Latency(0, None, None, None)
    return Latency(len(known), *(float(q) for q in np.quantile(known, (0.5, 0.9, 0.99))))


def power_history(records: Sequence[Ended], now_s: float, span_s: float) -> list[float]:
    """Energy booked in each bin by its length, W; the oldest bin first, and only whole ones."""
    bins = [0.0] * int(span_s // BIN_S)
    for record in records:
        ago = int((now_s - record.end_s) // BIN_S)
        if record.joules is not None and 0 <= ago < len(bins):
            bins[-1 - ago] += (record.joules + (record.idle_joules or 0.0)) / BIN_S
    return bins


def points(records: Sequence[Ended], names: Sequence[str]) -> list[tuple[int, int, int]]:
    """Where the latest served requests lie among input and output tokens, and who served them."""
    number = {name: i for i, name in enumerate(names)}
    served = (
        (r.input_tokens, r.output_tokens, number[r.endpoint])
        for r in reversed(records)
        if r.outcome == "served" and r.input_tokens and r.output_tokens
    )
    return list(islice(served, POINTS))[::-1]


def _mean_w(joules: Numbers, now: Truths, window_s: float) -> float | None:
    """Mean power; 0 once energies are known and none falls into the window."""
    known = ~np.isnan(joules)
    return float(joules[known & now].sum()) / window_s if known.any() else None
