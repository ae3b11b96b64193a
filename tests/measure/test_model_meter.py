"""The model meter: an assumption, and marked as one everywhere."""

from __future__ import annotations

import pytest

from wattshed.errors import ParameterError, ProfileError
from wattshed.measure.clock import NS_PER_S, VirtualClock
from wattshed.measure.meter import Meter, open_meters
from wattshed.measure.meters.model import profile_power_w
from wattshed.measure.recorder import Recorder
from wattshed.measure.windows import window_energy
from wattshed.profiles import load_profiles


def test_constant_power_times_time() -> None:
    clock = VirtualClock(NS_PER_S)
    (meter,) = open_meters("model:250", clock)
    assert isinstance(meter, Meter)
    clock.sleep(4.0)
    reading = meter.read()
    assert (reading.energy_j, reading.power_w) == (1000.0, 250.0)
    assert "modelled" in reading.flags
    assert (meter.info.kind, meter.info.provenance) == ("model", "modelled")
    assert "assumption" in meter.info.note


def test_its_windows_say_that_they_are_modelled() -> None:
    clock = VirtualClock(NS_PER_S)
    meters = open_meters("model:250", clock)
    with Recorder(meters, 0.01, clock=clock) as recorder:
        clock.sleep(5.0)
    window = window_energy(recorder.trace, "model:250", 2 * NS_PER_S, 4 * NS_PER_S)
    assert window.value_j == pytest.approx(500.0)
    assert window.kind == "modelled"
    assert "modelled" in window.flags


def test_no_power_is_no_energy_if_that_is_what_is_assumed() -> None:
    clock = VirtualClock(NS_PER_S)
    (meter,) = open_meters("model:0", clock)
    clock.sleep(1.0)
    assert meter.read().energy_j == 0.0


def test_a_profile_gives_its_mean_power() -> None:
    profile = load_profiles()[0]
    (meter,) = open_meters(f"model:{profile.name}", VirtualClock())
    assert profile.name in meter.info.id
    assert meter.read().power_w == pytest.approx(profile_power_w(profile))
    assert 1.0 < profile_power_w(profile) < 10_000.0


def test_a_profile_that_predicts_less_than_nothing_gives_no_power() -> None:
    """By ordinary least squares, short queries have negative energies, which lower the mean."""
    with pytest.raises(ParameterError, match="is below 0 for 13 of 81 sizes in its domain"):
        open_meters("model:wilkins-2024-ols/swing-a100/llama-2-7b", VirtualClock())


@pytest.mark.parametrize("argument", ["", "-5", "inf", "nan"])
def test_what_is_no_power_is_refused(argument: str) -> None:
    with pytest.raises(ParameterError, match=r"model:WATTS|0 W or more"):
        open_meters(f"model:{argument}", VirtualClock())


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(ProfileError, match="no profile named"):
        open_meters("model:nowhere", VirtualClock())
