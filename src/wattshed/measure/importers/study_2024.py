"""Raw results of the study of 2024 on its M1 Pro, as runs.

Each of its scripts writes two CSV files without a header. ``MODEL-M1-Pro.csv`` has a row for each
call; ``MODEL-M1-Pro-power.csv`` a row for each sample of powermetrics: event, elapsed ms, energy
impact of python3.12 and of ``ALL_TASKS``, CPU power in mW, GPU power in mW.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from wattshed.errors import FileError, TableError
from wattshed.fit.rules import PAUSE_FLAG
from wattshed.measure.formulas import apple_cpu_energy_j, apple_gpu_energy_j
from wattshed.measure.logs import powermetrics
from wattshed.measure.logs.text import csv_rows, finite, read_text
from wattshed.runs import COLUMNS
from wattshed.tables import RawTable, check_columns

RESULTS = (
    *("event", "runtime_s", "cpu_energy_j", "gpu_energy_j", "output_limit", "input_tokens"),
    *("iteration", "model", "n_gpus", "prompt", "tokens", "batch_size", "system", "memory_mb"),
)
PROCESS = "python3.12"
LEAST_OUTPUT = 0.9
"""The scripts ask for this part of the limit at least."""
Recorded = Literal["total", "generated"]
RECOUNT = 2
"""Tokens by which a count of the text, encoded again, may be off."""
DIFFERENT = 0.01
CURE = "give the files that the M1 scripts wrote"

Samples = dict[str, NDArray[np.float64]]
"""By event: elapsed s, alpha, CPU power in W and GPU power in W (N, 4)."""


def recognise(path: Path) -> bool:
    """Whether a file has the rows of inferences that the scripts wrote.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    return any(
        row[0].startswith("inference") and len(row) == len(RESULTS) for row in first_rows(path)
    )


def first_rows(path: Path) -> list[list[str]]:
    """Rows in the first 64 kB of a CSV file, if inferences are spoken of there.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    try:
        with path.open(encoding="utf-8", errors="replace", newline="") as file:
            begin = file.read(65_536)
    except OSError as error:
        raise FileError(str(path), f"cannot be read: {error.strerror}", "check the path") from None
    if "inference" not in begin:
        return []
    return [row for row in csv.reader(io.StringIO(begin)) if row]


def read_study_run(
    results: Path,
    power: Path | None = None,
    recorded: Recorded = "total",
) -> pl.DataFrame:
    """Read the results of a run of the M1 scripts; energies are computed again from its samples.

    Rows carry ``pause_2s``, for each timed call begins with a pause of 2 s, ``warmup`` where they
    are the first of their prompt, ``early_stop`` where fewer tokens came than were asked for, and
    ``differs_from_recorded`` where an energy is more than 1 % from the one that the script wrote.
    The batch is 1, whatever it was set to: there is one prompt.

    Parameters
    ----------
    results : Path
    power : Path, optional
        The file of samples, or what powermetrics printed during the only call. Without it, energies
        are those recorded.
    recorded : {"total", "generated"}
        What its column of tokens counts: input and output in ``mps.py``, the output only in
        ``mps-output-tokens-test.py``. Nothing in the file tells.

    Returns
    -------
    polars.DataFrame
        The columns of the runs format.

    Raises
    ------
    FileError, TableError
        Naming the row.
    """
    calls = _read_results(results)
    samples = _read_samples(power, [call["event"] for _, call in calls]) if power else None
    rows = [_row(call, samples, recorded, f"{results}: row {number}") for number, call in calls]
    return check_columns(RawTable(pl.DataFrame(rows), f"{results}: inferences", 1), COLUMNS)


def _read_results(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Calls that are inferences, with the number of their row."""
    calls = []
    for number, values in csv_rows(read_text(path), str(path), CURE):
        if values and values[0].startswith("inference"):
            if len(values) != len(RESULTS):
                raise FileError(
                    f"{path}: row {number}",
                    f"has {len(values)} values, expected {len(RESULTS)}",
                    CURE,
                )
            calls.append((number, dict(zip(RESULTS, values, strict=True))))
    if not calls:
        raise FileError(str(path), "has no row of an inference", CURE)
    return calls


