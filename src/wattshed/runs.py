"""Runs: measured trials, or cell means of trials, of queries on deployments.

One row is the mean of `trials` trials (1 unless told) with the same tokens. Columns are
those of the runs format; `trials` and the `*_sd_*` columns are ours, so that published
means with standard deviations can be used like raw trials. A row may have no energy: then it says
how long a query took, and no more.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from msgspec import structs

from wattshed.data.catalog import dataset_names, dataset_path, provenance_of, users_own
from wattshed.errors import FileError, TableError
from wattshed.files import sha256, write_atomically
from wattshed.records import Provenance
from wattshed.tables import Column, RawTable, check_columns, read_raw

MAX_TOKENS = 100_000_000
MAX_RUNTIME_S = 1e6
MAX_POWER_W_PER_ACCELERATOR = 5000.0
MIN_POWER_W = 1e-4

COLUMNS = (
    Column("system", "str", required=True),
    Column("accelerator", "str"),
    Column("model", "str", required=True),
    Column("engine", "str"),
    Column("n_accelerators", "int", low=1, high=1e6),
    Column("tensor_parallel", "int", low=1, high=1e6),
    Column("batch_size", "float", low=1, high=1e6),
    Column("clock_mhz", "float", low=1, high=1e5, unit="MHz"),
    Column("kv_cache", "bool"),
    Column("input_tokens", "int", required=True, low=1, high=MAX_TOKENS, unit="tokens"),
    Column("output_tokens", "int", required=True, low=1, high=MAX_TOKENS, unit="tokens"),
    Column("trial", "int", low=0),
    Column("trials", "int", low=1),
    Column("runtime_s", "float", required=True, low=1e-9, high=MAX_RUNTIME_S, unit="s"),
    Column("runtime_sd_s", "float", low=0, high=MAX_RUNTIME_S, unit="s"),
    Column("ttft_s", "float", low=0, high=MAX_RUNTIME_S, unit="s"),
    Column("accelerator_energy_j", "float", low=1e-9, high=1e12, unit="J"),
    Column("accelerator_energy_sd_j", "float", low=0, high=1e12, unit="J"),
    Column("host_energy_j", "float", low=-1e12, high=1e12, unit="J"),
    Column("host_energy_sd_j", "float", low=0, high=1e12, unit="J"),
    Column("energy_low_j", "float", low=0, high=1e12, unit="J"),
    Column("energy_high_j", "float", low=0, high=1e12, unit="J"),
    Column("method", "str"),
    Column("flags", "str"),
    Column("experiment", "str"),
    Column("input_tokens_nominal", "int", low=1, high=MAX_TOKENS, unit="tokens"),
    Column("output_token_limit", "int", low=1, high=MAX_TOKENS, unit="tokens"),
)

MODELLED, SIMULATED = "modelled", "simulated"
"""Flags of rows whose energy no meter made: an estimate; and what an engine that is only a model
was made to use."""

SETTINGS = (
    "system",
    "model",
    "accelerator",
    "n_accelerators",
    "engine",
    "tensor_parallel",
    "batch_size",
    "clock_mhz",
    "kv_cache",
)
"""Columns that together make a deployment, the unit that gets a profile."""


@dataclass(frozen=True)
class Runs:
    """A checked runs table.

    Attributes
    ----------
    name : str
        Built-in name or file name.
    table : polars.DataFrame
        The columns of `COLUMNS`, all present; missing values are null.
    provenance : list of Provenance
    content_hash : str
        SHA-256 of the file.
    prefix : str
        Put before the names of profiles fitted from it.
    """

    name: str
    table: pl.DataFrame
    provenance: list[Provenance]
    content_hash: str
    prefix: str = ""

    def only(self, column: str, values: tuple[str, ...]) -> Runs:
        """Keep the rows whose `column` (``system`` or ``model``) is one of `values`.

        Raises
        ------
        TableError
            If a value does not occur.
        """
        known = sorted(self.table[column].unique().to_list())
        for value in values:
            if value not in known:
                raise TableError(
                    f"{self.name}: column {column}",
                    f"no row has {value!r}",
                    f"use one of {', '.join(known)}",
                )
        return replace(self, table=self.table.filter(pl.col(column).is_in(values)))


def read_runs(source: str | Path) -> Runs:
    """Read runs from a file, or the built-in runs of that name.

    Parameters
    ----------
    source : str or Path
        CSV, Parquet or JSONL file in the runs format, or a name of `wattshed data list`.

    Raises
    ------
    FileError, TableError
        Naming the row, the value and the cure.
    """
    built_in = str(source) in dataset_names("runs")
    path = dataset_path(str(source)) if built_in else Path(source)
    table = check_runs(read_raw(path))
    provenance = provenance_of(str(source)) if built_in else users_own(path)
    if any_modelled(table):
        provenance = structs.replace(provenance, kind="modelled")
    prefix = f"{source}/" if built_in else ""
    return Runs(str(source), table, [provenance], sha256(path), prefix)


def check_runs(raw: RawTable) -> pl.DataFrame:
    """Check a table of runs, and fill in what an empty column means.

    Raises
    ------
    TableError
        Naming the row, the value and the cure.
    """
    table = check_columns(raw, COLUMNS).with_columns(
        pl.col("trials").fill_null(1),
        pl.col("n_accelerators").fill_null(1),
        pl.col("flags").fill_null(""),
    )
    _check_power(raw, table)
    return table


def write_runs(table: pl.DataFrame, path: Path) -> None:
    """Write runs as the suffix of the file says, whole or not at all.

    Raises
    ------
    FileError
        If the suffix is unknown, or the file cannot be written.
    """
    content = io.BytesIO()
    if path.suffix == ".csv":
        table.write_csv(content)
    elif path.suffix == ".parquet":
        table.write_parquet(content)
    elif path.suffix in (".jsonl", ".ndjson"):
        table.write_ndjson(content)
    else:
        raise FileError(
            str(path), f"unknown kind of file {path.suffix!r}", "use one of .csv, .parquet, .jsonl"
        )
    write_atomically(path, content.getvalue())


def on_host_alone(table: pl.DataFrame) -> bool:
    """Whether the host is what computes: no row names an accelerator, or has energy of one."""
    if table["accelerator"].fill_null("").ne("").any():
        return False
    known = table["accelerator_energy_j"].is_not_null()
    return not known.any() and bool(table["host_energy_j"].is_not_null().any())


def has_flag(flag: str) -> pl.Expr:
    """Rows that carry `flag`."""
    return pl.col("flags").str.split("|").list.contains(flag)


def any_modelled(table: pl.DataFrame) -> bool:
    """Whether a row has an energy that no meter made."""
    energy = pl.any_horizontal(pl.col("accelerator_energy_j", "host_energy_j").is_not_null())
    return table.filter(energy & (has_flag(MODELLED) | has_flag(SIMULATED))).height > 0


def _check_power(raw: RawTable, table: pl.DataFrame) -> None:
    """Refuse energies whose mean power no accelerator draws: the unit is wrong."""
    power = table["accelerator_energy_j"] / table["runtime_s"]
    limit = MAX_POWER_W_PER_ACCELERATOR * table["n_accelerators"]
    for bad, unit in ((power > limit, "mJ"), (power < MIN_POWER_W, "kWh")):
        rows = bad.fill_null(value=False).arg_true()
        if len(rows):
            index = int(rows[0])
            raise TableError(
                raw.place(index, "accelerator_energy_j"),
                f"{table['accelerator_energy_j'][index]:g} in {table['runtime_s'][index]:g} s"
                f" is a mean power of {power[index]:.3g} W",
                f"give energy in joules (is it in {unit}?) and runtime in seconds",
            )
