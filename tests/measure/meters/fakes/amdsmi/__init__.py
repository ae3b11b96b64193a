"""Stands in for the library `amdsmi` 7: its functions, enumerations, exceptions and "N/A".

A test sets `GPUS` and `INIT_STATUS` before it opens meters.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

GPUS: list[dict[str, Any]] = []
INIT_STATUS = 0


class AmdSmiInitFlags(IntEnum):
    INIT_AMD_CPUS = 1
    INIT_AMD_GPUS = 2


class AmdSmiTemperatureType(IntEnum):
    EDGE = 0
    HOTSPOT = 1


class AmdSmiTemperatureMetric(IntEnum):
    CURRENT = 0


class AmdSmiClkType(IntEnum):
    GFX = 0


class AmdSmiException(Exception):  # noqa: N818 - its name in the library
    pass


class AmdSmiLibraryException(AmdSmiException):
    INFO = {  # noqa: RUF012 - a constant
        2: "AMDSMI_STATUS_NOT_SUPPORTED - Feature not supported",
        10: "AMDSMI_STATUS_NO_PERM - Permission Denied",
        34: "AMDSMI_STATUS_DRIVER_NOT_LOADED - Driver not loaded",
    }

    def __init__(self, err_code: int) -> None:
        self.err_code = abs(err_code)
        super().__init__(self.err_code)
        self.err_info = self.INFO[self.err_code]

    def __str__(self) -> str:
        return f"Error code:\n\t{self.err_code} | {self.err_info}"


class AmdSmiParameterException(AmdSmiException):
    pass


def _check(status: int) -> None:
    if status != 0:
        raise AmdSmiLibraryException(status)


def amdsmi_init(flag: AmdSmiInitFlags = AmdSmiInitFlags.INIT_AMD_GPUS) -> None:
    if not isinstance(flag, AmdSmiInitFlags):
        raise AmdSmiParameterException(flag)
    _check(INIT_STATUS)


def amdsmi_get_processor_handles() -> list[int]:
    return list(range(len(GPUS)))


def amdsmi_get_gpu_device_uuid(processor_handle: int) -> str:
    return str(GPUS[processor_handle]["uuid"])


def amdsmi_get_gpu_asic_info(processor_handle: int) -> dict[str, Any]:
    return {"market_name": GPUS[processor_handle]["name"], "vendor_id": 0x1002}


def amdsmi_get_energy_count(processor_handle: int) -> dict[str, Any]:
    gpu = GPUS[processor_handle]
    _check(gpu.get("energy_status", 0))
    return {
        "energy_accumulator": gpu["accumulator"],
        "counter_resolution": 15.25,
        "timestamp": gpu["timestamp"],
    }


def amdsmi_get_power_info(processor_handle: int) -> dict[str, Any]:
    gpu = GPUS[processor_handle]
    _check(gpu.get("power_status", 0))
    return {
        "current_socket_power": gpu.get("current", "N/A"),
        "average_socket_power": gpu.get("average", "N/A"),
        "gfx_voltage": "N/A",
        "power_limit": 750_000_000,
    }


def amdsmi_get_temp_metric(
    processor_handle: int, sensor_type: AmdSmiTemperatureType, metric: AmdSmiTemperatureMetric
) -> int:
    if not isinstance(sensor_type, AmdSmiTemperatureType):
        raise AmdSmiParameterException(sensor_type)
    if not isinstance(metric, AmdSmiTemperatureMetric):
        raise AmdSmiParameterException(metric)
    celsius = GPUS[processor_handle].get(sensor_type.name.lower())
    _check(2 if celsius is None else 0)
    return int(celsius or 0)


def amdsmi_get_clock_info(processor_handle: int, clock_type: AmdSmiClkType) -> dict[str, Any]:
    if not isinstance(clock_type, AmdSmiClkType):
        raise AmdSmiParameterException(clock_type)
    gpu = GPUS[processor_handle]
    _check(gpu.get("clock_status", 0))
    return {"clk": gpu.get("clock", "N/A"), "min_clk": 132, "max_clk": 2100}
