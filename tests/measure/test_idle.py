"""Idle power, kept apart by kind, and energy net of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from wattshed.errors import ParameterError
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.idle import Idle, idle_of, net_of_idle
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.recorder import Recorder
from wattshed.measure.trace import Trace
from wattshed.measure.windows import window_energy
from wattshed.records import WindowEnergy

TICK = Faults(tick_s=0.1, jitter_s=0.002)
BEFORE = (3 * NS_PER_S, 8 * NS_PER_S)
WORK = (10 * NS_PER_S, 20 * NS_PER_S)
AFTER = (22 * NS_PER_S, 27 * NS_PER_S)


def worked(after_w: float = 60.0, faults: Faults = TICK) -> tuple[Plant, Trace]:
    """Idle at 60 W, ten seconds of work at 400 W, and idle again."""
    plant, clock = Plant(60.0), VirtualClock(NS_PER_S)
    plant.draw(*WORK, 400.0)
    plant.draw(WORK[1], 40 * NS_PER_S, after_w)
    with Recorder(meters_for(plant, clock, faults), clock=clock) as recorder:
        clock.sleep(29.0)
    return plant, recorder.trace


def test_idle_power_before_and_after() -> None:
    _, trace = worked(after_w=62.0)
    idle = idle_of(trace, "simulated:0", "loaded", BEFORE, AFTER)
    assert (idle.kind, idle.seconds) == ("loaded", 10.0)
    assert idle.power_w == pytest.approx(61.0, abs=0.2)
    assert idle.drift_w == pytest.approx(2.0, abs=0.2)
    assert idle.low_w <= 60.0
    assert idle.high_w >= 62.0
    once = idle_of(trace, "simulated:0", "bare", BEFORE)
    assert once.power_w == pytest.approx(60.0, abs=0.2)
    assert (once.before_w, once.after_w, once.drift_w) == (None, None, None)


def test_net_energy_holds_the_truth() -> None:
    plant, trace = worked()
    idle = idle_of(trace, "simulated:0", "loaded", BEFORE, AFTER)
    gross = window_energy(trace, "simulated:0", *WORK)
    net = net_of_idle(gross, idle, 10.0)
    true_j = plant.energy_j(WORK[1]) - plant.energy_j(WORK[0]) - 600.0
    assert net.low_j <= true_j <= net.high_j
    assert net.value_j == pytest.approx(true_j, rel=0.01)
    assert net.high_j - net.low_j == pytest.approx(
        gross.high_j - gross.low_j + 10.0 * (idle.high_w - idle.low_w)
    )
    assert net.kind == "derived"
    assert net.flags == ("net",)
    assert "loaded idle" in net.method


def test_idle_that_drifts_is_told() -> None:
    _, trace = worked(after_w=75.0)
    idle = idle_of(trace, "simulated:0", "loaded", BEFORE, AFTER)
    net = net_of_idle(window_energy(trace, "simulated:0", *WORK), idle, 10.0)
    assert "idle_drift" in net.flags


def test_idle_without_energy_is_refused() -> None:
    _, trace = worked(faults=Faults(tick_s=0.1, frozen_at_s=1.0))
    with pytest.raises(ParameterError, match=r"bare idle of simulated:0: .*frozen"):
        idle_of(trace, "simulated:0", "bare", BEFORE)


IDLE = Idle("bare", "a", 60.0, 58.0, 62.0, 5.0)
WINDOW = WindowEnergy("a", 1000.0, 900.0, 1100.0, "auto", 1.0, (), "gpu", "measured")


def test_work_that_draws_no_more_than_idle_comes_out_negative() -> None:
    net = net_of_idle(WINDOW, IDLE, 20.0)
    assert (net.value_j, net.low_j, net.high_j) == (-200.0, 900.0 - 1240.0, 1100.0 - 1160.0)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: net_of_idle(WINDOW, Idle("bare", "b", 60.0, 58.0, 62.0, 5.0), 1.0),
        lambda: net_of_idle(WINDOW, IDLE, 0.0),
        lambda: net_of_idle(WINDOW, IDLE, float("nan")),
    ],
)
def test_idle_of_another_meter_or_of_no_time_is_refused(ask: Callable[[], Any]) -> None:
    with pytest.raises(ParameterError):
        ask()


def test_what_has_no_value_has_no_net_value() -> None:
    window = WindowEnergy("a", None, None, None, "auto", 0.0, ("no_data",), "gpu", "modelled")
    net = net_of_idle(window, IDLE, 1.0)
    assert (net.value_j, net.kind, net.flags) == (None, "modelled", ("net", "no_data"))
