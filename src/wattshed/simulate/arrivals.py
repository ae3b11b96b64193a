"""When requests arrive, and how long they are: from a workload, or drawn."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import Array
from wattshed.errors import ParameterError
from wattshed.simulate.model import Requests
from wattshed.workload.rates import RateCurve
from wattshed.workload.table import Workload

MOST_ARRIVALS = 1e8
"""More are refused: their times alone would take a gigabyte."""


def replay_requests(workload: Workload, *, speed: float = 1.0) -> Requests:
    """Requests as a workload has them, from the first arrival on.

    Parameters
    ----------
    workload : Workload
        With arrivals; a row that stands for several queries has them arrive together.
    speed : float
        2 lets the same requests arrive in half the time.

    Raises
    ------
    ParameterError
    """
    _check_positive("speed", speed)
    if workload.aggregated or workload.span_s is None:
        raise ParameterError(
            workload.name,
            "no arrivals",
            "give arrival_s for each query, or a rate to draw at",
        )
    table = workload.table
    rows = np.repeat(np.arange(table.height), table["count"].to_numpy())
    arrival = table["arrival_s"].to_numpy()[rows]
    return _of_rows(workload, (arrival - arrival[:1].sum()) / speed, rows)


def draw_requests(
    workload: Workload, count: int, rate_per_s: float, *, cv: float = 1.0, seed: int = 0
) -> Requests:
    """Requests with lengths drawn from a workload's queries, and arrivals of their own.

    Parameters
    ----------
    workload : Workload
        Input and output tokens are drawn together, with replacement.
    count : int
    rate_per_s : float
        Mean rate of arrivals.
    cv : float
        Coefficient of variation of the times between arrivals: 1 is Poisson, more comes in
        bursts, 0 is evenly spaced.
    seed : int
        Arrivals and lengths have their own streams: the same lengths come at any rate.
    """
    times, rows = np.random.SeedSequence(seed).spawn(2)
    return _with_lengths(workload, draw_arrivals(count, rate_per_s, cv=cv, seed=times), rows)


def draw_curve_requests(
    workload: Workload,
    curve: RateCurve,
    *,
    scale: float = 1.0,
    start_s: float | None = None,
    end_s: float | None = None,
    cv: float = 1.0,
    seed: int = 0,
) -> Requests:
    """Requests with lengths drawn from a workload's queries, arriving along a rate curve.

    Lengths are drawn as in `draw_requests`, arrivals as in `curve_arrivals`.

    Raises
    ------
    ParameterError
    """
    times, rows = np.random.SeedSequence(seed).spawn(2)
    arrival = curve_arrivals(curve, scale=scale, start_s=start_s, end_s=end_s, cv=cv, seed=times)
    return _with_lengths(workload, arrival, rows)


def draw_arrivals(
    count: int, rate_per_s: float, *, cv: float = 1.0, seed: int | np.random.SeedSequence = 0
) -> Array:
    """Times of arrivals (count,) with gamma-distributed times between them.

    Parameters
    ----------
    count : int
    rate_per_s : float
    cv : float
        See `draw_requests`.
    seed : int or SeedSequence
    """
    _check_positive("rate_per_s", rate_per_s)
    _check_cv(cv)
    between = _gaps(np.random.default_rng(seed), count, cv)
    return np.asarray(np.cumsum(between) / rate_per_s)


def curve_arrivals(
    curve: RateCurve,
    *,
    scale: float = 1.0,
    start_s: float | None = None,
    end_s: float | None = None,
    cv: float = 1.0,
    seed: int | np.random.SeedSequence = 0,
) -> Array:
    """Times of arrivals (K,) whose rate follows a curve, counted from `start_s`.

    A renewal process of rate 1 with gamma-distributed gaps, put through the inverse of the
    cumulative rate, which is exact for rates that are constant in each window. With `cv` = 1 it
    is the Poisson process of that rate. Otherwise gaps are bursty or even on the scale of the
    requests expected, at any rate.

    Parameters
    ----------
    curve : RateCurve
    scale : float
        Factor of all rates.
    start_s, end_s : float, optional
        Part of the curve, on its own time; all of it unless told.
    cv : float
        See `draw_requests`. A full gap goes before the first arrival.
    seed : int or SeedSequence
        A later end adds arrivals and changes none; another scale keeps the gaps in requests.

    Raises
    ------
    ParameterError
        Also where the part reaches beyond the curve or into windows that were not recorded.
    """
    _check_positive("scale", scale)
    _check_cv(cv)
    edges, rate = _windows(curve, start_s, end_s)
    passed = np.concatenate([[0.0], np.cumsum(scale * rate * np.diff(edges))])
    due = _due(np.random.default_rng(seed), float(passed[-1]), cv, curve.name)
    window = np.searchsorted(passed, due, side="right") - 1
    arrival = edges[window] + (due - passed[window]) / (scale * rate[window])
    # Not in the next window by rounding: its rate may be 0.
    return np.asarray(np.minimum(arrival, np.nextafter(edges[window + 1], 0.0)))


def _windows(curve: RateCurve, start_s: float | None, end_s: float | None) -> tuple[Array, Array]:
    """Edges (V + 1,), counted from the start, and rates (V,) of a part of a curve."""
    first, last = float(curve.start_s[0]), curve.end_s
    start, end = (first if start_s is None else start_s), (last if end_s is None else end_s)
    if not first <= start < end <= last:
        raise ParameterError(
            curve.name,
            f"no windows from {start:.10g} to {end:.10g} s",
            f"give a start before an end, from {first:.10g} to {last:.10g} s",
        )
    inside = (curve.edges_s[1:] > start) & (curve.edges_s[:-1] < end)
    rate = curve.rate_per_s[inside]
    edges = np.clip(np.append(curve.start_s[inside], end), start, end)
    _check_recorded(curve, edges, rate)
    return edges - start, rate


def _check_recorded(curve: RateCurve, edges_s: Array, rate: Array) -> None:
    if not np.isnan(rate).any():
        return
    begins = float(edges_s[np.argmax(np.isnan(rate))])
    known = np.flatnonzero(np.diff(~np.isnan(curve.rate_per_s), prepend=False, append=False))
    first, last = max(curve.edges_s[known].reshape(-1, 2), key=lambda part: part[1] - part[0])
    raise ParameterError(
        curve.name,
        f"rates from {begins:.10g} s on were not recorded",
        f"leave the gap out with start_s and end_s; {first:.10g} to {last:.10g} s has none",
    )


def _due(rng: np.random.Generator, total: float, cv: float, name: str) -> Array:
    """Points below `total` of a renewal process of rate 1, in requests expected."""
    if total > MOST_ARRIVALS:
        raise ParameterError(
            name, f"{total:.3g} arrivals are expected", "give a smaller scale or a shorter part"
        )
    gaps = _gaps(rng, _enough(total, cv), cv)
    due = np.cumsum(gaps)
    while due[-1] < total:
        gaps = np.concatenate([gaps, _gaps(rng, len(gaps), cv)])
        due = np.cumsum(gaps)
    return due[due < total]


def _enough(total: float, cv: float) -> int:
    """Gaps that are longer than `total` together, but for rare draws or wild gaps."""
    return int(total + min(5 * cv * total**0.5, total)) + 10


def _gaps(rng: np.random.Generator, count: int, cv: float) -> Array:
    """Gamma-distributed gaps (count,) of mean 1."""
    if cv == 0:
        return np.ones(count)
    return rng.gamma(cv**-2, cv**2, count)


def _with_lengths(workload: Workload, arrival: Array, seed: np.random.SeedSequence) -> Requests:
    """Lengths of a workload's queries, drawn with replacement, for given arrivals."""
    weight = workload.table["count"].to_numpy()
    rng = np.random.default_rng(seed)
    chosen = rng.choice(len(weight), len(arrival), p=weight / weight.sum())
    return _of_rows(workload, arrival, chosen)


def _of_rows(workload: Workload, arrival: Array, rows: NDArray[np.int64]) -> Requests:
    """Requests like some rows of a workload."""
    table = workload.table
    classes = workload.classes.unique().sort()
    group = classes.search_sorted(workload.classes).to_numpy().astype(np.int64)
    return Requests(
        arrival,
        table["input_tokens"].to_numpy()[rows],
        table["output_tokens"].to_numpy()[rows],
        group[rows],
        tuple(classes.to_list()),
        _deadlines(workload, rows),
    )


def _deadlines(workload: Workload, rows: NDArray[np.int64]) -> Array | None:
    if "deadline_s" not in workload.table.columns:
        return None
    return workload.table["deadline_s"].fill_null(np.inf).to_numpy()[rows]


def _check_cv(cv: float) -> None:
    if not 0 <= cv < np.inf:
        raise ParameterError("cv", f"{cv:g}", "give a number from 0 on")


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise ParameterError(name, f"{value:g}", "give a number above 0")
