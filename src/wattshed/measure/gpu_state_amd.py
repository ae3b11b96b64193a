"""How AMD GPUs are: temperature and clock by AMD SMI; for the guard.

The temperature is that of the hotspot, by which the GPU slows itself down, or of the edge where
there is no other. Why a clock is lowered is not told here: the library has bits for it that differ
between generations.
"""

from __future__ import annotations

from collections.abc import Callable

from wattshed.errors import ParameterError
from wattshed.measure.amd import AmdGpu, find_gpus
from wattshed.measure.campaign.guard import Observation
from wattshed.measure.gpu_state import combine

SENSORS = ("HOTSPOT", "EDGE")


def observer(text: str) -> Callable[[], Observation]:
    """What looks at GPUs: ``0,2``, or all if `text` is empty.

    Raises
    ------
    MeterError, ParameterError
        If there is no such GPU, or none tells its temperature.
    """
    gpus = find_gpus()
    chosen = [_by_index(part, gpus) for part in text.split(",")] if text else gpus

    def observe() -> Observation:
        return combine([observe_one(gpu) for gpu in chosen])

    if observe().temperature_c is None:
        raise ParameterError("--gpus", f"amdsmi:{text} tells no temperature", "leave the guard out")
    return observe


def _by_index(part: str, gpus: list[AmdGpu]) -> AmdGpu:
    if not part.isdecimal() or int(part) >= len(gpus):
        raise ParameterError("--gpus", f"amdsmi:{part}", f"give indexes below {len(gpus)}")
    return gpus[int(part)]


def observe_one(gpu: AmdGpu) -> Observation:
    """How a GPU is now; what it does not know is None."""
    known = (gpu.temperature_c(sensor) for sensor in SENSORS)
    celsius = next((value for value in known if value is not None), None)
    return Observation(celsius, gpu.clock_mhz())
