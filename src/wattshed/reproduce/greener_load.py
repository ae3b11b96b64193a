"""Load on one replica: the highest rate within the SLO, and what it does at a rate."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wattshed.engines.model import Array
from wattshed.reproduce.greener_settings import (
    HIGHEST_MHZ,
    SLO_FACTOR,
    Setting,
    engine_of,
    throughput_of_static_batch,
)
from wattshed.simulate.arrivals import draw_arrivals
from wattshed.simulate.engine import simulate_requests
from wattshed.simulate.model import Requests
from wattshed.simulate.result import Simulation

SEEDS, REQUESTS, WARM_UP = 5, 2000, 200
"""Replications, requests of each, and how many of these are not counted."""
BISECTIONS, SPAN = 11, 1024.0
"""From a rate that no replica serves down to a 1024th of it, to 0.4 %."""
MEDIUM = 0.5
"""Medium load, as a part of the highest throughput within the SLO."""


@dataclass(frozen=True)
class Promise:
    """Limits on the times to the first token and between tokens."""

    ttft_s: float
    tbt_s: float


@dataclass(frozen=True)
class Reading:
    """What "within the SLO" is taken to mean.

    Attributes
    ----------
    text : str
    level : float
        Part of the requests, and of the times between tokens, that must keep it; nan for the mean.
    even : bool
        Requests arrive at equal distances instead of at random.
    own_degree : bool
        The request alone is served at the degree in question, not at TP8.
    """

    text: str
    level: float = 0.99
    even: bool = False
    own_degree: bool = False


READINGS = {
    "p99": Reading("Poisson arrivals, 99 % of TTFT and TBT"),
    "p90": Reading("Poisson arrivals, 90 % of TTFT and TBT", 0.9),
    "median": Reading("Poisson arrivals, half of TTFT and TBT", 0.5),
    "mean": Reading("Poisson arrivals, mean TTFT and TBT", np.nan),
    "own_degree": Reading("as p99, SLO of the request alone at the same degree", own_degree=True),
    "even": Reading("as p99, arrivals at equal distances", even=True),
}
MAIN = "p99"
FULL, STATIC = "full_batches", "static_batches"
TEXTS = {name: reading.text for name, reading in READINGS.items()} | {
    FULL: "always a full batch: who leaves is replaced at once",
    STATIC: "static batches, each replaced as a whole",
}
"""All readings of "highest throughput" in words."""


@dataclass(frozen=True)
class Loads:
    """What was found at a rate, in S replications.

    Attributes
    ----------
    ttft_s, tbt_s, power_w, energy_j : arrays (S,)
        Means over requests, over times between tokens, and over time; energy of a request,
        with its share of idling.
    """

    ttft_s: Array
    tbt_s: Array
    power_w: Array
    energy_j: Array


def serve(setting: Setting, arrival_s: Array) -> Simulation:
    """Requests of the setting's type that arrive so, through its replica."""
    m, n = (np.full(len(arrival_s), tokens) for tokens in setting.lengths)
    return simulate_requests([engine_of(setting)], Requests(arrival_s, m, n))


def promise_of(setting: Setting, own_degree: bool = False) -> Promise:
    """Five times the latencies of the request alone: highest clock, TP8 unless told."""
    degree = setting.degree if own_degree else 8
    found = serve(replace(setting, clock_mhz=HIGHEST_MHZ, degree=degree), np.zeros(1))
    return Promise(SLO_FACTOR * float(found.ttft_s[0]), SLO_FACTOR * float(found.tpot_s[0]))


def keeps(found: Simulation, promise: Promise, level: float, warm_up: int = WARM_UP) -> bool:
    """Whether a simulation keeps a promise, see `Reading`."""
    ttft_s, gaps = found.ttft_s[warm_up:], found.gaps
    assert gaps is not None
    if np.isnan(level):
        return bool(ttft_s.mean() <= promise.ttft_s and gaps.mean_s <= promise.tbt_s)
    in_time = (ttft_s <= promise.ttft_s).mean()
    return bool(in_time >= level and gaps.at_most(promise.tbt_s) >= level * gaps.count)


