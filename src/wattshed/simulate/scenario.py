"""What is simulated: how requests come, what they were promised, what is known of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from msgspec import structs
from numpy.typing import NDArray

from wattshed.engines.model import Array
from wattshed.errors import ParameterError
from wattshed.fleet import DEFAULT_CLASS, Fleet, Slo
from wattshed.profiles import predict
from wattshed.records import Profile
from wattshed.simulate.arrivals import draw_curve_requests, draw_requests, replay_requests
from wattshed.simulate.layout import ALONE
from wattshed.simulate.model import Requests
from wattshed.simulate.policies import Promises
from wattshed.workload.lengths import train_histogram, train_mean
from wattshed.workload.rates import RateCurve
from wattshed.workload.table import Workload

FORECASTS = ("known", "mean", "histogram")
LATE = 0.9
"""Quantile of the output length for which promises are kept."""


@dataclass(frozen=True)
class Arrivals:
    """How requests come.

    Attributes
    ----------
    workload : Workload
        Where lengths, and arrivals to be replayed, are taken from.
    requests : int, optional
        How many are drawn; of a replay, the first so many. All of the workload unless told.
    rate_per_s : float, optional
        Drawn at this mean rate; replayed without it.
    load : float, optional
        Drawn at this part of the rate that the fleet can bear; see `highest_rate`.
    cv : float
        Coefficient of variation of the times between arrivals: 1 is Poisson.
    speed : float
        Of a replay.
    curve : RateCurve, optional
        Drawn along it.
    scale : float
        Factor of its rates.
    start_s, end_s : float, optional
        Part of the curve.
    """

    workload: Workload
    requests: int | None = None
    rate_per_s: float | None = None
    cv: float = 1.0
    speed: float = 1.0
    curve: RateCurve | None = None
    scale: float = 1.0
    start_s: float | None = None
    end_s: float | None = None
    load: float | None = None

    def __post_init__(self) -> None:
        if self.requests is not None and self.requests < 1:
            raise ParameterError("requests", f"{self.requests}", "give at least 1")
        if self.curve is not None and self.rate_per_s is not None:
            raise ParameterError("rate", f"{self.rate_per_s:g} and a curve", "give one of them")
        if self.load is not None and not 0 < self.load < np.inf:
            raise ParameterError("load", f"{self.load:g}", "give a part above 0, such as 0.7")
        if self.load is not None and self.drawn:
            raise ParameterError("load", f"{self.load:g} and a rate", "give one of them")

    @property
    def drawn(self) -> bool:
        """Whether chance plays a part."""
        return self.curve is not None or self.rate_per_s is not None

    def draw(self, seed: int) -> Requests:
        """Requests of one replication.

        Raises
        ------
        ParameterError
        """
        if self.curve is not None:
            found = draw_curve_requests(
                self.workload,
                self.curve,
                scale=self.scale,
                start_s=self.start_s,
                end_s=self.end_s,
                cv=self.cv,
                seed=seed,
            )
            return first_of(found, self.requests)
        if self.rate_per_s is not None:
            count = self.workload.queries if self.requests is None else self.requests
            return draw_requests(self.workload, count, self.rate_per_s, cv=self.cv, seed=seed)
        return first_of(replay_requests(self.workload, speed=self.speed), self.requests)

    @property
    def description(self) -> str:
        """In words."""
        process = "Poisson" if self.cv == 1 else f"gamma (cv {self.cv:g})"
        if self.curve is not None:
            factor = "" if self.scale == 1 else f" x {self.scale:g}"
            return f"{process} along {self.curve.name}{factor}"
        if self.rate_per_s is not None:
            return f"{process} at {self.rate_per_s:g} requests/s"
        return "replayed" + ("" if self.speed == 1 else f" at {self.speed:g} x its speed")


def first_of(requests: Requests, count: int | None) -> Requests:
    """The first so many; all if None."""
    if count is None or count >= len(requests):
        return requests
    assert requests.group is not None
    return Requests(
        requests.arrival_s[:count],
        requests.input_tokens[:count],
        requests.output_tokens[:count],
        requests.group[:count],
        requests.classes,
        None if requests.deadline_s is None else requests.deadline_s[:count],
    )


def promises_of(
    fleet: Fleet,
    requests: Requests,
    workload: Workload,
    *,
    forecast: str = "histogram",
    target: float = 0.99,
    every_token: bool = False,
) -> Promises:
    """Limits of requests by their SLO class, and what is known of their output lengths.

    Parameters
    ----------
    fleet : Fleet
    requests : Requests
    workload : Workload
        Past queries, from which output lengths are forecast.
    forecast : str
        One of `FORECASTS`.
    target : float
        Part of the promises that is to be kept.
    every_token : bool
        The limit between tokens holds for each of them, and not for their mean.

    Raises
    ------
    ParameterError
    """
    if forecast not in FORECASTS:
        raise ParameterError("forecast", repr(forecast), f"use one of {', '.join(FORECASTS)}")
    if not 0 < target <= 1:
        raise ParameterError("target", f"{target:g}", "give a part above 0, up to 1")
    expected, late = _lengths(requests, workload, forecast)
    ttft_s, tbt_s, e2e_s = limits_of(fleet.slo, requests)
    alone = _alone(fleet, requests, expected)
    return Promises(
        ttft_s, tbt_s, expected, late, e2e_s, target=target, every_token=every_token, alone=alone
    )


def in_order(fleet: Fleet) -> Fleet:
    """The fleet with its deployments in the order of their endpoints' names, which breaks ties."""
    ordered = sorted(fleet.deployments, key=lambda d: f"{d.name}/")
    return structs.replace(fleet, deployments=ordered)


