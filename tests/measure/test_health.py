"""Certificates: each fault is found, and nothing is found where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from wattshed.measure.checks import CHECKS
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.health import judge, judge_all, look_at, look_at_all
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.trace import Series, series_of
from wattshed.records import Health, MeterInfo, Reading

Record = Callable[..., Any]
TICK = {"tick_s": 0.1, "jitter_s": 0.002}
FOUND = {
    "reset": Faults(**TICK, reset_at_s=3.0),
    "backwards": Faults(**TICK, backwards_at_s=3.0),
    "frozen": Faults(**TICK, frozen_at_s=3.0),
    "zero": Faults(zero=True),
    "stale": Faults(**TICK, late_s=0.03),
    "spike": Faults(**TICK, spike_every=500),
    "disagrees": Faults(**TICK, counter_factor=1.3),
    "gap": Faults(**TICK, gap_every_s=3.0, gap_s=0.7),
    "clock_step": Faults(**TICK, wall_step_at_s=3.0),
    "wrong_unit": Faults(**TICK, unit_factor=1000.0),
    "part_time": Faults(**TICK, duty=0.25),
    "scope_widened": Faults(**TICK, module_at_s=3.0),
    "not_permitted": Faults(**TICK, denied_at_s=3.0),
    "no_data": Faults(unsupported="both"),
}
ALSO = {
    "near zero": ("zero", Faults(**TICK, near_zero=True)),
    "cached": ("stale", Faults(**TICK, stale_s=1.0)),
    "counter in mJ": ("wrong_unit", Faults(**TICK, counter_factor=1000.0)),
    "power spike": ("spike", Faults(unsupported="energy", spike_every=500)),
    "wall step back": ("clock_step", Faults(**TICK, wall_step_at_s=3.0, wall_step_s=-60.0)),
    "counter reads low": ("disagrees", Faults(**TICK, counter_factor=0.7)),
    "averaged power, too": ("disagrees", Faults(**TICK, averaging_s=1.0, counter_factor=1.8)),
    "part-time power": ("part_time", Faults(unsupported="energy", duty=0.25)),
    "frozen without power": ("frozen", Faults(**TICK, frozen_at_s=3.0, unsupported="power")),
}
SOUND = {
    "perfect": Faults(),
    "tick": Faults(**TICK),
    "short tick": Faults(tick_s=0.02, jitter_s=0.002),
    "jitter": Faults(tick_s=0.1, jitter_s=0.03),
    "averaged": Faults(**TICK, averaging_s=1.0, power_tick_s=0.1),
    "power only": Faults(unsupported="energy"),
    "counter only": Faults(**TICK, unsupported="power"),
    "quantised": Faults(**TICK, step_j=5.0),
    "lag": Faults(**TICK, lag_s=0.05),
    "wrap": Faults(**TICK, range_j=2000.0),
    "out of order": Faults(**TICK, out_of_order=0.2),
}


def certificate(recorded: Any) -> Health:
    return judge(recorded.meters[0].info, recorded.trace.series(recorded.meter))


@pytest.mark.parametrize(
    ("flag", "faults"),
    [*FOUND.items(), *ALSO.values()],
    ids=[*FOUND, *ALSO],
)
def test_a_fault_is_found_and_told_with_a_cure(record: Record, flag: str, faults: Faults) -> None:
    health = certificate(record(faults, seconds=6.0, interval_s=0.004))
    assert flag in health.flags
    assert health.status != "ok"
    assert health.reason
    assert health.cure
    assert "\n" not in health.reason + health.cure
    assert not health.reason.endswith(".")


def test_each_check_has_a_fault_that_it_finds() -> None:
    assert {check.flag for check in CHECKS} == {*FOUND, "wrap"}


@pytest.mark.parametrize("load", ["idle", "steps", "bursts", "waves", "two_levels"])
@pytest.mark.parametrize("name", SOUND)
def test_nothing_is_found_where_nothing_is_wrong(record: Record, name: str, load: str) -> None:
    health = certificate(record(SOUND[name], load, seconds=3.0, interval_s=0.004))
    assert (health.status, health.flags, health.reason, health.cure) == ("ok", (), "", "")


def test_permission_and_absence_have_a_status_of_their_own(record: Record) -> None:
    assert certificate(record(FOUND["not_permitted"], seconds=6.0)).status == "not_permitted"
    assert certificate(record(FOUND["no_data"], seconds=6.0)).status == "missing"
    assert certificate(record(FOUND["reset"], seconds=6.0)).status == "not_trusted"


def test_tick_step_and_power_are_as_they_are(record: Record) -> None:
    recorded = record(Faults(**TICK, step_j=1.0, read_s=0.001), seconds=6.0)
    health = certificate(recorded)
    mean_w = recorded.true_j(recorded.begin_ns, recorded.end_ns) / 6.0
    assert health.tick_s == pytest.approx(0.1, abs=0.005)
    assert 0.001 < health.tick_sd_s < 0.01
    assert health.resolution_j % 1.0 == pytest.approx(0.0, abs=1e-6)
    assert health.mean_power_w == pytest.approx(mean_w, rel=0.05)
    assert health.counter_over_power == pytest.approx(1.0, abs=0.02)
    assert health.read_s == pytest.approx(0.001)
    assert health.readings == len(recorded.trace.series(recorded.meter))
    assert health.seconds == pytest.approx(6.0, abs=0.01)


def readings_of(
    info: MeterInfo, values: list[tuple[float | None, float | None]], every_s: float
) -> tuple[MeterInfo, Series]:
    return info, series_of(
        Reading(round(i * every_s * NS_PER_S), i * every_s, energy_j, power_w)
        for i, (energy_j, power_w) in enumerate(values)
    )


INFO = MeterInfo("m:0", "m", "counter", "gpu", ("gpu-0",))


def test_a_still_counter_is_frozen_if_power_says_otherwise_or_nothing() -> None:
    for power_w in (60.0, None):
        info, series = readings_of(INFO, [(7.0, power_w)] * 200, 0.01)
        health = judge(info, series)
        assert health.flags == ("frozen",)
        assert ("60 W" in health.reason) == (power_w is not None)


def test_a_coarse_counter_of_an_idle_machine_is_not_called_frozen() -> None:
    plug = MeterInfo("plug:0", "plug", "counter", "wall", ("node",), resolution_j=3600.0)
    assert judge(*readings_of(plug, [(7200.0, 60.0)] * 200, 0.01)).status == "ok"
    slow = MeterInfo("dcgm:0", "dcgm", "counter", "gpu", ("gpu-0",), update_period_s=15.0)
    assert judge(*readings_of(slow, [(7200.0, None)] * 200, 0.01)).status == "ok"


def test_a_wrap_that_may_have_been_missed_is_told() -> None:
    info = MeterInfo("rapl:0", "rapl", "counter", "cpu_package", ("package-0",), range_j=1000.0)
    health = judge(*readings_of(info, [((150.0 * i) % 1000, None) for i in range(20)], 1.0))
    assert "wrap" in health.flags


def test_no_reading_at_all_is_missing() -> None:
    health = judge(INFO, series_of([]))
    assert (health.status, health.readings, health.read_s) == ("missing", 0, None)


def test_a_counter_that_is_not_supported_is_told() -> None:
    health = judge(*readings_of(INFO, [(None, 60.0 + i % 3) for i in range(200)], 0.01))
    assert (health.status, health.flags) == ("missing", ("no_data",))


def test_apple_chips_may_draw_next_to_nothing() -> None:
    values = [(0.01 * 0.02 * i + 1.0, 0.02) for i in range(200)]
    apple = MeterInfo("apple:gpu", "apple", "counter", "gpu", ("gpu-0",), vendor="Apple")
    assert judge(*readings_of(apple, values, 0.01)).status == "ok"
    assert judge(*readings_of(INFO, values, 0.01)).flags == ("zero",)


def test_slices_that_repeat_one_counter_are_told_apart() -> None:
    plant, clock = Plant(300.0), VirtualClock(NS_PER_S)
    slices = meters_for(plant, clock, Faults(**TICK, slices=3))
    found = look_at_all(slices, clock)
    assert [health.status for health in found] == ["ok", "not_trusted", "not_trusted"]
    assert all(health.flags == ("duplicate",) for health in found[1:])
    assert slices[0].info.id in found[1].reason


def test_equal_counters_are_duplicates_whatever_they_claim_to_cover() -> None:
    values: list[tuple[float | None, float | None]] = [(3.0 * i, None) for i in range(200)]
    other = MeterInfo("n:7", "n", "counter", "gpu", ("gpu-7",))
    third = MeterInfo("n:8", "n", "counter", "gpu", ("gpu-8",))
    shifted = [(e + 1.5, p) for e, p in values if e is not None]
    looks = [
        readings_of(INFO, values, 0.01),
        readings_of(other, values, 0.01),
        readings_of(third, shifted, 0.01),
    ]
    assert [h.flags for h in judge_all(looks)] == [(), ("duplicate",), ()]


def test_a_repeated_counter_keeps_a_worse_reason() -> None:
    values: list[tuple[float | None, float | None]] = [(0.0, 0.0)] * 200
    found = judge_all([readings_of(INFO, values, 0.01)] * 2)
    assert found[1].flags == ("duplicate", "zero")
    assert "0" in found[1].reason


def test_a_look_takes_the_time_that_it_needs() -> None:
    plant, clock = Plant(300.0), VirtualClock(NS_PER_S)
    health = look_at(meters_for(plant, clock, Faults(tick_s=0.1))[0], clock)
    assert health.seconds == pytest.approx(1.5, abs=0.01)
    health = look_at(meters_for(plant, clock, Faults(tick_s=2.0))[0], clock, interval_s=0.05)
    assert health.seconds == pytest.approx(8.0, abs=0.1)
    assert health.status == "ok"
    assert np.isclose(health.mean_power_w, 300.0, rtol=0.05)
