"""Unit conversions, used at the edges only; inside the package everything is SI."""

from __future__ import annotations

JOULES_PER_KWH = 3.6e6
JOULES_PER_MILLIJOULE = 1e-3
JOULES_PER_MICROJOULE = 1e-6
SECONDS_PER_HOUR = 3600.0
WATTS_PER_KW = 1e3

JOULES_BY_UNIT = {
    "uJ": JOULES_PER_MICROJOULE,
    "mJ": JOULES_PER_MILLIJOULE,
    "J": 1.0,
    "kJ": 1e3,
    "MJ": 1e6,
    "Wh": 3.6e3,
    "kWh": JOULES_PER_KWH,
}
"""As files of other tools write them: a capital letter is nine orders of magnitude."""
SECONDS_BY_UNIT = {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0}


def kwh(energy_j: float) -> float:
    """Convert joules to kilowatt-hours, for people.

    >>> kwh(3.6e6)
    1.0
    """
    return energy_j / JOULES_PER_KWH


def kw(power_w: float) -> float:
    """Convert watts to kilowatts, for people.

    >>> kw(1500.0)
    1.5
    """
    return power_w / WATTS_PER_KW


def human_energy(energy_j: float) -> str:
    """Write an energy with the unit that a person would choose.

    >>> human_energy(20_400_000), human_energy(5000), human_energy(0.25)
    ('5.667 kWh', '5.00 kJ', '0.25 J')
    """
    if abs(energy_j) >= 1e5:
        return f"{kwh(energy_j):.3f} kWh"
    if abs(energy_j) >= 1e3:
        return f"{energy_j / 1e3:.2f} kJ"
    return f"{energy_j:.3g} J"


def human_duration(duration_s: float) -> str:
    """Write a duration with the unit that a person would choose.

    >>> human_duration(0.25), human_duration(90), human_duration(7200)
    ('250 ms', '90 s', '2 h')
    """
    if duration_s < 1:
        return f"{duration_s * 1e3:.3g} ms"
    if duration_s < 600:
        return f"{duration_s:.3g} s"
    return f"{duration_s / 3600:.3g} h"
