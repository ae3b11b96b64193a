"""`emissions.csv` of codecarbon: one row a tracked task, in kilowatt-hours.

Its figures for CPU and memory come from models where there is no meter (load times TDP; 20 W of
memory), and the file does not say which it was: they are left out. Energy of GPUs is taken where
there are any, without the PUE that codecarbon multiplied it with. Only NVIDIA's is read from the
driver for sure; any other is flagged as modelled.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from wattshed.errors import ParameterError
from wattshed.measure.importers.found import Benchmark
from wattshed.records import Kind
from wattshed.runs import MODELLED
from wattshed.tables import Column, check_columns, read_raw
from wattshed.units import JOULES_PER_KWH

COLUMNS = (
    Column("duration", "float", required=True, low=1e-9, high=1e6, unit="s"),
    Column("gpu_energy", "float", required=True, low=0, high=1e5, unit="kWh"),
    Column("gpu_count", "float", low=0, high=1e6),
    Column("gpu_model", "str"),
    Column("tracking_mode", "str"),
    Column("pue", "float", low=1, high=10),
)
HOST_LEFT_OUT = "energy of CPU and memory left out: the file does not say whether a meter saw it"


def recognise(keys: frozenset[str]) -> bool:
    """Told by its energies."""
    return keys >= {"duration", "emissions", "energy_consumed", "gpu_energy"}


def read(path: Path, input_tokens: int | None, output_tokens: int | None) -> list[Benchmark]:
    """Each task as one query of the tokens given.

    Raises
    ------
    ParameterError
        Without `input_tokens` or `output_tokens`.
    """
    for name, given in (("--input-tokens", input_tokens), ("--output-tokens", output_tokens)):
        if given is None:
            raise ParameterError(
                name,
                f"not given, and {path} does not say which query was tracked",
                "give the tokens of the one query that each row tracked",
            )
    tasks = check_columns(read_raw(path), COLUMNS)
    metered = pl.col("gpu_energy") > 0
    driver = pl.col("gpu_model").str.contains("NVIDIA") & (pl.col("tracking_mode") == "machine")
    rows = tasks.select(
        input_tokens=pl.lit(input_tokens),
        output_tokens=pl.lit(output_tokens),
        runtime_s="duration",
        accelerator_energy_j=pl.when(metered).then(
            pl.col("gpu_energy") * JOULES_PER_KWH / pl.col("pue").fill_null(1.0)
        ),
        accelerator=pl.col("gpu_model").str.replace(r"^\d+ x ", ""),
        n_accelerators=pl.when(pl.col("gpu_count") >= 1).then("gpu_count").cast(pl.Int64),
        method=pl.when(metered).then(pl.lit("codecarbon: gpu_energy")),
        flags=pl.when(metered & ~driver.fill_null(value=False)).then(pl.lit(MODELLED)),
    )
    return [Benchmark(rows, "requests", kind=_kind(rows), notes=(HOST_LEFT_OUT,))]


def _kind(rows: pl.DataFrame) -> Kind:
    """Of the energies; nothing is said of it where there are none."""
    if rows["accelerator_energy_j"].null_count() == rows.height:
        return "measured"
    return "modelled" if (rows["flags"] == MODELLED).any() else "derived"
