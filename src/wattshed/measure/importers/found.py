"""What an importer returns, and what importers share: decoding, units, means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

import msgspec
import polars as pl

from wattshed.errors import FileError, TableError
from wattshed.records import Kind
from wattshed.units import JOULES_BY_UNIT, SECONDS_BY_UNIT

T = TypeVar("T")
Setting = str | float | int | None

UNLIKE = 0.05
"""Relative standard deviation of token counts above which a mean is flagged ``mixed_lengths``."""
CONCURRENCY = "batch_size is the concurrency that was set: the engine's may be smaller"
"""Note of readers that take it so."""
SHAPES: dict[str, pl.DataType] = {
    "input_tokens": pl.Float64(),
    "output_tokens": pl.Float64(),
    "runtime_s": pl.Float64(),
    "ttft_s": pl.Float64(),
}
"""That tokens are whole, and not too many, is checked with all columns of runs."""


class Request(NamedTuple):
    """What a tool says of one request; None where it does not."""

    input_tokens: float | None
    output_tokens: float | None
    runtime_s: float | None
    ttft_s: float | None


@dataclass(frozen=True)
class Energy:
    """Energy of the mean query of a benchmark.

    Attributes
    ----------
    value_j : float
    method : str
        How the tool found it.
    flag : str
        How it was shared: ``shared_equally`` or ``shared_by_token``.
    low_j, high_j : float or None
    """

    value_j: float
    method: str
    flag: str
    low_j: float | None = None
    high_j: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """Requests that were served under the same settings.

    Attributes
    ----------
    rows : polars.DataFrame
        One row a request, or one that is their mean (`shape`): columns of the runs format.
    shape : {"requests", "mean"}
    settings : dict
        Columns with the same value in every row, where the file says it.
    energy : Energy or None
        Of the mean request, where the tool gives one.
    kind : {"measured", "derived", "modelled"}
        Of the energies.
    notes : tuple of str
        What was left out, and what a reader has to know.
    window_s : tuple of float or None
        From the first request sent to the last token, since the epoch; None where the file does not
        tell, or leaves out requests that were served in it.
    """

    rows: pl.DataFrame
    shape: Literal["requests", "mean"]
    settings: Mapping[str, Setting] = field(default_factory=dict)
    energy: Energy | None = None
    kind: Kind = "measured"
    notes: tuple[str, ...] = ()
    window_s: tuple[float, float] | None = None


def mean_of(benchmark: Benchmark) -> Benchmark:
    """The same benchmark as one row: the mean of its requests, with their energy.

    Token counts are rounded to whole tokens.
    """
    if benchmark.shape == "mean":
        return benchmark
    rows, count = benchmark.rows, benchmark.rows.height
    mean = rows.select(
        pl.col("input_tokens", "output_tokens").mean().round(),
        pl.col("runtime_s", "ttft_s").mean(),
        runtime_sd_s=pl.col("runtime_s").std(),
        trials=pl.lit(count),
        flags=pl.lit("mixed_lengths" if _unlike(rows) else ""),
    )
    return with_energy(replace(benchmark, rows=mean, shape="mean"))


def with_energy(benchmark: Benchmark) -> Benchmark:
    """Write the energy of the mean request into its row."""
    energy = benchmark.energy
    if energy is None:
        return benchmark
    rows = benchmark.rows.with_columns(
        accelerator_energy_j=pl.lit(energy.value_j),
        energy_low_j=pl.lit(energy.low_j, dtype=pl.Float64),
        energy_high_j=pl.lit(energy.high_j, dtype=pl.Float64),
        method=pl.lit(energy.method),
        flags=(pl.col("flags") + f"|{energy.flag}").str.strip_chars("|"),
    )
    return replace(benchmark, rows=rows)


def _unlike(rows: pl.DataFrame) -> bool:
    """Whether requests differ in length so much that their mean is no cell."""
    tokens = pl.col("input_tokens", "output_tokens")
    return bool(rows.select(pl.any_horizontal(tokens.std() > UNLIKE * tokens.mean())).item())


def requests_frame(path: Path, requests: list[Request]) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Requests as a table.

    Requests of which no tokens are known, or none were written, are left out and counted.

    Raises
    ------
    TableError
        If none is left.
    """
    every = pl.DataFrame(requests, schema=SHAPES, orient="row", strict=False)
    kept = every.filter((pl.col("input_tokens") > 0) & (pl.col("output_tokens") > 0))
    if not kept.height:
        raise TableError(
            f"{path}: requests",
            f"none of {every.height} has input and output tokens",
            "run the benchmark again with a server that reports usage",
        )
    return kept, counted(every.height - kept.height, "without input or output tokens")


def counted(number: int, what: str) -> tuple[str, ...]:
    """A note on requests that were left out; none where there were none."""
    return (f"{number} request{'s' * (number != 1)} {what} left out",) if number else ()


def in_seconds(where: str, value: float, unit: str) -> float:
    """Convert by the unit that a file states.

    Raises
    ------
    TableError
        If it is none of time.
    """
    return _converted(where, value, unit, SECONDS_BY_UNIT)


def in_joules(where: str, value: float, unit: str) -> float:
    """Convert by the unit that a file states: ``mJ`` and ``MJ`` differ.

    Raises
    ------
    TableError
        If it is none of energy.
    """
    return _converted(where, value, unit, JOULES_BY_UNIT)


def _converted(where: str, value: float, unit: str, known: Mapping[str, float]) -> float:
    if unit not in known:
        raise TableError(where, f"unit {unit!r}", f"use one of {', '.join(known)}")
    if not math.isfinite(value):
        raise TableError(where, f"{value}", "correct the value")
    return value * known[unit]


def read_lines(path: Path, kind: type[T], cure: str) -> Iterator[T]:
    """The records of a JSONL file.

    Raises
    ------
    FileError
        Naming the line.
    """
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if line.strip():
            try:
                yield msgspec.json.decode(line, type=kind)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise FileError(f"{path}: line {number}", str(error), cure) from None
