"""How NVIDIA GPUs are: temperature, clock, and why the clock is lowered; for the guard."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wattshed.measure.campaign.guard import Observation
from wattshed.measure.nvidia import Gpu, find_gpus

REASONS = {
    0x1: "gpu_idle",
    0x2: "applications_clocks_setting",
    0x4: "sw_power_cap",
    0x8: "hw_slowdown",
    0x10: "sync_boost",
    0x20: "sw_thermal_slowdown",
    0x40: "hw_thermal_slowdown",
    0x80: "hw_power_brake_slowdown",
    0x100: "display_clock_setting",
}
"""Bits of NVML's clocks event reasons (nvml.h)."""


def observer(text: str) -> Callable[[], Observation]:
    """What looks at GPUs: ``0,2``, or all if `text` is empty.

    Of several GPUs it tells the highest temperature, the lowest clock, and the reasons of any.

    Raises
    ------
    MeterError, ParameterError
    """
    gpus = find_gpus(text)

    def observe() -> Observation:
        return combine([observe_one(gpu) for gpu in gpus])

    return observe


def observe_one(gpu: Gpu) -> Observation:
    """How a GPU is now.

    Raises
    ------
    MeterError
        If NVML fails; what the GPU does not know is None.
    """
    nvml = gpu.nvml
    temperature = gpu.has(
        lambda: nvml.nvmlDeviceGetTemperature(gpu.handle, nvml.NVML_TEMPERATURE_GPU)
    )
    clock = gpu.has(lambda: nvml.nvmlDeviceGetClockInfo(gpu.handle, nvml.NVML_CLOCK_GRAPHICS))
    bits = gpu.has(lambda: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu.handle))
    if bits is None:  # older drivers know it by its old name
        old = getattr(nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", lambda _: 0)
        bits = gpu.has(lambda: old(gpu.handle)) or 0
    return Observation(
        None if temperature is None else float(temperature),
        None if clock is None else float(clock),
        tuple(name for bit, name in REASONS.items() if bits & bit),
    )


def combine(seen: Sequence[Observation]) -> Observation:
    """The worst of several."""
    temperatures = [o.temperature_c for o in seen if o.temperature_c is not None]
    clocks = [o.clock_mhz for o in seen if o.clock_mhz is not None]
    reasons = dict.fromkeys(reason for o in seen for reason in o.throttle_reasons)
    return Observation(max(temperatures, default=None), min(clocks, default=None), tuple(reasons))
