"""The thermal and clock guard decides from what was seen, and nothing else."""

from __future__ import annotations

import pytest

from wattshed.measure.campaign.guard import Action, Guard, Observation, decide, reasons_of

GUARD = Guard(max_temperature_c=80, clock_tolerance=0.02, limit_s=60)


@pytest.mark.parametrize(
    ("seen", "waited_s", "action"),
    [
        (Observation(), 0, "go"),
        (Observation(temperature_c=80), 0, "go"),
        (Observation(temperature_c=81), 0, "wait"),
        (Observation(temperature_c=81), 60, "give_up"),
        (Observation(temperature_c=50, throttle_reasons=("hw_thermal_slowdown",)), 0, "wait"),
        (Observation(clock_mhz=210, throttle_reasons=("gpu_idle",)), 0, "go"),
    ],
)
def test_a_trial_begins_when_it_is_cool(seen: Observation, waited_s: float, action: Action) -> None:
    assert decide(GUARD, seen, waited_s) == action


@pytest.mark.parametrize(
    ("seen", "asked", "limited", "reasons"),
    [
        (Observation(70, 1400), 1400, False, ()),
        (Observation(70, 1380), 1400, False, ()),
        (Observation(70, 1300), 1400, False, ("low_clock",)),
        (Observation(70, 1300), None, False, ()),
        (Observation(70, None), 1400, False, ()),
        (Observation(90, 1300), 1400, False, ("hot", "low_clock")),
        (Observation(70, 1300, ("sw_power_cap",)), 1400, False, ("sw_power_cap", "low_clock")),
        (Observation(70, 1300, ("sw_power_cap",)), 1400, True, ()),
        (Observation(70, 1300, ("sw_thermal_slowdown",)), 1400, True, ("sw_thermal_slowdown",)),
        (Observation(throttle_reasons=("gpu_idle", "applications_clocks_setting")), 1, False, ()),
    ],
)
def test_a_trial_that_was_slowed_says_why(
    seen: Observation, asked: float | None, limited: bool, reasons: tuple[str, ...]
) -> None:
    assert reasons_of(GUARD, seen, asked, power_limited=limited) == reasons