def highest(feasible: Callable[[float], bool], top: float, steps: int = BISECTIONS) -> float:
    """Highest feasible value below `top`, by bisection of its logarithm; 0 if none was found."""
    low, high, found = top / SPAN, top, 0.0
    for _ in range(steps):
        middle = (low * high) ** 0.5
        if feasible(middle):
            low = found = middle
        else:
            high = middle
    return found


class Bench:
    """Replications on common arrivals, each figure computed once.

    The same unit-rate arrivals serve every setting and rate, so that differences between settings
    are not those of chance.

    Parameters
    ----------
    seed : int
    seeds : int
        Replications S.
    """

    def __init__(self, seed: int, seeds: int = SEEDS) -> None:
        streams = np.random.SeedSequence(seed).spawn(seeds)
        self.arrivals = [draw_arrivals(REQUESTS, 1.0, seed=stream) for stream in streams]
        self._rates: dict[tuple[Setting, str], Array] = {}

    def maximum(self, setting: Setting, reading: str = MAIN) -> Array:
        """Highest throughput (S,) in requests per second, see `TEXTS`."""
        key = (_timing(setting), reading)
        if key not in self._rates:
            self._rates[key] = self._search(key[0], reading)
        return self._rates[key]

    def _search(self, setting: Setting, reading: str) -> Array:
        if reading == STATIC:
            return np.full(len(self.arrivals), throughput_of_static_batch(setting))
        full = full_batches(setting)[0]
        if reading == FULL:
            return np.full(len(self.arrivals), full)
        how = READINGS[reading]
        promise = promise_of(setting, how.own_degree)
        if how.even:
            even = np.arange(float(REQUESTS))
            return np.full(len(self.arrivals), _fastest(setting, even, promise, how.level, full))
        found = [_fastest(setting, unit, promise, how.level, full) for unit in self.arrivals]
        return np.array(found)

    def medium(self, setting: Setting) -> Array:
        """Medium load (S,) of a setting, requests per second."""
        return MEDIUM * self.maximum(setting)

    def at(self, setting: Setting, rates: Array) -> Loads:
        """What a setting does at rates (S,) above 0."""
        served = [
            serve(setting, unit / rate) for unit, rate in zip(self.arrivals, rates, strict=True)
        ]
        return Loads(
            np.array([found.ttft_s[WARM_UP:].mean() for found in served]),
            np.array([found.gaps.mean_s for found in served if found.gaps]),
            np.array([found.total_energy_j / found.end_s for found in served]),
            np.array([found.total_energy_j / len(found.requests) for found in served]),
        )


def _fastest(setting: Setting, unit_s: Array, promise: Promise, level: float, full: float) -> float:
    """Highest rate that keeps a promise; more than full batches serve, no rate does for long."""
    return highest(lambda rate: keeps(serve(setting, unit_s / rate), promise, level), 1.05 * full)


def _timing(setting: Setting) -> Setting:
    """The same setting as far as times go: energy has no part in them."""
    timing = replace(setting.assumed, dynamic_exponent=None, unscaled_power=False)
    return replace(setting, assumed=timing)


@functools.cache
def full_batches(setting: Setting) -> tuple[float, float, float]:
    """Throughput with requests always waiting, and whether the SLO could be kept then.

    Returns
    -------
    requests_per_s : float
        Over the middle half of the requests.
    ttft_within, tbt_within : float
        Parts of the times to the first token, counted from the start of each request, and of the
        times between tokens that keep the SLO.
    """
    found = serve(setting, np.zeros(REQUESTS))
    finish_s = np.sort(found.finish_s)
    first, last = REQUESTS // 4, 3 * REQUESTS // 4
    promise, gaps = promise_of(setting), found.gaps
    assert gaps is not None
    ttft_s = (found.first_token_s - found.start_s)[WARM_UP:]
    return (
        float((last - first) / (finish_s[last] - finish_s[first])),
        float((ttft_s <= promise.ttft_s).mean()),
        gaps.at_most(promise.tbt_s) / gaps.count,
    )
