"""Result of `vllm bench serve --save-result --save-detailed`: one row a request, no energy."""

from __future__ import annotations

from pathlib import Path

import msgspec

from wattshed.errors import TableError
from wattshed.files import read_json
from wattshed.measure.importers.found import (
    CONCURRENCY,
    Benchmark,
    Request,
    counted,
    requests_frame,
)

CURE = "run `vllm bench serve` again with --save-result --save-detailed"


class _Result(msgspec.Struct, frozen=True):
    model_id: str
    duration: float
    input_lens: list[int]
    output_lens: list[int]
    ttfts: list[float]
    itls: list[list[float]]
    errors: list[str | None]
    latencies: list[float] | None = None
    max_concurrency: int | None = None
    request_rate: float | str | None = None


def recognise(keys: frozenset[str]) -> bool:
    """Told by the totals that it always has; the ML.ENERGY benchmark has them, and others."""
    always = {"model_id", "duration", "completed", "total_input_tokens"}
    return keys >= always and "steady_state_energy" not in keys


def read(path: Path) -> list[Benchmark]:
    """Requests that were served; those that failed are counted.

    Without `latencies`, the latency is TTFT plus the gaps between chunks, as vLLM computes it.
    """
    found = read_json(path, _Result, CURE)
    _refuse_unequal(path, found)
    latencies = found.latencies or [
        ttft + sum(gaps) for ttft, gaps in zip(found.ttfts, found.itls, strict=True)
    ]
    every = map(Request, found.input_lens, found.output_lens, latencies, found.ttfts)
    served = [
        request
        for request, error in zip(every, found.errors, strict=True)
        if not error and request.output_tokens
    ]
    rows, left_out = requests_frame(path, served)
    failed = counted(len(latencies) - len(served), "that failed")
    concurrency = _concurrency(found)
    return [
        Benchmark(
            rows,
            "requests",
            {"model": found.model_id, "batch_size": concurrency},
            notes=failed + left_out + ((CONCURRENCY,) if concurrency else ()),
        )
    ]


def _concurrency(found: _Result) -> int | None:
    """Requests that were always in flight: with a rate, the maximum is a bound and no more."""
    return found.max_concurrency if found.request_rate == "inf" else None


def _refuse_unequal(path: Path, found: _Result) -> None:
    """Refuse arrays of which one was cut."""
    lengths = {
        name: len(values)
        for name in ("input_lens", "output_lens", "ttfts", "itls", "errors", "latencies")
        if (values := getattr(found, name)) is not None
    }
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TableError(f"{path}: arrays", f"unequal lengths: {told}", CURE)
