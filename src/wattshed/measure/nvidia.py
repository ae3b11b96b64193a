"""NVIDIA's management library (NVML) through nvidia-ml-py: opened late, with errors that help."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from wattshed.errors import InputError, MeterError, ParameterError, Status
from wattshed.units import JOULES_PER_MILLIJOULE

T = TypeVar("T")

WATTS_PER_MILLIWATT = 1e-3

CURES: dict[str, tuple[Status, str]] = {
    "LIBRARY_NOT_FOUND": (
        "missing",
        "install NVIDIA's driver, or hand the GPUs to the container (docker run --gpus all)",
    ),
    "DRIVER_NOT_LOADED": ("missing", "load NVIDIA's driver (modprobe nvidia); nvidia-smi shows it"),
    "LIB_RM_VERSION_MISMATCH": (
        "missing",
        "reboot: the library and the loaded driver are of different versions",
    ),
    "NO_PERMISSION": (
        "not_permitted",
        "let this user read and write /dev/nvidia*, or read through zeusd",
    ),
    "GPU_IS_LOST": ("missing", "reset the GPU or reboot the machine"),
    "RESET_REQUIRED": ("missing", "reset the GPU (nvidia-smi --gpu-reset) or reboot the machine"),
}
"""By NVML's code: status of the meter, and what to do."""

UNSUPPORTED = ("NOT_SUPPORTED", "INVALID_ARGUMENT", "FUNCTION_NOT_FOUND")
"""How NVML says that a GPU, or an older driver, does not know a query."""

FIELDS = ((186, 0.0), (185, 1.0))
"""NVML_FI_DEV_POWER_INSTANT and _AVERAGE, with the seconds that each is averaged over."""

VALUE_NAMES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")
"""Members of NVML's value, by its type."""

GA100 = (8, 0)
"""Compute capability. NVML reference: later ones average `nvmlDeviceGetPowerUsage` over 1 s."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML knows it.

    Attributes
    ----------
    nvml : module
        pynvml, initialised.
    handle : object
    index : int
        May be another one after a reboot; `uuid` stays.
    uuid, name : str
    """

    nvml: Any
    handle: Any
    index: int
    uuid: str
    name: str

    @property
    def id(self) -> str:
        """As errors and meters name it."""
        return f"nvml:{self.index}"

    def has(self, query: Callable[[], T]) -> T | None:
        """Answer of a query, or None if this GPU does not know it.

        Raises
        ------
        MeterError
            If it fails for another reason.
        """
        try:
            return query()
        except self.nvml.NVMLError as error:
            if is_one_of(self.nvml, error, *UNSUPPORTED):
                return None
            raise explained(self.nvml, error, self.id) from None


def is_one_of(nvml: Any, error: Any, *names: str) -> bool:
    """Whether an error of NVML has one of these codes."""
    return error.value in {getattr(nvml, f"NVML_ERROR_{name}") for name in names}


def explained(nvml: Any, error: Any, where: str) -> MeterError:
    """An error of NVML as ours."""
    for name, (status, cure) in CURES.items():
        if is_one_of(nvml, error, name):
            return MeterError(where, f"NVML says {str(error)!r}", cure, status)
    return MeterError(where, f"NVML says {str(error)!r}", "see whether nvidia-smi works")


def connect() -> Any:
    """Load and initialise NVML; returns the module pynvml.

    Raises
    ------
    MeterError
        If nvidia-ml-py, the library or the driver is missing, or may not be used.
    """
    try:
        nvml = importlib.import_module("pynvml")
    except ImportError:
        raise MeterError(
            "nvml", "nvidia-ml-py is not installed", "pip install 'wattshed[nvidia]'"
        ) from None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        raise explained(nvml, error, "nvml") from None
    return nvml


def find_gpus(text: str) -> list[Gpu]:
    """GPUs by index or UUID, with commas between; all if `text` is empty.

    Raises
    ------
    MeterError
        If there is none, or NVML fails.
    ParameterError
        If one is not there, or named twice.
    """
    nvml = connect()
    count = _count(nvml)
    names = [name.strip() for name in text.split(",")] if text else map(str, range(count))
    gpus = [_gpu(nvml, name, count) for name in names]
    for i, gpu in enumerate(gpus):
        if gpu.uuid in {other.uuid for other in gpus[:i]}:
            raise ParameterError("nvml", f"GPU {gpu.index} is named twice", "name each GPU once")
    return gpus


