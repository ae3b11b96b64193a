"""What a window from rest to rest loses, and what is known of rest gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest

from wattshed.measure.campaign.design import Campaign
from wattshed.measure.campaign.trials import margin_of
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.recorder import Recorder
from wattshed.measure.rests import window_between_rests
from wattshed.measure.trace import Trace
from wattshed.measure.windows import window_energy
from wattshed.records import WindowEnergy

REST_W, WORK_W, LENGTH_S, TICK_S = 30.0, 230.0, 2.0, 0.1
MISSED_J = (WORK_W - REST_W) * TICK_S / 3
"""By interpolation in the ticks at both ends, if work may begin anywhere in one."""
TICK = {"tick_s": TICK_S, "jitter_s": 0.002}
WORK_J = WORK_W * LENGTH_S


@dataclass(frozen=True)
class Work:
    """A trace of work between rests."""

    trace: Trace
    t0_ns: int
    t1_ns: int
    rest_s: float

    @property
    def meter(self) -> str:
        return self.trace.manifest.meters[0].id

    def plain(self, lead_s: float = 0.0) -> WindowEnergy:
        lead = round(lead_s * NS_PER_S)
        return window_energy(self.trace, self.meter, self.t0_ns + lead, self.t1_ns - lead)

    def between_rests(self) -> WindowEnergy:
        return window_between_rests(self.trace, self.meter, self.t0_ns, self.t1_ns, self.rest_s)


def work_after(
    begin_s: float,
    seed: int,
    faults: Faults,
    *,
    length_s: float = LENGTH_S,
    tail: Callable[[float], float] = lambda _: REST_W,
    rest_w: float = REST_W,
) -> Work:
    """Work that begins so long after a meter, with the rest that a campaign leaves around it."""
    clock, plant = VirtualClock(), Plant(rest_w)
    (meter, *_) = meters_for(plant, clock, faults, seed)
    clock.sleep(begin_s)
    rest_s = margin_of(Campaign(()), [meter.info])
    with Recorder([meter], clock=clock) as recorder:
        clock.sleep(rest_s)
        t0 = clock.mono_ns()
        t1 = t0 + round(length_s * NS_PER_S)
        plant.draw(t0, t1, WORK_W)
        for k in range(100):
            plant.draw(
                *(t1 + round(rest_s * x * NS_PER_S / 100) for x in (k, k + 1)), tail(k / 100)
            )
        clock.sleep(length_s + rest_s)
    return Work(recorder.trace, t0, t1, rest_s)


def holds(window: WindowEnergy, true_j: float) -> bool:
    assert window.low_j is not None
    assert window.high_j is not None
    return window.low_j <= true_j <= window.high_j


def lost_j(window: WindowEnergy, true_j: float = WORK_J) -> float:
    """Energy of work that a window of it misses."""
    assert window.value_j is not None
    return true_j - window.value_j


@pytest.mark.parametrize(
    ("lead_s", "missed_j"), [(0.0, MISSED_J), (0.3, 0.0)], ids=["from rest", "among its like"]
)
def test_a_plain_window_from_rest_misses_a_third_of_a_tick_and_bounds_hold_it(
    lead_s: float, missed_j: float
) -> None:
    lost = []
    for k in range(12):
        work = work_after(TICK_S * k / 12, k, Faults(**TICK), length_s=LENGTH_S + 2 * lead_s)
        window = work.plain(lead_s)
        assert holds(window, WORK_J)
        lost.append(lost_j(window))
    error = np.std(lost, ddof=1) / len(lost) ** 0.5
    assert np.mean(lost) == pytest.approx(missed_j, abs=3 * error + 0.01)


@pytest.mark.parametrize(
    "faults",
    [
        Faults(**TICK),
        Faults(tick_s=0.02, jitter_s=0.002),
        Faults(**TICK, documented=False),
        Faults(**TICK, unsupported="power"),
        Faults(**TICK, lag_s=0.05),
        Faults(**TICK, lag_s=0.05, documented=False),
        Faults(**TICK, range_j=300.0),
        Faults(tick_s=1.0, jitter_s=0.05),
    ],
    ids=["tick", "short", "unknown", "no power", "lag", "unknown lag", "wrap", "slow"],
)
def test_what_rest_draws_gives_back_what_the_ends_of_a_window_lose(faults: Faults) -> None:
    lost = []
    for k in range(8):
        work = work_after(faults.tick_s * k / 8 + 0.013, k, faults)
        window = work.between_rests()
        assert window.method == "tick-interpolated between rests"
        assert holds(window, WORK_J)
        lost.append(lost_j(window))
    error = np.std(lost, ddof=1) / len(lost) ** 0.5
    assert np.mean(lost) == pytest.approx(0.0, abs=3 * error + 0.01)
    assert np.max(np.abs(lost)) < MISSED_J / 10


@pytest.mark.parametrize(
    ("faults", "part"),
    [
        (Faults(unsupported="energy", averaging_s=1.0, power_tick_s=0.1, tick_s=0.1), 0.1),
        (Faults(**TICK, step_j=5.0), 0.5),
        (Faults(**TICK, gap_every_s=3.0, gap_s=0.7), 0.5),
        (Faults(**TICK, spike_every=300), 0.1),
        (Faults(**TICK, out_of_order=0.2), 0.1),
    ],
    ids=["averaged", "coarse", "gaps", "spikes", "out of order"],
)
def test_between_rests_a_bad_meter_is_nearer_to_the_truth(faults: Faults, part: float) -> None:
    plain, found = [], []
    for k in range(8):
        work = work_after(TICK_S * k / 8 + 0.013, k, faults)
        assert holds(work.between_rests(), WORK_J)
        plain.append(lost_j(work.plain()))
        found.append(lost_j(work.between_rests()))
    assert abs(np.mean(found)) < part * abs(np.mean(plain))


def test_a_machine_that_comes_to_rest_slowly_errs_by_what_that_draws_at_most() -> None:
    """Power falls from 80 W to rest within the rest after the work: a little counts as work."""
    work = work_after(0.05, 0, Faults(**TICK), tail=lambda part: max(REST_W, 80 - 100 * part))
    more_j = -lost_j(work.between_rests())
    assert 0 <= more_j < (80 - REST_W) * work.rest_s / 4


@pytest.mark.parametrize("rest_w", [1.0, 120.0])
def test_it_does_not_matter_what_rest_draws(rest_w: float) -> None:
    work = work_after(0.05, 0, Faults(**TICK), rest_w=rest_w, tail=lambda _: rest_w)
    assert holds(work.between_rests(), WORK_J)
    assert lost_j(work.between_rests()) == pytest.approx(0.0, abs=0.002 * WORK_J)


def test_without_a_rest_that_was_seen_it_is_the_plain_window() -> None:
    work = work_after(0.05, 0, Faults(**TICK))
    for rest_s in (0.0, 3 * work.rest_s):
        found = window_between_rests(work.trace, work.meter, work.t0_ns, work.t1_ns, rest_s)
        assert found == work.plain()


def test_rests_are_long_enough_for_slow_meters() -> None:
    def rest_s(faults: Faults) -> float:
        (meter,) = meters_for(Plant(REST_W), VirtualClock(), faults)
        return margin_of(Campaign(()), [meter.info])

    assert rest_s(Faults(**TICK)) == Campaign(()).margin_s
    assert rest_s(Faults(**TICK, averaging_s=1.0)) == Campaign(()).margin_s
    assert rest_s(Faults(unsupported="energy", averaging_s=1.0)) > 2.0
    assert rest_s(Faults(tick_s=1.0)) > 2.0
