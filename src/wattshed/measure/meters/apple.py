"""Apple silicon through IOReport, by `zeus-apple-silicon`: CPU, GPU, memory and neural engine.

No root is needed. The values are believed to come from a model of the chip, not from sensors, so
that they count as modelled. What a chip does not report is not offered.
"""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable
from typing import Any

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import Clock
from wattshed.measure.meter import Meter
from wattshed.measure.shared import NO_DATA, Flags, Said, Shared, SharedMeter
from wattshed.records import MeterInfo
from wattshed.records.measure import Scope
from wattshed.units import JOULES_PER_MILLIJOULE

FIELDS: dict[str, tuple[str, Scope]] = {
    "cpu": ("cpu_total_mj", "cpu_package"),
    "gpu": ("gpu_mj", "gpu"),
    "dram": ("dram_mj", "dram"),
    "ane": ("ane_mj", "soc"),
}
"""Field of the library's metrics and scope, by component."""

NOTE = "IOReport is believed to estimate by a model of the chip, not to sense"


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Open a meter for each component that the chip reports.

    Raises
    ------
    ParameterError, MeterError
    """
    if argument:
        raise ParameterError("meter", f"apple takes no argument, got {argument!r}", "say apple")
    library = _import()
    try:
        monitor = library.AppleEnergyMonitor()
        metrics = monitor.get_cumulative_energy()
    except RuntimeError as error:
        raise MeterError("apple", f"IOReport fails: {error}", "try powermetrics") from None
    there = [name for name, (field, _) in FIELDS.items() if getattr(metrics, field) is not None]
    if not there:
        raise MeterError("apple", "IOReport reports no energy on this chip", "try powermetrics")
    shared: Shared[Any] = Shared(lambda: _ask(monitor), clock)
    return [SharedMeter(info_of(name), shared, _pick(name)) for name in there]


def info_of(name: str) -> MeterInfo:
    """What a component is."""
    return MeterInfo(
        id=f"apple:{name}",
        source="apple",
        kind="counter",
        scope=FIELDS[name][1],
        covers=(f"apple-{name}",),
        vendor="Apple",
        provenance="modelled",
        resolution_j=JOULES_PER_MILLIJOULE,
        note=NOTE,
    )


def _import() -> Any:
    try:
        return importlib.import_module("zeus_apple_silicon")
    except ImportError as error:
        if platform.system() != "Darwin":
            cure = "on Linux use nvml, amdsmi or rapl"
            raise MeterError("apple", "this is no Mac with Apple silicon", cure) from None
        cure = "pip install 'wattshed[apple]', or use powermetrics"
        raise MeterError("apple", f"the library is missing: {error}", cure) from None


def _ask(monitor: Any) -> tuple[Any, Flags]:
    try:
        return monitor.get_cumulative_energy(), ()
    except RuntimeError:
        return None, NO_DATA


def _pick(name: str) -> Callable[[Any], Said]:
    field = FIELDS[name][0]

    def pick(metrics: Any) -> Said:
        energy_mj = getattr(metrics, field)
        if energy_mj is None:
            return None, None, NO_DATA
        return energy_mj * JOULES_PER_MILLIJOULE, None, ()

    return pick