def _read_samples(path: Path, events: list[str]) -> Samples:
    text = read_text(path)
    if powermetrics.BEGIN in text:
        if len(events) > 1:
            raise FileError(
                str(path),
                f"is one log of {len(events)} calls, and does not tell when they began",
                "give the file of samples by event",
            )
        log = powermetrics.parse_powermetrics(text, str(path))
        shares = log.energy_share(PROCESS)
        return {events[0]: np.column_stack([log.dt_s, shares, log.cpu_power_w, log.gpu_power_w])}
    found: dict[str, list[list[float]]] = {}
    for number, values in csv_rows(text, str(path), CURE):
        where = f"{path}: row {number}"
        if len(values) != 6:
            raise FileError(where, f"has {len(values)} values, expected 6", CURE)
        ms, impact, everyone, cpu_mw, gpu_mw = (finite(v, where, "a number") for v in values[1:])
        alpha = impact / everyone if everyone > 0 else np.nan
        found.setdefault(values[0], []).append([ms * 1e-3, alpha, cpu_mw * 1e-3, gpu_mw * 1e-3])
    return {event: np.array(rows) for event, rows in found.items()}


def _row(
    call: dict[str, str], samples: Samples | None, recorded: Recorded, where: str
) -> dict[str, object]:
    number = {
        name: finite(call[name], where, f"a number for {name}")
        for name in RESULTS
        if name not in ("event", "model", "prompt", "system")
    }
    output = generated(number, recorded, where)
    gpu_j, cpu_j = number["gpu_energy_j"], number["cpu_energy_j"]
    if samples is not None:
        gpu_j, cpu_j = _energies(samples, call["event"], where)
    flags = {
        PAUSE_FLAG: True,
        "warmup": number["iteration"] == 0,
        "early_stop": ended_early(output, number["output_limit"]),
        "differs_from_recorded": _far(gpu_j, number["gpu_energy_j"])
        or _far(cpu_j, number["cpu_energy_j"]),
    }
    return {
        "system": call["system"],
        "model": call["model"],
        "engine": "transformers",
        "n_accelerators": int(number["n_gpus"]),
        "batch_size": 1.0,
        "kv_cache": False,
        "input_tokens": int(number["input_tokens"]),
        "output_tokens": int(output),
        "trial": int(number["iteration"]),
        "runtime_s": number["runtime_s"],
        "accelerator_energy_j": gpu_j,
        "host_energy_j": cpu_j,
        "method": "powermetrics",
        "flags": "|".join(flag for flag, holds in flags.items() if holds),
        "output_token_limit": int(number["output_limit"]),
    }


def generated(number: Mapping[str, float], recorded: Recorded, where: str) -> float:
    """Tokens that a call generated, by what its column of tokens counts.

    Raises
    ------
    TableError
        If they are more than were asked for.
    """
    output = number["tokens"] - (number["input_tokens"] if recorded == "total" else 0)
    limit = number["output_limit"]
    if not 1 <= output <= limit + RECOUNT:
        raise TableError(
            where,
            f"{output:g} tokens came of {limit:g} at most",
            "tell whether the recorded tokens are the total or the generated ones",
        )
    return output


def ended_early(output: float, limit: float) -> bool:
    """Whether fewer tokens came than the scripts ask for."""
    return output < int(LEAST_OUTPUT * limit) - RECOUNT


def _energies(samples: Samples, event: str, where: str) -> tuple[float, float]:
    if event not in samples:
        raise TableError(where, f"{event!r} has no samples of power", "give the file of this run")
    dt_s, alpha, cpu_w, gpu_w = samples[event].T
    try:
        return apple_gpu_energy_j(gpu_w, dt_s), apple_cpu_energy_j(cpu_w, alpha, dt_s)
    except TableError as error:
        cure = "leave the samples of power out: energies are then those recorded"
        raise TableError(f"{where}: {error.where} of {event!r}", error.found, cure) from None


def _far(energy_j: float, recorded_j: float) -> bool:
    return abs(energy_j - recorded_j) > DIFFERENT * abs(recorded_j)
