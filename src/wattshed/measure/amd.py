"""AMD SMI (`amdsmi`): GPUs as the library sees them, and what it refuses.

The Python library loads ``libamd_smi.so`` of ROCm when it is imported, and must be of its version.
"""

from __future__ import annotations

import contextlib
import importlib
from dataclasses import dataclass
from typing import Any

from wattshed.errors import MeterError
from wattshed.measure.shared import NO_DATA, NOT_PERMITTED, Flags
from wattshed.units import JOULES_PER_MICROJOULE

SAME_VERSION = "install the version of ROCm: pip install 'amdsmi==VERSION'"
NO_PERM = 10  # AMDSMI_STATUS_NO_PERM
NO_VALUE = 0xFFFF  # powers from here on are "not available", where the library does not say "N/A"


def find_gpus() -> list[AmdGpu]:
    """All GPUs of the machine, in the order of the library.

    Raises
    ------
    MeterError
        If there is none, or no library.
    """
    smi = _import()
    try:
        smi.amdsmi_init(smi.AmdSmiInitFlags.INIT_AMD_GPUS)
        gpus = [AmdGpu(smi, handle) for handle in smi.amdsmi_get_processor_handles()]
    except smi.AmdSmiException as error:
        raise refusal(_oneline(error), _flags(error)) from None
    if not gpus:
        raise MeterError("amdsmi", "sees no GPU", "check with 'amd-smi list'")
    return gpus


@dataclass(frozen=True)
class Value:
    """Energy in J or power in W, or why there is none; `step_j`, own time, and averaging."""

    value: float | None
    flags: Flags = ()
    reason: str = ""
    step_j: float | None = None
    stamp: int = 0
    is_averaged: bool = False


class AmdGpu:
    """A GPU as the library sees it.

    Parameters
    ----------
    smi : module
    handle : object
    """

    def __init__(self, smi: Any, handle: Any) -> None:
        self._smi, self._handle = smi, handle
        self.uuid: str = smi.amdsmi_get_gpu_device_uuid(handle)
        self.name: str = smi.amdsmi_get_gpu_asic_info(handle)["market_name"]

    def count(self) -> Value:
        """What the accumulator says."""
        try:
            count = self._smi.amdsmi_get_energy_count(self._handle)
        except self._smi.AmdSmiException as error:
            return Value(None, _flags(error), _oneline(error))
        step_j = count["counter_resolution"] * JOULES_PER_MICROJOULE
        energy_j = count["energy_accumulator"] * step_j
        return Value(energy_j, step_j=step_j, stamp=count["timestamp"])

    def power(self) -> Value:
        """Power now (MI300 and later), or averaged."""
        try:
            info = self._smi.amdsmi_get_power_info(self._handle)
        except self._smi.AmdSmiException as error:
            return Value(None, _flags(error), _oneline(error))
        for key in ("current_socket_power", "average_socket_power"):
            power_w = info.get(key)
            if isinstance(power_w, int) and power_w < NO_VALUE:
                return Value(float(power_w), is_averaged=key.startswith("average"))
        return Value(None, NO_DATA, "says neither current nor average power")

    def temperature_c(self, sensor: str) -> float | None:
        """Temperature at ``HOTSPOT`` or ``EDGE``; None where it is not told."""
        smi = self._smi
        kind, now = smi.AmdSmiTemperatureType[sensor], smi.AmdSmiTemperatureMetric.CURRENT
        try:
            return float(smi.amdsmi_get_temp_metric(self._handle, kind, now))
        except smi.AmdSmiException:
            return None

    def clock_mhz(self) -> float | None:
        """Clock of the compute units; None where it is not told."""
        try:
            info = self._smi.amdsmi_get_clock_info(self._handle, self._smi.AmdSmiClkType.GFX)
        except self._smi.AmdSmiException:
            return None
        return float(info["clk"]) if isinstance(info["clk"], int) else None

    def is_silent_die(self, index: int) -> bool:
        """Whether it is the die of a card of which the other one counts both."""
        return "MI250" in self.name and index % 2 == 1 and not self.power().value


def _import() -> Any:
    try:
        with contextlib.redirect_stdout(None):  # it prints where it does not find its library
            return importlib.import_module("amdsmi")
    except ImportError as error:
        raise MeterError(
            "amdsmi", f"the Python library is missing: {error}", "pip install 'wattshed[amd]'"
        ) from None
    except (KeyError, OSError) as error:
        raise MeterError(
            "amdsmi",
            f"finds no libamd_smi.so, a part of ROCm ({error})",
            "install amd-smi-lib on a machine with an AMD GPU, or set ROCM_PATH",
        ) from None
    except AttributeError as error:
        raise MeterError("amdsmi", f"is not of ROCm's version: {error}", SAME_VERSION) from None


def _flags(error: Any) -> Flags:
    return NOT_PERMITTED if getattr(error, "err_code", None) == NO_PERM else NO_DATA


def _oneline(error: Exception) -> str:
    return " ".join(str(error).split())


def refusal(reason: str, flags: Flags) -> MeterError:
    """The error of a GPU that says nothing."""
    if flags == NOT_PERMITTED:
        cure = "run 'sudo usermod -aG render,video $USER', then log in again"
        return MeterError("amdsmi", reason, cure, "not_permitted")
    return MeterError("amdsmi", reason, "check with 'amd-smi metric --power' and 'dmesg'")
