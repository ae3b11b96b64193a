"""Runs of a campaign, in the format that `wattshed fit` reads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import polars as pl

from wattshed.errors import FileError
from wattshed.files import write_atomically
from wattshed.measure.campaign.grid import Cell
from wattshed.measure.campaign.journal import Journal
from wattshed.measure.campaign.lines import Trial
from wattshed.measure.campaign.sums import MODELLED, add_up, meters_to_add
from wattshed.records import Boundary, DriverInfo
from wattshed.runs import COLUMNS

_TYPES = {"int": pl.Int64, "float": pl.Float64, "str": pl.String, "bool": pl.Boolean}
EARLY_STOP = "early_stop"
NO_ACCELERATOR = ("", "cpu")
"""What drivers say where the host computes: then its energy is that of the query."""


def runs_of(journal: Journal) -> pl.DataFrame:
    """A row for each trial, in the columns of the runs format; what is not known is null.

    Energies are those of one query: a window, divided by the queries in it. They are gross:
    idle baselines stay in the journal.
    """
    campaign = journal.manifest.campaign
    meters = meters_to_add(journal.manifest.meters)
    rows = [
        {
            **_setting(journal.manifest.driver, campaign.cells[line.cell]),
            **_measured(line, campaign.cells[line.cell], meters),
            "experiment": campaign.experiment,
        }
        for line in journal.trials
    ]
    return pl.DataFrame(rows, schema={column.name: _TYPES[column.kind] for column in COLUMNS})


def _setting(driver: DriverInfo, cell: Cell) -> dict[str, Any]:
    return {
        "system": driver.system,
        "accelerator": None if driver.accelerator in NO_ACCELERATOR else driver.accelerator,
        "model": driver.model,
        "engine": _engine(driver, cell),
        "n_accelerators": driver.n_accelerators,
        "tensor_parallel": driver.tensor_parallel,
        "batch_size": float(cell.batch_size),
        "clock_mhz": driver.clock_mhz if cell.clock_mhz is None else cell.clock_mhz,
        "kv_cache": driver.kv_cache,
        "input_tokens_nominal": cell.input_tokens,
        "output_token_limit": cell.output_tokens,
    }


def _engine(driver: DriverInfo, cell: Cell) -> str | None:
    """With the power limit, which has no column: fits must not pool different ones."""
    limit = "" if cell.power_limit_w is None else f"power_limit={cell.power_limit_w:g}W"
    return " ".join(part for part in (driver.engine, limit) if part) or None


def _measured(line: Trial, cell: Cell, meters: dict[Boundary, tuple[str, ...]]) -> dict[str, Any]:
    found, queries = line.generation, line.queries
    accelerator = add_up(line.windows, meters["accelerator"])
    host = add_up(line.windows, meters["host"])
    flags = [*found.flags, *line.flags]
    if meters["accelerator"] or not meters["host"]:
        flags += accelerator.flags
    if meters["host"]:
        flags += [flag if flag == MODELLED else f"host_{flag}" for flag in host.flags]
    if found.output_tokens < cell.output_tokens:
        flags.append(EARLY_STOP)
    methods = dict.fromkeys(method for method in (accelerator.method, host.method) if method)
    return {
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "trial": line.trial,
        "trials": 1,
        "runtime_s": line.runtime_s,
        "ttft_s": line.ttft_s,
        "accelerator_energy_j": _each(accelerator.value_j, queries),
        "host_energy_j": _each(host.value_j, queries),
        "energy_low_j": _each(accelerator.low_j, queries),
        "energy_high_j": _each(accelerator.high_j, queries),
        "method": "+".join(methods) or None,
        "flags": "|".join(dict.fromkeys(flags)),
    }


def _each(total_j: float | None, queries: int) -> float | None:
    return None if total_j is None else total_j / queries


def write_runs(journal: Journal, path: Path) -> None:
    """Write the runs of a journal as CSV or Parquet, by suffix, whole or not at all.

    Raises
    ------
    FileError
    """
    table = runs_of(journal)
    if path.suffix == ".csv":
        write_atomically(path, table.write_csv())
    elif path.suffix == ".parquet":
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        write_atomically(path, buffer.getvalue())
    else:
        raise FileError(str(path), f"unknown kind of file {path.suffix!r}", "use .csv or .parquet")