def _count(nvml: Any) -> int:
    try:
        count: int = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise explained(nvml, error, "nvml") from None
    if count == 0:
        raise MeterError("nvml", "this machine has no GPU that NVML knows", "see nvidia-smi -L")
    return count


def _gpu(nvml: Any, name: str, count: int) -> Gpu:
    try:
        handle = _handle(nvml, name, count)
        index, uuid = nvml.nvmlDeviceGetIndex(handle), nvml.nvmlDeviceGetUUID(handle)
        return Gpu(nvml, handle, index, uuid, nvml.nvmlDeviceGetName(handle))
    except nvml.NVMLError as error:
        raise explained(nvml, error, f"nvml:{name}") from None


def _handle(nvml: Any, name: str, count: int) -> Any:
    if name.startswith("MIG-"):
        raise no_slices(f"nvml:{name}")
    if name.isdecimal() and int(name) < count:
        return nvml.nvmlDeviceGetHandleByIndex(int(name))
    try:
        if name.startswith("GPU-"):
            return nvml.nvmlDeviceGetHandleByUUID(name)
    except nvml.NVMLError as error:
        if not is_one_of(nvml, error, "NOT_FOUND", "INVALID_ARGUMENT"):
            raise
    raise _no_such_gpu(name, count)


def _no_such_gpu(name: str, count: int) -> InputError:
    return ParameterError(
        "nvml", f"{name!r} is no GPU here", f"give an index from 0 to {count - 1}, or a UUID"
    )


def no_slices(where: str) -> MeterError:
    """Why a GPU that is split by MIG is not metered."""
    return MeterError(
        where,
        "MIG is on: NVML has no energy of single instances, and the GPU's counter covers them all",
        "turn MIG off (nvidia-smi -mig 0), or name other GPUs",
        "not_trusted",
    )


class Power(NamedTuple):
    """A way to ask for power in W."""

    ask: Callable[[], float]
    averaging_s: float


def is_superchip(gpu: Gpu) -> bool:
    """Whether the GPU is on one module with a CPU, as on GH200: they have a chip-to-chip link."""
    info = gpu.has(lambda: gpu.nvml.nvmlDeviceGetC2cModeInfoV(gpu.handle))
    return info is not None and bool(info.isC2cEnabled)


def energy_counter(gpu: Gpu) -> Callable[[], float] | None:
    """How to ask for energy in J, if the GPU counts it."""

    def ask() -> float:
        energy_mj: int = gpu.nvml.nvmlDeviceGetTotalEnergyConsumption(gpu.handle)
        return energy_mj * JOULES_PER_MILLIJOULE

    return None if gpu.has(ask) is None else ask


def field_power(gpu: Gpu, scope: int) -> Power | None:
    """Instantaneous power if the GPU gives it, else averaged."""
    for field, averaging_s in FIELDS:

        def ask(query: tuple[int, int] = (field, scope)) -> float:
            found = gpu.nvml.nvmlDeviceGetFieldValues(gpu.handle, [query])[0]
            if found.nvmlReturn:
                raise gpu.nvml.NVMLError(found.nvmlReturn)
            power_mw: float = getattr(found.value, VALUE_NAMES[found.valueType])
            return power_mw * WATTS_PER_MILLIWATT

        if gpu.has(ask) is not None:
            return Power(ask, averaging_s)
    return None


def power_usage(gpu: Gpu) -> Power | None:
    """What drivers without those fields give."""

    def ask() -> float:
        power_mw: int = gpu.nvml.nvmlDeviceGetPowerUsage(gpu.handle)
        return power_mw * WATTS_PER_MILLIWATT

    if gpu.has(ask) is None:
        return None
    found = capability(gpu)
    return Power(ask, 1.0 if found is None or found > GA100 else 0.0)


def capability(gpu: Gpu) -> tuple[int, int] | None:
    """Compute capability, if the GPU tells it."""
    return gpu.has(lambda: tuple(gpu.nvml.nvmlDeviceGetCudaComputeCapability(gpu.handle)))
