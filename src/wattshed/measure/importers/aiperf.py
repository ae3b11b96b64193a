"""Files of NVIDIA AIPerf: requests, and their summary with energy."""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl

from wattshed.errors import TableError
from wattshed.files import read_json
from wattshed.measure.importers.found import (
    CONCURRENCY,
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
NS_PER_S = 1e9
CANCELLED = "the benchmark was cancelled before its end"
GRACE = "the total may reach 0.67 s beyond the last request; failed requests have their part in it"


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
    metrics: dict[str, msgspec.Raw] = {}


class _Endpoint(msgspec.Struct, frozen=True):
    gpus: dict[str, _Gpu] = {}


class _Telemetry(msgspec.Struct, frozen=True):
    endpoints: dict[str, _Endpoint] = {}

    @property
    def gpus(self) -> list[_Gpu]:
        """Of all endpoints."""
        return [gpu for each in self.endpoints.values() for gpu in each.gpus.values()]


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
    was_cancelled: bool = False


def recognise(keys: frozenset[str]) -> bool:
    """Requests: `profile_export.jsonl`."""
    return keys >= {"metadata", "metrics"}


def recognise_summary(keys: frozenset[str]) -> bool:
    """Summary: `profile_export_aiperf.json`."""
    return keys >= {"request_latency", "input_sequence_length", "output_sequence_length"}


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
    count = round(found.request_count.avg)
    if count < 1:
        raise TableError(f"{path}: request_count", f"{count}", "give a benchmark that served some")
    row = _mean_row(path, found, count)
    energy = _energy(path, found, count)
    settings = _settings(found)
    told = {CANCELLED: found.was_cancelled, CONCURRENCY: settings["batch_size"], GRACE: energy}
    notes = tuple(note for note, holds in told.items() if holds)
    kind: Kind = "derived" if energy else "measured"
    return [with_energy(Benchmark(row, "mean", settings, energy, kind, notes))]


def _mean_row(path: Path, found: _Summary, count: int) -> pl.DataFrame:
    lengths = (found.input_sequence_length, found.output_sequence_length)
    latency, ttft = found.request_latency, found.time_to_first_token
    spread_s = None
    if latency.std is not None:
        spread_s = _time(path, "request_latency", latency, latency.std)
    row = {
        "input_tokens": float(round(lengths[0].avg)),
        "output_tokens": float(round(lengths[1].avg)),
        "runtime_s": _time(path, "request_latency", latency, latency.avg),
        "runtime_sd_s": spread_s,
        "ttft_s": ttft and _time(path, "time_to_first_token", ttft, ttft.avg),
        "trials": count,
        "flags": "mixed_lengths" if any(_spread(one) for one in lengths) else "",
    }
    return pl.DataFrame([row])


def _settings(found: _Summary) -> dict[str, Setting]:
    """Model, concurrency where it was held, and the accelerators whose energy was added up."""
    held = [
        phase.concurrency
        for phase in found.input_config.phases
        if (phase.kind, phase.type) == ("profiling", "concurrency")
    ]
    gpus = found.telemetry_data.gpus if found.telemetry_data else []
    return {
        "model": ",".join(item.name for item in found.input_config.models.items),
        "batch_size": held[0] if len(held) == 1 else None,
        "accelerator": ",".join(sorted({gpu.gpu_name for gpu in gpus})),
        "n_accelerators": len(gpus) or None,
    }


def _time(path: Path, name: str, metric: _Total, value: float) -> float:
    return in_seconds(f"{path}: {name}.unit", value, metric.unit)


def _spread(tokens: _Total) -> bool:
    return (tokens.std or 0.0) > UNLIKE * tokens.avg


def _energy(path: Path, found: _Summary, count: int) -> Energy | None:
    for name in ("nvidia_total_gpu_energy", "amd_total_gpu_energy"):
        total: _Total | None = getattr(found, name)
        if total is not None:
            joules = in_joules(f"{path}: {name}.unit", total.avg, total.unit)
            method = f"aiperf: {name}, {_made_of(found.telemetry_data)}"
            return Energy(joules / count, method, "shared_equally")
    return None


def _made_of(telemetry: _Telemetry | None) -> str:
    """What AIPerf makes a total of: counters, or without them mean power times time."""
    metrics = [gpu.metrics for gpu in telemetry.gpus] if telemetry else []
    if metrics and all(any("energy_consumption" in name for name in each) for each in metrics):
        return "by counters read every 333 ms"
    return "by counters, or mean power times time: the file does not say"
