"""The load that a fleet can bear: the highest rate at which it keeps its promises."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from wattshed.errors import InfeasibleError, ParameterError
from wattshed.fleet import Fleet
from wattshed.replicas import engines_of
from wattshed.simulate.engine import Report, simulate_requests
from wattshed.simulate.naming import admitted
from wattshed.simulate.scenario import Arrivals, promises_of
from wattshed.simulate.summary import attained

REQUESTS = 10_000
"""Drawn for each rate that is tried."""
AT_ONCE = 1e6
"""Requests per second and replica that are no different from all at once."""
PRECISION = 0.01


def highest_rate(
    fleet: Fleet,
    arrivals: Arrivals,
    *,
    target: float = 0.99,
    every_token: bool = False,
    seed: int = 0,
    report: Report | None = None,
) -> float:
    """Highest rate at which least-loaded routing at the highest clock keeps its promises.

    Parameters
    ----------
    fleet : Fleet
    arrivals : Arrivals
        Lengths and burstiness; its own rate plays no part.
    target : float
        Part of the promises that is to be kept.
    every_token : bool
        See `simulate_fleet`.
    seed : int
        The same requests come at every rate, only closer together.
    report : callable, optional

    Returns
    -------
    float
        1/s, to 1 %: the largest rate tried at which, and below which, they were kept.

    Raises
    ------
    ParameterError
        If nothing was promised, or what was promised is kept at any rate.
    InfeasibleError
        If they are broken at the lowest rate, one request at a time.
    """
    if not any(slo.ttft_s or slo.tbt_s or slo.e2e_s for slo in fleet.slo.values()):
        raise ParameterError("load", "the fleet promises nothing", "add [slo.default] or --slo")

    def kept(rate: float, step: int) -> bool:
        if report:
            report(step, 0)
        return _attainment(fleet, arrivals, rate, target, every_token, seed) >= target

    replicas = sum(d.replicas for d in fleet.deployments)
    low = high = 0.01 * replicas
    if not kept(low, 0):
        raise InfeasibleError(
            fleet.name,
            f"fewer than {target:.4g} of the promises are kept at {low:.2g} requests/s",
            "relax the SLO, or lower the target",
        )
    step = 1
    while kept(high := 2 * high, step):
        low, step = high, step + 1
        if low > AT_ONCE * replicas:
            found = (
                f"{target:.4g} of the promises are kept even if {REQUESTS} requests come at once"
            )
            raise ParameterError("load", found, "give a rate, or promise more")
    while high / low > 1 + PRECISION:
        middle = math.sqrt(low * high)
        step += 1
        if kept(middle, step):
            low = middle
        else:
            high = middle
    return low


def _attainment(
    fleet: Fleet, arrivals: Arrivals, rate: float, target: float, every_token: bool, seed: int
) -> float:
    drawn = replace(arrivals, rate_per_s=rate, requests=REQUESTS, curve=None, load=None)
    requests = drawn.draw(seed)
    promises = promises_of(
        fleet,
        requests,
        arrivals.workload,
        forecast="known",
        target=target,
        every_token=every_token,
    )
    engines = engines_of(fleet.deployments, requests.input_tokens, requests.output_tokens)
    allowed = np.where(admitted(fleet, requests), 0.0, np.inf)
    found = simulate_requests(engines, requests, cost=allowed, promises=promises)
    by_mean, by_token = attained(found, promises)
    return float((by_token if every_token else by_mean).mean())
