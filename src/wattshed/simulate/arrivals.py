"""When requests arrive, and how long they are: from a workload, or drawn."""

from __future__ import annotations

import numpy as np

from wattshed.engines.model import Array
from wattshed.errors import ParameterError
from wattshed.simulate.model import Requests
from wattshed.workload.table import Workload


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
    count = table["count"].to_numpy()
    arrival = np.repeat(table["arrival_s"].to_numpy(), count)
    return Requests(
        (arrival - arrival[:1].sum()) / speed,
        np.repeat(table["input_tokens"].to_numpy(), count),
        np.repeat(table["output_tokens"].to_numpy(), count),
    )


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
    arrival = draw_arrivals(count, rate_per_s, cv=cv, seed=times)
    table = workload.table
    weight = table["count"].to_numpy()
    chosen = np.random.default_rng(rows).choice(len(weight), count, p=weight / weight.sum())
    return Requests(
        arrival,
        table["input_tokens"].to_numpy()[chosen],
        table["output_tokens"].to_numpy()[chosen],
    )


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
    if not 0 <= cv < np.inf:
        raise ParameterError("cv", f"{cv:g}", "give a number from 0 on")
    if cv == 0:
        return np.asarray(np.arange(1.0, count + 1) / rate_per_s)
    shape = cv**-2
    between = np.random.default_rng(seed).gamma(shape, 1 / (shape * rate_per_s), count)
    return np.asarray(np.cumsum(between))


def _check_positive(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise ParameterError(name, f"{value:g}", "give a number above 0")