def limits_of(slo: dict[str, Slo], requests: Requests) -> NDArray[np.float64]:
    """TTFT, TBT and E2E limits (3, Q), inf where nothing is promised.

    E2E is that of the class, or the deadline of the request if that is sooner.
    """
    promised = [slo.get(name, slo.get(DEFAULT_CLASS, Slo())) for name in requests.classes]
    table = [
        [np.inf if limit is None else limit for limit in (one.ttft_s, one.tbt_s, one.e2e_s)]
        for one in promised
    ]
    assert requests.group is not None
    limits = np.ascontiguousarray(np.array(table)[requests.group].T)
    if requests.deadline_s is not None:
        # A deadline of 0 s is one that nobody can keep.
        limits[2] = np.minimum(limits[2], np.maximum(requests.deadline_s, 1e-9))
    return limits


def _lengths(requests: Requests, workload: Workload, forecast: str) -> tuple[Array, Array]:
    """Expected output tokens (Q,) and their upper quantile (Q,)."""
    m, n = requests.input_tokens.astype(float), requests.output_tokens.astype(float)
    if forecast == "known":
        return n, n
    past = train_histogram(workload)
    if forecast == "histogram":
        return past(m), np.maximum(past.quantile(m, LATE), past(m))
    lengths = workload.distinct()
    order = np.argsort(lengths.n)
    part = np.cumsum(lengths.count[order]) / lengths.count.sum()
    late = float(lengths.n[order][np.searchsorted(part, LATE)])
    mean = train_mean(workload)(m)
    return mean, np.maximum(mean, late)


def _alone(fleet: Fleet, requests: Requests, expected: Array) -> NDArray[np.void]:
    """Predictions by the forecast, for deployments that serve one query at a time."""
    given = [d for d in fleet.deployments if isinstance(d.profile, Profile)]
    rows = np.zeros((len(given), len(requests)), ALONE)
    for row, d in zip(rows, given, strict=True):
        assert isinstance(d.profile, Profile)
        found = predict(d.profile, requests.input_tokens, expected)
        first = predict(d.profile, requests.input_tokens, np.ones(len(requests)))
        row["runtime_s"] = found.runtime_s
        row["energy_j"] = found.energy_j + d.host_power_w * found.runtime_s
        row["first_s"] = np.minimum(first.runtime_s, found.runtime_s)
    return rows
