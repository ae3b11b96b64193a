"""What AIPerf's meters said while it sent requests: `gpu_telemetry_export.jsonl`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from wattshed.errors import TableError
from wattshed.measure.importers.found import in_joules, read_lines

CURE = "give the gpu_telemetry_export.jsonl of `aiperf profile --gpu-telemetry`"
UNIT = "MJ"
"""Of `nvidia_energy_consumption` and `amd_energy_consumption`: megajoules, not millijoules."""
NS_PER_S = 1e9


class _Sample(msgspec.Struct, frozen=True):
    timestamp_ns: int
    gpu_uuid: str
    telemetry_data: dict[str, object]


def recognise(keys: frozenset[str]) -> bool:
    """Told by its GPUs."""
    return keys >= {"gpu_uuid", "telemetry_data"}


@dataclass(frozen=True)
class Metered:
    """Joules of all GPUs between two moments, with their least and most, and how many GPUs."""

    value_j: float
    low_j: float
    high_j: float
    gpus: int


def energy_between(path: Path, begin_s: float, end_s: float) -> Metered:
    """What energy counters say of the time between two moments since the epoch.

    Between samples a counter is taken to rise evenly; the bounds are differences between samples
    inside, and around, the two moments.

    Raises
    ------
    TableError
        If the samples of a GPU do not reach from one moment to the other, or have no counter.
    """
    samples: dict[str, list[tuple[float, float]]] = {}
    for sample in read_lines(path, _Sample, CURE):
        counter = sample.telemetry_data.get(
            "nvidia_energy_consumption", sample.telemetry_data.get("amd_energy_consumption")
        )
        if isinstance(counter, int | float):
            joules = in_joules(f"{path}: energy_consumption", counter, UNIT)
            samples.setdefault(sample.gpu_uuid, []).append((sample.timestamp_ns / NS_PER_S, joules))
    if not samples:
        raise TableError(str(path), "no energy counter", "use GPUs whose exporter has one")
    each = [_between(path, gpu, np.array(s), begin_s, end_s) for gpu, s in samples.items()]
    value, low, high = (float(sum(part)) for part in zip(*each, strict=True))
    return Metered(value, low, high, len(each))


def _between(
    path: Path,
    gpu: str,
    samples: NDArray[np.float64],
    t0: float,
    t1: float,
) -> tuple[float, float, float]:
    at, counter = samples[np.argsort(samples[:, 0])].T
    if t0 < at[0] or t1 > at[-1]:
        raise TableError(
            f"{path}: {gpu}",
            f"samples from {at[0]:.3f} to {at[-1]:.3f} s, requests from {t0:.3f} to {t1:.3f} s",
            "give the telemetry of the same benchmark",
        )
    if (np.diff(counter) < 0).any():
        raise TableError(f"{path}: {gpu}", "the counter falls", "measure again: it was reset")
    a, b = np.interp([t0, t1], at, counter)
    inside = counter[(at >= t0) & (at <= t1)]
    low = inside[-1] - inside[0] if len(inside) else 0.0
    before, after = counter[at <= t0][-1], counter[at >= t1][0]
    return float(b - a), float(low), float(after - before)
