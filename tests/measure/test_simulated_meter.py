"""Simulated meters: what they say of a machine whose power is known."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import ParameterError
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meter import Meter, open_meters
from wattshed.measure.meters.simulated import Faults, SimulatedMeter, SquareWave, meters_for
from wattshed.measure.plant import Plant
from wattshed.records import Reading


def says(faults: Faults, seconds: float = 6.0, every_s: float = 0.01) -> list[Reading]:
    """Readings of a machine that draws 300 W, and 500 W in the third second."""
    plant, clock = Plant(300.0), VirtualClock(2 * NS_PER_S)
    plant.draw(4 * NS_PER_S, 5 * NS_PER_S, 500.0)
    meter, found = SimulatedMeter(plant, clock, faults), []
    while clock.mono_ns() < (2 + seconds) * NS_PER_S:
        found.append(meter.read())
        clock.sleep(every_s)
    return found


def energies(readings: list[Reading]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([reading.energy_j for reading in readings], float)


def powers(readings: list[Reading]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([reading.power_w for reading in readings], float)


def test_without_faults_it_tells_the_truth() -> None:
    readings = says(Faults())
    assert readings[-1].energy_j - readings[0].energy_j == pytest.approx(1997.0, abs=1e-3)
    assert {reading.power_w for reading in readings} == {300.0, 500.0}
    assert isinstance(SimulatedMeter(Plant(1.0), VirtualClock()), Meter)


def test_a_ticking_counter_holds_its_value_between_ticks() -> None:
    values = energies(says(Faults(tick_s=0.1)))
    assert np.count_nonzero(np.diff(values)) in (59, 60)
    ticks = np.flatnonzero(np.diff(energies(says(Faults(tick_s=0.1, jitter_s=0.03)))))
    assert np.std(np.diff(ticks)) > 1


def test_averaged_power_rises_over_a_second() -> None:
    values = powers(says(Faults(averaging_s=1.0)))
    assert values[250] == pytest.approx(400.0, abs=3)  # half a second into the third
    assert values[300] == pytest.approx(500.0, abs=3)


def test_a_part_time_sensor_takes_a_part_for_the_whole() -> None:
    plant = Plant(300.0)
    for i in range(60):  # drawn only where it does not look
        begin = 2 * NS_PER_S + i * 100_000_000
        plant.draw(begin + 30_000_000, begin + 90_000_000, 700.0)
    clock = VirtualClock(2 * NS_PER_S)
    meter = SimulatedMeter(plant, clock, Faults(duty=0.25))
    first = meter.read().energy_j
    clock.sleep(5.0)
    assert meter.read().energy_j - first == pytest.approx(1500.0)


def test_counters_are_quantised_wrap_begin_anew_go_back_and_stop() -> None:
    assert np.all(energies(says(Faults(step_j=7.0))) % 7.0 == 0)
    assert energies(says(Faults(range_j=500.0))).max() < 500.0
    falls = {
        "range": np.diff(energies(says(Faults(range_j=500.0)))).min(),
        "reset": np.diff(energies(says(Faults(reset_at_s=3.0)))).min(),
        "back": np.diff(energies(says(Faults(backwards_at_s=3.0)))).min(),
    }
    assert falls["range"] == pytest.approx(-495.0, abs=5)
    assert falls["reset"] == pytest.approx(-(600.0 + 1100.0), abs=6)
    assert falls["back"] == pytest.approx(-197.0, abs=4)
    stopped = says(Faults(frozen_at_s=3.0))
    assert len(set(energies(stopped)[301:])) == 1
    assert len(set(powers(stopped)[301:])) == 1


def test_errors_of_scale() -> None:
    true_j = energies(says(Faults()))
    assert energies(says(Faults(gain=0.05))) == pytest.approx(1.05 * true_j)
    assert energies(says(Faults(unit_factor=1e3))) == pytest.approx(1e3 * true_j)
    assert energies(says(Faults(counter_factor=1.3))) == pytest.approx(1.3 * true_j)
    assert set(powers(says(Faults(counter_factor=1.3)))) == {300.0, 500.0}
    assert not energies(says(Faults(zero=True))).any()
    assert powers(says(Faults(near_zero=True))).max() == pytest.approx(0.05)


def test_what_is_late_is_of_an_earlier_moment() -> None:
    true_j, late_j = energies(says(Faults())), energies(says(Faults(lag_s=0.05)))
    assert late_j[5:] == pytest.approx(true_j[:-5], abs=1e-3)
    assert np.diff(energies(says(Faults(late_s=0.05)))).min() < 0
    held = energies(says(Faults(stale_s=1.0)))
    assert np.count_nonzero(np.diff(held)) == 5


def test_readings_out_of_order_say_of_which_moment_they_are() -> None:
    readings = says(Faults(out_of_order=0.3))
    plain = says(Faults())
    assert any(b.t_ns < a.t_ns for a, b in pairwise(readings))
    for reading in readings:
        near = min(plain, key=lambda other: abs(other.t_ns - reading.t_ns))
        assert reading.energy_j == pytest.approx(near.energy_j, abs=500 * 0.011)


def test_what_is_missing_is_none_with_a_flag() -> None:
    denied = says(Faults(denied_at_s=3.0))[-1]
    assert (denied.energy_j, denied.power_w, denied.flags) == (None, None, ("not_permitted",))
    gaps = [r for r in says(Faults(gap_every_s=2.0)) if r.flags == ("no_data",)]
    assert len(gaps) == pytest.approx(150, abs=3)
    assert all(r.energy_j is None and r.power_w is None for r in gaps)
    assert says(Faults(unsupported="energy"))[0].energy_j is None
    assert says(Faults(unsupported="power"))[0].power_w is None
    assert says(Faults(unsupported="both"))[0].flags == ("no_data",)


def test_a_module_counts_more_and_says_so() -> None:
    readings = says(Faults(module_at_s=3.0))
    assert readings[-1].flags == ("scope_widened",)
    assert readings[-1].power_w == 450.0
    more_j = readings[-1].energy_j - says(Faults())[-1].energy_j
    assert more_j == pytest.approx(150.0 * 2.99, rel=1e-3)


def test_spikes_are_single_readings_and_the_wall_clock_may_step() -> None:
    readings = says(Faults(spike_every=100))
    assert np.count_nonzero(powers(readings) > 1e5) == 6
    walls = [reading.t_wall_s for reading in says(Faults(wall_step_at_s=3.0))]
    assert max(np.diff(walls)) == pytest.approx(30.01)


def test_info_says_what_a_maker_would_and_no_more() -> None:
    faults = Faults(
        tick_s=0.1, averaging_s=1.0, step_j=2.0, gain=-0.03, lag_s=0.05, range_j=1e4, duty=0.25
    )
    clock = VirtualClock()
    info = SimulatedMeter(Plant(1.0), clock, faults).info
    assert (info.update_period_s, info.averaging_s, info.resolution_j) == (0.1, 1.0, 2.0)
    assert (info.rel_error, info.lag_s, info.range_j) == (0.03, 0.05, 1e4)
    silent = SimulatedMeter(Plant(1.0), clock, Faults(**{**faults.__dict__, "documented": False}))
    assert (silent.info.update_period_s, silent.info.range_j, silent.info.lag_s) == (None, None, 0)
    broken = SimulatedMeter(Plant(1.0), clock, Faults(counter_factor=2.0, unit_factor=1e3)).info
    assert broken == SimulatedMeter(Plant(1.0), clock).info


def test_slices_repeat_one_counter_and_cover_the_same() -> None:
    clock = VirtualClock(NS_PER_S)
    one, two = meters_for(Plant(300.0), clock, Faults(tick_s=0.1, slices=2))
    clock.sleep(3.0)
    assert one.read().energy_j == two.read().energy_j
    assert one.info.covers == two.info.covers
    assert one.info.id != two.info.id


@pytest.mark.parametrize("faults", [Faults(tick_s=0.1, jitter_s=0.02), Faults(late_s=0.1)])
def test_a_seed_gives_the_same_meter_again(faults: Faults) -> None:
    assert says(faults) == says(faults)


@given(st.integers(0, 10**10), st.integers(0, 10**9), st.integers(2, 40))
def test_a_square_wave_knows_its_integral(begin: int, length: int, halves_per_4s: int) -> None:
    wave = SquareWave(100.0, 400.0, 8 / halves_per_4s)
    edges = np.linspace(begin, begin + length, 400)
    middle = (edges[:-1] + edges[1:]) / 2
    slow_j = sum(wave.power_w(int(t)) for t in middle) * length / 399 / NS_PER_S
    found_j = wave.energy_j(begin + length) - wave.energy_j(begin)
    assert found_j == pytest.approx(slow_j, abs=300 * (halves_per_4s + 1) * length / 399 / NS_PER_S)


def test_meters_open_by_name_with_faults_and_a_wave() -> None:
    clock = VirtualClock(10**15)  # as long after its zero as a machine's may be
    (meter,) = open_meters("simulated:frozen_at_s=2,low_w=100,high_w=100,zero=false", clock)
    assert meter.info.update_period_s == 0.1
    first = meter.read().energy_j
    clock.sleep(1.0)
    assert meter.read().energy_j - first == pytest.approx(100.0, abs=11)
    assert meter.read().power_w == 100.0
    assert meter.probe().status == "not_trusted"
    assert len(open_meters("simulated:slices=3", clock)) == 3
    assert open_meters("simulated", clock)[0].probe().status == "ok"


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("colour=1", "'colour' is unknown; use some of tick_s"),
        ("tick_s", "'tick_s' has no value"),
        ("tick_s=long", "Expected `float`"),
        ("period_s=0", "period_s=0; give a number from 0.001 to 1e"),
        ("duty=0", "duty=0; give a number from 0.001 to 1"),
        ("slices=0", "slices=0; give a number from 1 to 64"),
        ("tick_s=nan", "tick_s=nan"),
        ("lag_s=inf", "lag_s=inf"),
        ("read_s=-1", "read_s=-1"),
        ("unsupported=all", "unsupported"),
    ],
)
def test_what_is_no_fault_is_refused(argument: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        open_meters(f"simulated:{argument}", VirtualClock())
