"""A machine of known power and a recorded trace of its meters, for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meter import Meter
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.recorder import Recorder
from wattshed.measure.trace import Trace

Steps = Callable[[np.random.Generator, float], list[tuple[float, float]]]


def _idle(rng: np.random.Generator, t: float) -> list[tuple[float, float]]:
    return [(1.0, 60.0)]


def _steps(rng: np.random.Generator, t: float) -> list[tuple[float, float]]:
    return [(rng.uniform(0.02, 1.5), rng.uniform(250, 700))]


def _bursts(rng: np.random.Generator, t: float) -> list[tuple[float, float]]:
    return [(rng.uniform(0.02, 0.4), 250.0), (rng.uniform(0.01, 0.1), rng.uniform(500, 700))]


def _waves(rng: np.random.Generator, t: float) -> list[tuple[float, float]]:
    return [(0.02, 475 + 225 * np.sin(2 * np.pi * t / 0.9) * np.cos(t / 3))]


def _two_levels(rng: np.random.Generator, t: float) -> list[tuple[float, float]]:
    level = rng.choice([250 + rng.uniform(0, 50), 700 - rng.uniform(0, 50)])
    return [(max(0.02, rng.exponential(0.5)), float(level))]


LOADS: dict[str, Steps] = {
    "idle": _idle,
    "steps": _steps,
    "bursts": _bursts,
    "waves": _waves,
    "two_levels": _two_levels,
}


def _plant(load: str, seconds: float, seed: int) -> Plant:
    rng, t, plant = np.random.default_rng(seed), 1.0, Plant(60.0)
    while t < seconds + 2:
        for duration_s, power_w in LOADS[load](rng, t):
            plant.draw(round(t * NS_PER_S), round((t + duration_s) * NS_PER_S), power_w)
            t += duration_s
    return plant


@dataclass(frozen=True)
class Recorded:
    """A trace, and the truth about it."""

    plant: Plant
    meters: list[Meter]
    trace: Trace
    begin_ns: int
    end_ns: int

    @property
    def meter(self) -> str:
        return self.meters[0].info.id

    def true_j(self, t0_ns: int, t1_ns: int) -> float:
        return self.plant.energy_j(t1_ns) - self.plant.energy_j(t0_ns)

    def spans(self, length_s: float, n: int, seed: int = 0) -> list[tuple[int, int]]:
        """Windows at random positions, two seconds from both ends."""
        begin = self.begin_ns / NS_PER_S + 2
        last = self.end_ns / NS_PER_S - length_s - 2
        starts = np.random.default_rng(seed).uniform(begin, last, n)
        return [(round(t * NS_PER_S), round((t + length_s) * NS_PER_S)) for t in starts]


@pytest.fixture
def record() -> Callable[..., Recorded]:
    """Record the meters of a machine under a load, every few milliseconds."""

    def build(
        faults: Faults = Faults(),  # noqa: B008 - frozen
        load: str = "bursts",
        seconds: float = 20.0,
        interval_s: float = 0.005,
        seed: int = 0,
    ) -> Recorded:
        plant, clock = _plant(load, seconds, seed), VirtualClock(NS_PER_S)
        meters = meters_for(plant, clock, faults, seed)
        with Recorder(meters, interval_s, clock=clock) as recorder:
            clock.sleep(seconds)
        return Recorded(plant, meters, recorder.trace, NS_PER_S, clock.mono_ns())

    return build
