"""What a window from rest to rest loses, and one among its like does not."""

from __future__ import annotations

import numpy as np
import pytest

from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.recorder import Recorder
from wattshed.measure.windows import window_energy

REST_W, WORK_W, LENGTH_S, TICK_S = 30.0, 230.0, 2.0, 0.1
MISSED_J = (WORK_W - REST_W) * TICK_S / 3
"""By interpolation in the ticks at both ends, if work may begin anywhere in one."""


def lost_j(lead_s: float, begin_s: float, seed: int) -> float:
    """Energy of work that a window of it misses; work goes on for `lead_s` around the window."""
    clock, plant = VirtualClock(), Plant(REST_W)
    (meter, *_) = meters_for(plant, clock, Faults(tick_s=TICK_S, jitter_s=0.002), seed)
    with Recorder([meter], clock=clock) as recorder:
        clock.sleep(0.5 + begin_s)
        now = clock.mono_ns()
        end = now + round((LENGTH_S + 2 * lead_s) * NS_PER_S)
        plant.draw(now, end, WORK_W)
        clock.sleep(LENGTH_S + 2 * lead_s + 0.5)
    lead = round(lead_s * NS_PER_S)
    window = window_energy(recorder.trace, meter.info.id, now + lead, end - lead)
    assert window.value_j is not None
    assert window.low_j is not None
    assert window.high_j is not None
    assert window.low_j <= WORK_W * LENGTH_S <= window.high_j
    return WORK_W * LENGTH_S - window.value_j


@pytest.mark.parametrize(("lead_s", "missed_j"), [(0.0, MISSED_J), (0.3, 0.0)])
def test_a_window_from_rest_misses_a_third_of_a_tick_and_bounds_hold_it(
    lead_s: float, missed_j: float
) -> None:
    lost = [lost_j(lead_s, TICK_S * k / 16, k) for k in range(16)]
    error = np.std(lost, ddof=1) / len(lost) ** 0.5
    assert np.mean(lost) == pytest.approx(missed_j, abs=3 * error + 0.01)
