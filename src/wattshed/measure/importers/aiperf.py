"""Files of NVIDIA AIPerf: requests, their summary with energy, and what the GPUs' meters said."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
from numpy.typing import NDArray

from wattshed.errors import TableError
from wattshed.files import read_json
from wattshed.measure.importers.found import (
    UNLIKE,
    Benchmark,
    Energy,
    Request,
    Setting,
    counted,
    in_joules,
    in_seconds,
    read_lines,
    requests_frame,
    with_energy,
)
from wattshed.records import Kind

CURE = "give a file that `aiperf profile` wrote"
TELEMETRY_UNIT = "MJ"
"""Of `nvidia_energy_consumption` and `amd_energy_consumption`: megajoules, not millijoules."""
NS_PER_S = 1e9


class _Metric(msgspec.Struct, frozen=True):
    unit: str
    value: float | list[float]


class _Metadata(msgspec.Struct, frozen=True):
    request_start_ns: int
    request_end_ns: int
    benchmark_phase: str
    was_cancelled: bool = False


class _Record(msgspec.Struct, frozen=True):
    metadata: _Metadata
    metrics: dict[str, _Metric]
    error: object = None


class _Total(msgspec.Struct, frozen=True):
    unit: str
    avg: float
    std: float | None = None
    count: int | None = None


class _Named(msgspec.Struct, frozen=True):
    name: str = ""


class _Models(msgspec.Struct, frozen=True):
    items: list[_Named] = []


class _Phase(msgspec.Struct, frozen=True):
    kind: str = ""
    type: str = ""
    concurrency: int | None = None


class _Input(msgspec.Struct, frozen=True):
    models: _Models = _Models()
    phases: list[_Phase] = []


class _Gpu(msgspec.Struct, frozen=True):
    gpu_name: str = ""


class _Endpoint(msgspec.Struct, frozen=True):
    gpus: dict[str, _Gpu] = {}


class _Telemetry(msgspec.Struct, frozen=True):
    endpoints: dict[str, _Endpoint] = {}


class _Summary(msgspec.Struct, frozen=True):
    request_latency: _Total
    input_sequence_length: _Total
    output_sequence_length: _Total
    request_count: _Total
    time_to_first_token: _Total | None = None
    nvidia_total_gpu_energy: _Total | None = None
    amd_total_gpu_energy: _Total | None = None
    input_config: _Input = _Input()
    telemetry_data: _Telemetry | None = None


class _Sample(msgspec.Struct, frozen=True):
    timestamp_ns: int
    gpu_uuid: str
    telemetry_data: dict[str, object]


def recognise(keys: frozenset[str]) -> bool:
    """Requests: `profile_export.jsonl`."""
    return keys >= {"metadata", "metrics"}


def recognise_summary(keys: frozenset[str]) -> bool:
    """Summary: `profile_export_aiperf.json`."""
    return keys >= {"request_latency", "input_sequence_length", "output_sequence_length"}


def recognise_telemetry(keys: frozenset[str]) -> bool:
    """What meters said: `gpu_telemetry_export.jsonl`."""
    return keys >= {"gpu_uuid", "telemetry_data"}


def read(path: Path) -> list[Benchmark]:
    """Requests of the profiling phase that came to their end."""
    every = list(read_lines(path, _Record, CURE))
    profiled = [r for r in every if r.metadata.benchmark_phase == "profiling"]
    served = [r for r in profiled if not (r.error or r.metadata.was_cancelled)]
    rows, left_out = requests_frame(path, [_row(path, r) for r in served])
    notes = (
        counted(len(every) - len(profiled), "of other phases than profiling")
        + counted(len(profiled) - len(served), "that failed or were cancelled")
        + left_out
    )
    window = (
        min(r.metadata.request_start_ns for r in served) / NS_PER_S,
        max(r.metadata.request_end_ns for r in served) / NS_PER_S,
    )
    return [Benchmark(rows, "requests", notes=notes, window_s=window)]


def _row(path: Path, found: _Record) -> Request:
    def value(name: str) -> float | None:
        metric = found.metrics.get(name)
        if metric is None or isinstance(metric.value, list):
            return None
        if name.endswith("sequence_length"):
            return metric.value
        return in_seconds(f"{path}: metrics.{name}", metric.value, metric.unit)

    return Request(
        value("input_sequence_length"),
        value("output_sequence_length"),
        value("request_latency"),
        value("time_to_first_token"),
    )


def read_summary(path: Path) -> list[Benchmark]:
    """One row: the mean of the requests, with an equal part of the energy for each."""
    found = read_json(path, _Summary, CURE)
    latency, ttft = found.request_latency, found.time_to_first_token
    lengths = (found.input_sequence_length, found.output_sequence_length)
    count = round(found.request_count.avg)
    row = {
        "input_tokens": [round(lengths[0].avg)],
        "output_tokens": [round(lengths[1].avg)],
        "runtime_s": [_time(path, "request_latency", latency, latency.avg)],
        "runtime_sd_s": [
            None if latency.std is None else _time(path, "request_latency", latency, latency.std)
        ],
        "ttft_s": [ttft and _time(path, "time_to_first_token", ttft, ttft.avg)],
        "trials": [count],
        "flags": ["mixed_lengths" if any(_spread(one) for one in lengths) else ""],
    }
    phases = [
        phase
        for phase in found.input_config.phases
        if (phase.kind, phase.type) == ("profiling", "concurrency")
    ]
    settings: dict[str, Setting] = {
        "model": ",".join(item.name for item in found.input_config.models.items) or None,
        "batch_size": phases[0].concurrency if len(phases) == 1 else None,
        **_accelerators(found.telemetry_data),
    }
    energy = _energy(path, found, count)
    kind: Kind = "derived" if energy else "measured"
    return [with_energy(Benchmark(pl.DataFrame(row), "mean", settings, energy, kind))]


def _accelerators(telemetry: _Telemetry | None) -> dict[str, Setting]:
    """Those whose energy was added up."""
    if telemetry is None:
        return {}
    names = [gpu.gpu_name for each in telemetry.endpoints.values() for gpu in each.gpus.values()]
    return {"accelerator": ",".join(sorted(set(names))), "n_accelerators": len(names) or None}


def _time(path: Path, name: str, metric: _Total, value: float) -> float:
    return in_seconds(f"{path}: {name}.unit", value, metric.unit)


def _spread(tokens: _Total) -> bool:
    return (tokens.std or 0.0) > UNLIKE * tokens.avg


def _energy(path: Path, found: _Summary, count: int) -> Energy | None:
    for name in ("nvidia_total_gpu_energy", "amd_total_gpu_energy"):
        total: _Total | None = getattr(found, name)
        if total is not None:
            joules = in_joules(f"{path}: {name}.unit", total.avg, total.unit)
            method = f"aiperf: {name} of the whole benchmark, sampled every 333 ms"
            return Energy(joules / count, method, "shared_equally")
    return None


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
            joules = in_joules(f"{path}: energy_consumption", counter, TELEMETRY_UNIT)
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
