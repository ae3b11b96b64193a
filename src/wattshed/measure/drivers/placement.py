"""Where a model lies: on one device, or its layers over several, as accelerate spreads them.

Spread layers work one device after the other: that makes large models fit, and nothing faster.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from wattshed.errors import EngineError
from wattshed.measure.drivers.settings import Settings

DISK = "disk"
KINDS = "auto, all, cpu, cuda, cuda:1, mps, or several as cuda:0,cuda:1 or cuda:0,cpu,disk"
BYTES_PER_GB = 1e9


@dataclass(frozen=True)
class Placement:
    """Devices that hold a model.

    Attributes
    ----------
    devices : tuple of torch.device
        The first takes the prompts.
    memory_bytes : tuple of float or None
        For the weights, by device; None for what is free.
    disk : bool
        What does not fit on them is read from a file for each token.
    """

    devices: tuple[Any, ...]
    memory_bytes: tuple[float | None, ...] = (None,)
    disk: bool = False

    @property
    def main(self) -> Any:
        """Device that takes the prompts."""
        return self.devices[0]

    @property
    def is_spread(self) -> bool:
        """Whether there is more than one."""
        return self.disk or len(self.devices) > 1

    @property
    def accelerators(self) -> tuple[Any, ...]:
        """Devices that are not the host."""
        return tuple(device for device in self.devices if device.type != "cpu")

    @property
    def text(self) -> str:
        """For people."""
        return ", ".join([*map(str, self.devices), *([DISK] if self.disk else [])])


def placement_of(torch: Any, given: Settings) -> Placement:
    """The devices asked for; of itself the accelerator, if there is one.

    Raises
    ------
    ParameterError, EngineError
    """
    names = given.text("device", "auto").split(",")
    if names == ["all"]:
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())] or ["cuda:0"]
    if names == ["auto"]:
        found = torch.accelerator.current_accelerator(check_available=True)
        devices: tuple[Any, ...] = (found or torch.device("cpu"),)
    else:
        held = names[:-1] if len(names) > 1 and names[-1] == DISK else names
        devices = tuple(_device(torch, given, name) for name in held)
    if len({(device.type, device.index or 0) for device in devices}) < len(devices):
        raise given.refuse("device", "name each device once")
    return Placement(devices, _memory(given, len(devices)), names[-1] == DISK)


def _device(torch: Any, given: Settings, name: str) -> Any:
    try:
        device = torch.device(name)
    except RuntimeError:
        raise given.refuse("device", f"give {KINDS}") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": torch.backends.mps.is_available()}
    if (device.index or 0) >= there.get(device.type, 0):
        raise EngineError(
            f"{given.driver}: device",
            f"torch {torch.__version__} finds no {name}",
            "give another, or install a torch for it",
        )
    return device


def _memory(given: Settings, devices: int) -> tuple[float | None, ...]:
    """Bytes by device from ``memory_gb``, which may leave out the last ones."""
    text = given.text("memory_gb")
    parts = text.split(",") if text else []
    try:
        told = [float(part) * BYTES_PER_GB for part in parts]
    except ValueError:
        told = [-1.0]
    if any(not 0 < part < float("inf") for part in told) or len(told) > devices:
        raise given.refuse("memory_gb", "give GB for each device, such as 40,40")
    return (*told, *[None] * (devices - len(told)))


def spread(torch: Any, place: str, empty: Any, dtype: Any, placement: Placement) -> dict[str, Any]:
    """Device of each part of a model, by its name: balanced, and in the order of the devices.

    Parameters
    ----------
    torch : module
    place : str
        For errors.
    empty : transformers.PreTrainedModel
        Without weights (on ``meta``).
    dtype : torch.dtype
    placement : Placement

    Raises
    ------
    EngineError
        If the model does not fit, or leaves a device without a part.
    """
    accelerate = importlib.import_module("accelerate")
    empty.tie_weights()
    whole = sorted(empty._no_split_modules or ())
    most = {_key(d): _limit(torch, d, b) for d, b in _limits(placement)}
    if not placement.disk:
        most = accelerate.utils.get_balanced_memory(empty, most, whole, dtype)
        most = {key: most[key] for key in map(_key, placement.devices)}
    found: dict[str, Any] = accelerate.infer_auto_device_map(empty, most, whole, dtype)
    used = set(found.values())
    asked = {*map(_key, placement.devices), *([DISK] if placement.disk else [])}
    if used - asked:
        raise EngineError(
            place, f"does not fit on {placement.text}", "name more devices, or disk after them"
        )
    if asked - used:
        without = ", ".join(str(key) for key in sorted(asked - used, key=str))
        raise EngineError(
            place,
            f"leaves {without} without a part of it",
            "name fewer devices, or give memory_gb",
        )
    return found


def _limits(placement: Placement) -> list[tuple[Any, float | None]]:
    return list(zip(placement.devices, placement.memory_bytes, strict=True))


def _key(device: Any) -> int | str:
    """How accelerate names a device."""
    return device.index or 0 if device.type == "cuda" else str(device.type)


def _limit(torch: Any, device: Any, told: float | None) -> int:
    if told is not None:
        return int(told)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(importlib.import_module("psutil").virtual_memory().available)


def dispatch(model: Any, parts: Mapping[str, Any], folder: str) -> Any:
    """Put the parts of a model where they belong, with hooks that pass on what they compute."""
    accelerate = importlib.import_module("accelerate")
    keep = getattr(model, "_skip_keys_device_placement", None)
    return accelerate.dispatch_model(
        model, device_map=dict(parts), offload_dir=folder, skip_keys=keep
    )


def component_ids(torch: Any, placement: Placement) -> tuple[str, ...]:
    """NVIDIA GPUs as meters name them; none of other kinds."""
    return tuple(
        gpu_id(str(torch.cuda.get_device_properties(device).uuid))
        for device in placement.accelerators
        if device.type == "cuda" and torch.version.cuda
    )


def gpu_id(uuid: str) -> str:
    """NVML's name of a GPU: torch leaves its prefix out."""
    return uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
