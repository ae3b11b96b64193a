"""Errors of the energy of work that begins and ends at rest, on simulated meters of known truth.

    python benchmarks/edges.py [--works 60] [--seed 1]

Work of 4 to 7 s whose power changes between 180 and 280 W every half second at most; rest draws
30 W and is as long as a campaign leaves it, which knows the meter's certificate. Prints the table
of docs/explanation/measuring.md: mean and standard deviation of the relative error, in per cent,
and how often bounds held the truth.
"""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np

from wattshed.measure.campaign.design import Campaign
from wattshed.measure.campaign.trials import margin_of
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.recorder import Recorder
from wattshed.measure.rests import window_between_rests
from wattshed.measure.windows import window_energy
from wattshed.records import WindowEnergy

REST_W = 30.0
TICK = Faults(tick_s=0.1, jitter_s=0.002)
METERS = {
    "tick of 100 ms": TICK,
    "tick of 20 ms": Faults(tick_s=0.02, jitter_s=0.002),
    "50 ms late, and nobody said so": replace(TICK, lag_s=0.05, documented=False),
    "steps of 5 J": replace(TICK, step_j=5.0),
    "steps of 20 J": Faults(step_j=20.0),
    "1-s average power, no counter": Faults(
        unsupported="energy", averaging_s=1.0, power_tick_s=0.1, tick_s=0.1
    ),
}


def measured(
    faults: Faults, rng: np.random.Generator, seed: int
) -> tuple[float, WindowEnergy, WindowEnergy]:
    """Energy of one work, and both windows of it."""
    clock, plant = VirtualClock(), Plant(REST_W)
    (meter,) = meters_for(plant, clock, faults, seed)
    clock.sleep(rng.uniform(0, 3))
    rest_s = margin_of(Campaign(()), [meter.info], [meter.probe()])
    seconds = rng.uniform(4, 7)
    with Recorder([meter], clock=clock) as recorder:
        clock.sleep(rest_s)
        t0 = now = clock.mono_ns()
        t1 = t0 + round(seconds * NS_PER_S)
        while now < t1:
            end = min(t1, now + round(rng.uniform(0.05, 0.5) * NS_PER_S))
            plant.draw(now, end, rng.uniform(180, 280))
            now = end
        clock.sleep(seconds + rest_s)
    plain = window_energy(recorder.trace, meter.info.id, t0, t1)
    found = window_between_rests(recorder.trace, meter.info.id, t0, t1, rest_s)
    return plant.energy_j(t1) - plant.energy_j(t0), plain, found


def row(faults: Faults, works: int, seed: int) -> list[str]:
    """Errors and coverage of both windows."""
    rng = np.random.default_rng(seed)
    errors, held = [], []
    for each in range(works):
        true_j, *windows = measured(faults, rng, each)
        errors.append([100 * ((w.value_j or 0.0) / true_j - 1) for w in windows])
        held.append([(w.low_j or 0.0) <= true_j <= (w.high_j or np.inf) for w in windows])
    means, spreads = np.mean(errors, axis=0), np.std(errors, axis=0, ddof=1)
    told = [f"{m:.3f} ± {s:.3f}" for m, s in zip(means, spreads, strict=True)]
    return told + [f"{share:.0%}" for share in np.mean(held, axis=0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--works", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print(
        "| counter or power | plain window | between rests | bounds held, plain | between rests |"
    )
    print("|---|---|---|---|---|")
    for name, faults in METERS.items():
        print(f"| {name} | {' | '.join(row(faults, options.works, options.seed))} |")


if __name__ == "__main__":
    main()
