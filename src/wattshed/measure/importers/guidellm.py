"""`benchmarks.json` of guidellm: one row a request of each benchmark in it, no energy."""

from __future__ import annotations

from pathlib import Path

import msgspec

from wattshed.files import read_json
from wattshed.measure.importers.found import (
    CONCURRENCY,
    Benchmark,
    Request,
    counted,
    requests_frame,
)

CURE = "write it with `guidellm run --output kind=json`"


class _Served(msgspec.Struct, frozen=True):
    request_start_time: float
    request_end_time: float
    request_latency: float
    prompt_tokens: int | None = None
    output_tokens: int | None = None
    time_to_first_token_ms: float | None = None


class _Requests(msgspec.Struct, frozen=True):
    successful: list[_Served]
    incomplete: list[msgspec.Raw] = []
    errored: list[msgspec.Raw] = []


class _Strategy(msgspec.Struct, frozen=True):
    type_: str = ""
    streams: int | None = None
    rate: float | None = None


class _Backend(msgspec.Struct, frozen=True):
    model: str | None = None


class _Config(msgspec.Struct, frozen=True):
    strategy: _Strategy = _Strategy()
    backend: _Backend = _Backend()
    sample_size: int | None = None


class _Benchmark(msgspec.Struct, frozen=True):
    requests: _Requests
    config: _Config = _Config()


class _File(msgspec.Struct, frozen=True):
    benchmarks: list[_Benchmark]


def recognise(keys: frozenset[str]) -> bool:
    """Told by its list of benchmarks."""
    return "benchmarks" in keys


def read(path: Path) -> list[Benchmark]:
    """Successful requests of each benchmark; the strategy becomes the experiment."""
    return [_benchmark(path, each) for each in read_json(path, _File, CURE).benchmarks]


def _benchmark(path: Path, found: _Benchmark) -> Benchmark:
    served = found.requests.successful
    rows, left_out = requests_frame(
        path,
        [
            Request(
                r.prompt_tokens,
                r.output_tokens,
                r.request_latency,
                _seconds(r.time_to_first_token_ms),
            )
            for r in served
        ],
    )
    strategy, sample = found.config.strategy, found.config.sample_size
    concurrency = 1 if strategy.type_ == "synchronous" else strategy.streams
    sampled = (f"the tool kept a sample of {sample} requests",) if sample else ()
    return Benchmark(
        rows,
        "requests",
        {
            "model": found.config.backend.model,
            "batch_size": concurrency,
            "experiment": "-".join(
                str(part) for part in (strategy.type_, strategy.streams or strategy.rate) if part
            ),
        },
        notes=counted(len(found.requests.errored), "that failed")
        + counted(len(found.requests.incomplete), "that were not finished")
        + left_out
        + sampled
        + ((CONCURRENCY,) if concurrency else ()),
        window_s=None if sample else _window_s(served),
    )


def _window_s(served: list[_Served]) -> tuple[float, float]:
    return min(r.request_start_time for r in served), max(r.request_end_time for r in served)


def _seconds(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1e3
