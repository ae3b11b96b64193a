"""Heat and clocks: whether a trial may begin, and whether it can be trusted; decided purely."""

from __future__ import annotations

from typing import Literal

import msgspec

HARMLESS = frozenset({"gpu_idle", "applications_clocks_setting", "display_clock_setting"})
"""Reasons for a lower clock that hardware gives, and that change no measurement."""
ASKED_FOR = frozenset({"sw_power_cap"})
"""Reasons that are wanted where a power limit was set."""

Action = Literal["go", "wait", "give_up"]


class Guard(msgspec.Struct, frozen=True):
    """When to let the hardware cool down, and for how long.

    Attributes
    ----------
    max_temperature_c : float
        No trial begins above it.
    clock_tolerance : float
        Part by which the clock may be below the one that was asked for.
    look_s : float
        Between two looks while it cools down.
    limit_s : float
        Then the trial begins all the same, and is flagged ``throttled``.
    """

    max_temperature_c: float = 80.0
    clock_tolerance: float = 0.02
    look_s: float = 5.0
    limit_s: float = 600.0


class Observation(msgspec.Struct, frozen=True):
    """What the hardware says of itself; what it does not say is None.

    Attributes
    ----------
    temperature_c : float or None
    clock_mhz : float or None
    throttle_reasons : tuple of str
        In NVML's words, lower case.
    """

    temperature_c: float | None = None
    clock_mhz: float | None = None
    throttle_reasons: tuple[str, ...] = ()


def reasons_of(
    guard: Guard,
    seen: Observation,
    asked_mhz: float | None = None,
    *,
    power_limited: bool = False,
) -> tuple[str, ...]:
    """Why what was just measured is not what was asked for; empty if it is.

    Parameters
    ----------
    guard : Guard
    seen : Observation
        At work.
    asked_mhz : float, optional
        Clock that was set.
    power_limited : bool
        A power limit was set: that it lowers the clock is wanted.
    """
    expected = HARMLESS | ASKED_FOR if power_limited else HARMLESS
    found = [reason for reason in seen.throttle_reasons if reason not in expected]
    if seen.temperature_c is not None and seen.temperature_c > guard.max_temperature_c:
        found.append("hot")
    if not power_limited and is_below(seen.clock_mhz, asked_mhz, guard.clock_tolerance):
        found.append("low_clock")
    return tuple(dict.fromkeys(found))


def is_below(clock_mhz: float | None, asked_mhz: float | None, tolerance: float) -> bool:
    """Whether a clock is known, was asked for, and is lower than that."""
    if clock_mhz is None or asked_mhz is None:
        return False
    return clock_mhz < asked_mhz * (1 - tolerance)


def decide(guard: Guard, seen: Observation, waited_s: float) -> Action:
    """Whether a trial may begin, from how the hardware is before it.

    The clock is no matter yet: at rest it is low.
    """
    hot = seen.temperature_c is not None and seen.temperature_c > guard.max_temperature_c
    slowed = any("thermal" in reason for reason in seen.throttle_reasons)
    if not hot and not slowed:
        return "go"
    return "wait" if waited_s < guard.limit_s else "give_up"
