"""Errors of windows by method and length, on simulated meters of known truth.

    python benchmarks/windows.py [--windows 200] [--seed 0]

The load changes between about 250 and 700 W, every half second on average; the counter ticks
every 100 ms, power is averaged over a second, and both are read every 5 ms. Prints the table of
docs/explanation/measuring.md: 95th percentiles of the relative error, in per cent.
"""

from __future__ import annotations

import argparse

import numpy as np

from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.recorder import Recorder
from wattshed.measure.trace import Trace
from wattshed.measure.windows import window_energy

LENGTHS_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
SECONDS = 150.0
WHOLE = Faults(tick_s=0.1, jitter_s=0.002, averaging_s=1.0)
PART = Faults(tick_s=0.1, jitter_s=0.002, duty=0.25, duty_phase_s=0.03)
METHODS = {
    "counter difference": (WHOLE, "counter-difference"),
    "interpolated": (WHOLE, "tick-interpolated"),
    "1-s average power, trapezoid": (WHOLE, "power-trapezoid"),
    "sensor that looks a quarter of the time": (PART, "auto"),
}


def two_levels(seed: int) -> Plant:
    """A machine under the load."""
    rng, plant, t = np.random.default_rng(seed), Plant(60.0), 1.0
    while t < SECONDS + 2:
        power_w = rng.choice([250 + rng.uniform(0, 50), 700 - rng.uniform(0, 50)])
        duration_s = max(0.02, rng.exponential(0.5))
        plant.draw(round(t * NS_PER_S), round((t + duration_s) * NS_PER_S), float(power_w))
        t += duration_s
    return plant


def record(plant: Plant, faults: Faults, seed: int) -> tuple[Trace, str]:
    """Its meter, read every 5 ms."""
    clock = VirtualClock(NS_PER_S)
    meters = meters_for(plant, clock, faults, seed)
    with Recorder(meters, 0.005, clock=clock) as recorder:
        clock.sleep(SECONDS)
    return recorder.trace, meters[0].info.id


def error_pct(
    plant: Plant, trace: Trace, meter: str, method: str, spans: list[tuple[int, int]]
) -> float:
    """95th percentile over windows."""
    errors = []
    for t0, t1 in spans:
        value_j = window_energy(trace, meter, t0, t1, method=method).value_j
        assert value_j is not None
        errors.append(100 * abs(value_j / (plant.energy_j(t1) - plant.energy_j(t0)) - 1))
    return float(np.quantile(errors, 0.95))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--windows", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    plant = two_levels(options.seed)
    traces = {faults: record(plant, faults, options.seed) for faults in (WHOLE, PART)}
    print(f"| window (s) | {' | '.join(METHODS)} |")
    print("|---" * (len(METHODS) + 1) + "|")
    for length_s in LENGTHS_S:
        begin = np.random.default_rng(options.seed).uniform(
            3, SECONDS - 1 - length_s, options.windows
        )
        spans = [(round(t * NS_PER_S), round((t + length_s) * NS_PER_S)) for t in begin]
        found = [error_pct(plant, *traces[f], how, spans) for f, how in METHODS.values()]
        print(f"| {length_s:g} | {' | '.join(f'{e:.2g}' for e in found)} |")


if __name__ == "__main__":
    main()
