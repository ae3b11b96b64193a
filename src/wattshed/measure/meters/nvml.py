"""NVIDIA GPUs, by NVML: the energy counter, and power in the same reading.

On superchips (GH200) the counter covers the whole module, its CPU included, as ML.ENERGY found
(zeus, pull request 172). The meter is then one of the module, and its readings say so; if the GPU
alone is asked for, it has power only.
"""

from __future__ import annotations

from collections.abc import Callable

from wattshed.errors import MeterError, ParameterError
from wattshed.measure.clock import Clock
from wattshed.measure.meter import Meter, PolledMeter
from wattshed.measure.nvidia import (
    Gpu,
    Power,
    capability,
    energy_counter,
    field_power,
    find_gpus,
    is_one_of,
    is_superchip,
    no_slices,
    power_usage,
)
from wattshed.records import MeterInfo
from wattshed.records.measure import Scope
from wattshed.units import JOULES_PER_MILLIJOULE

SCOPES: dict[str, tuple[int, Scope]] = {
    "gpu": (0, "gpu"),
    "module": (1, "module"),
    "memory": (2, "gpu_memory"),
}
"""What may be asked for: NVML_POWER_SCOPE_*, and our name."""

WIDENED = "the counter and power cover the whole module, its CPU included"
TICK = "how often the counter moves is not documented: 10 to 100 ms were seen"
PART_TIME = "power may be sampled for only 25 % of the time on A100 and H100 (arXiv 2312.02741)"

LAST_OF_KEPLER = (3, 7)
KEPLER_SOURCE = "NVML reference, nvmlDeviceGetPowerUsage: +/- 5 % on Fermi and Kepler"


class NvmlMeter(PolledMeter):
    """A GPU, its memory, or the module that it is on.

    Parameters
    ----------
    gpu : Gpu
    info : MeterInfo
    clock : Clock
    counter, power : callable or None
        Ask for J and for W; None where NVML does not support it.
    flags : tuple of str
        Of every reading.
    """

    def __init__(
        self,
        gpu: Gpu,
        info: MeterInfo,
        clock: Clock,
        counter: Callable[[], float] | None,
        power: Callable[[], float] | None,
        flags: tuple[str, ...] = (),
    ) -> None:
        super().__init__(info, clock)
        self._nvml, self._counter, self._power, self._flags = gpu.nvml, counter, power, flags

    def ask(self) -> tuple[float | None, float | None, tuple[str, ...]]:
        """See `PolledMeter`."""
        energy_j, of_energy = self._answer(self._counter)
        power_w, of_power = self._answer(self._power)
        return energy_j, power_w, tuple(dict.fromkeys((*self._flags, *of_energy, *of_power)))

    def _answer(self, query: Callable[[], float] | None) -> tuple[float | None, tuple[str, ...]]:
        if query is None:
            return None, ()
        try:
            return query(), ()
        except self._nvml.NVMLError as error:
            refused = is_one_of(self._nvml, error, "NO_PERMISSION")
            return None, ("not_permitted" if refused else "no_data",)


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Meters of ``[GPUS][/SCOPE]``, such as ``0,2`` or ``0/memory``; of all GPUs if empty.

    Raises
    ------
    MeterError, ParameterError
    """
    names, slash, scope = argument.partition("/")
    if slash and scope not in SCOPES:
        raise ParameterError("nvml", f"scope {scope!r} is unknown", f"use {', '.join(SCOPES)}")
    return [_open(gpu, scope, clock) for gpu in find_gpus(names)]


def _open(gpu: Gpu, asked: str, clock: Clock) -> Meter:
    mig = gpu.has(lambda: gpu.nvml.nvmlDeviceGetMigMode(gpu.handle))
    if mig is not None and mig[0]:
        raise no_slices(gpu.id)
    counted = _counted_scope(gpu)
    scope = asked or counted
    power = field_power(gpu, SCOPES[scope][0])
    if power is None and scope == "gpu":
        power = power_usage(gpu)
    counter = energy_counter(gpu) if scope == counted else None
    if counter is None and power is None:
        raise MeterError(
            gpu.id,
            f"{gpu.name} gives neither energy nor power of its {scope}",
            "choose another scope, or measure at the wall",
        )
    info = _info(gpu, scope, counter is not None, power, asked)
    flags = ("scope_widened",) if scope != (asked or "gpu") else ()
    return NvmlMeter(gpu, info, clock, counter, power.ask if power else None, flags)


def _counted_scope(gpu: Gpu) -> str:
    """What the counter covers: the GPU, unless it shares a chip-to-chip module with a CPU."""
    if field_power(gpu, SCOPES["module"][0]) is None:
        return "gpu"
    if field_power(gpu, SCOPES["gpu"][0]) is None or is_superchip(gpu):
        return "module"
    return "gpu"


def _info(gpu: Gpu, scope: str, counts: bool, power: Power | None, asked: str) -> MeterInfo:
    notes = [TICK] if counts else []
    notes += [WIDENED] if scope == "module" and not asked else []
    notes += [PART_TIME] if "A100" in gpu.name or "H100" in gpu.name else []
    generation = capability(gpu)
    old = generation is not None and generation <= LAST_OF_KEPLER
    return MeterInfo(
        id=f"{gpu.id}/{asked}" if asked else gpu.id,
        source="nvml",
        kind="counter" if counts else "power",
        scope=SCOPES[scope][1],
        covers=(gpu.uuid,),
        vendor="NVIDIA",
        model=gpu.name,
        resolution_j=JOULES_PER_MILLIJOULE if counts else None,
        averaging_s=power.averaging_s if power else 0.0,
        rel_error=0.05 if old else 0.0,
        rel_error_source=KEPLER_SOURCE if old else "",
        note="; ".join(notes),
    )
