"""The seam of meters: `info`, `probe` and `read`; and the meters by name.

An adapter is a module in `wattshed.measure.meters` with one function, ``open_meters(argument,
clock)``, which returns a meter for each component that it can read, or raises `MeterError` with the
reason why there is none and the cure. It imports its library inside that function.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from importlib.metadata import entry_points
from typing import Protocol, runtime_checkable

from wattshed.errors import ParameterError
from wattshed.measure.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from wattshed.measure.health import look_at
from wattshed.records import Health, MeterInfo, Reading

GROUP = "wattshed.meters"
"""Entry points of other packages: a name, and a function like those in `METERS`."""


@runtime_checkable
class Meter(Protocol):
    """Energy or power of one component."""

    @property
    def info(self) -> MeterInfo:
        """What it measures."""
        ...

    def probe(self) -> Health:
        """Look at it for a moment: whether its readings can be trusted."""
        ...

    def read(self) -> Reading:
        """What it says now. What it cannot say is None with a flag; it does not raise."""
        ...


class PolledMeter(ABC):
    """A meter whose library or file is asked for its values each time.

    Parameters
    ----------
    info : MeterInfo
    clock : Clock
    """

    def __init__(self, info: MeterInfo, clock: Clock) -> None:
        self._info, self.clock = info, clock

    @property
    def info(self) -> MeterInfo:
        """See `Meter`."""
        return self._info

    @abstractmethod
    def ask(self) -> tuple[float | None, float | None, tuple[str, ...]]:
        """Energy in J, power in W, and flags; what is not known is None."""

    def read(self) -> Reading:
        """See `Meter`."""
        before, wall = self.clock.mono_ns(), self.clock.wall_s()
        energy_j, power_w, flags = self.ask()
        after = self.clock.mono_ns()
        middle = before + (after - before) // 2
        return Reading(middle, wall, energy_j, power_w, (after - before) / NS_PER_S, flags)

    def probe(self) -> Health:
        """See `Meter`."""
        return look_at(self, self.clock)


Opener = Callable[[str, Clock], list[Meter]]

METERS: dict[str, str] = {
    "nvml": "wattshed.measure.meters.nvml:open_meters",
    "amdsmi": "wattshed.measure.meters.amd:open_meters",
    "apple": "wattshed.measure.meters.apple:open_meters",
    "rapl": "wattshed.measure.meters.rapl:open_meters",
    "zeusd": "wattshed.measure.meters.zeusd:open_meters",
    "prometheus": "wattshed.measure.meters.prometheus:open_meters",
    "powermetrics": "wattshed.measure.meters.powermetrics:open_meters",
    "uprof": "wattshed.measure.meters.uprof:open_meters",
    "replay": "wattshed.measure.meters.replay:open_meters",
    "simulated": "wattshed.measure.meters.simulated:open_meters",
    "model": "wattshed.measure.meters.model:open_meters",
}
"""Meters by name, as ``module:function``: imported when they are opened."""


def open_meters(text: str, clock: Clock = SYSTEM_CLOCK) -> list[Meter]:
    """Open the meters that ``NAME[:ARGUMENT]`` asks for, such as ``nvml`` or ``zeusd:HOST:PORT``.

    Raises
    ------
    ParameterError
        If there is no meter of that name, or its argument makes no sense.
    MeterError
        If it is missing on this machine or may not be read.
    """
    name, _, argument = text.partition(":")
    return find_opener(name)(argument, clock)


def find_opener(name: str) -> Opener:
    """What opens the meters of a name.

    Raises
    ------
    ParameterError
    """
    if name in METERS:
        module, _, function = METERS[name].partition(":")
        found: Opener = getattr(importlib.import_module(module), function)
        return found
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        other: Opener = others[name].load()
        return other
    raise ParameterError("meter", f"{name!r} is unknown", f"use one of {', '.join(meter_names())}")


def meter_names() -> list[str]:
    """Names of all meters, those of other packages included."""
    return [*METERS, *sorted(point.name for point in entry_points(group=GROUP))]
