"""Raw results of the study of 2024 on its NVIDIA machines, as runs.

Its CUDA scripts append rows without a header to ``MODEL-SYSTEM-GPUS.csv``, one for each call, as
pyJoules writes them: time of day since the epoch, tag, duration, energy of the CPU packages on
Intel in uJ, energy of each GPU, and then what was asked and where. Beside it lies, on AMD, a
timechart of uProf with the power of each core.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import polars as pl

from wattshed.errors import FileError, TableError
from wattshed.measure.formulas import (
    UNITS,
    counter_energy_j,
    plausible_unit,
    rapl_net_energy_j,
    unit_flags,
)
from wattshed.measure.importers.study_2024 import Recorded, ended_early, first_rows, generated
from wattshed.measure.importers.study_2024_chart import Chart
from wattshed.measure.logs.text import csv_rows, finite, read_text
from wattshed.runs import COLUMNS
from wattshed.tables import RawTable, check_columns

CALL = "start-inference-"
FIRST = ("begun", "tag", "runtime_s")
ASKED = (
    *("output_limit", "input_tokens", "iteration", "model", "n_gpus", "prompt", "tokens"),
    *("batch_size", "system"),
)
TEXTS = ("tag", "model", "prompt", "system")
PACKAGES = (0, 2)
"""The scripts meter both packages on Intel, none on AMD."""
CURE = "give a file that the CUDA scripts wrote"


class Host(NamedTuple):
    """What no file tells of the machine.

    Attributes
    ----------
    package_idle_w : float or None
        What a CPU package draws at rest.
    zone : str or None
        Name of the time zone of its logs, such as ``America/Chicago``.
    """

    package_idle_w: float | None = None
    zone: str | None = None


class Call(NamedTuple):
    """One row of an inference.

    Attributes
    ----------
    where : str
    text : dict
    number : dict
    packages_j : tuple of float
    gpus : tuple of float
        In a unit that the file does not tell.
    core : int or None
        CPU on which the process was when the call began.
    first : bool
        Nothing ran between the loading of the model and this call.
    """

    where: str
    text: dict[str, str]
    number: dict[str, float]
    packages_j: tuple[float, ...]
    gpus: tuple[float, ...]
    core: int | None
    first: bool


@dataclass(frozen=True)
class Layout:
    """Where values stand in a row."""

    packages: int
    gpus: int
    has_core: bool


def layout_of(values: Sequence[str]) -> Layout | None:
    """How a row is laid out: by its length and the number of GPUs that it tells; None if it is not.

    Versions of the scripts before 28 March 2024 do not write the CPU.
    """
    for packages in PACKAGES:
        for has_core in (True, False):
            fixed = len(FIRST) + packages + len(ASKED) + has_core
            gpus, rest = divmod(len(values) - fixed, 3)
            at = len(FIRST) + packages + gpus + ASKED.index("n_gpus")
            if gpus >= 1 and not rest and values[at] == str(gpus):
                return Layout(packages, gpus, has_core)
    return None


def recognise(path: Path) -> bool:
    """Whether a file has the rows of inferences that the scripts wrote.

    Raises
    ------
    FileError
        If it cannot be read.
    """
    return any(_is_call(row) and layout_of(row) is not None for row in first_rows(path))


def read_study_run(
    results: Path,
    timechart: Path | None = None,
    host: Host | None = None,
    recorded: Recorded = "total",
) -> tuple[pl.DataFrame, tuple[str, ...]]:
    """Read the calls of the CUDA scripts.

    The energy of the GPUs is the difference of their counters, in the unit that makes it the power
    of a GPU: the scripts wrote mJ on Swing and uJ on Palmetto. That of the host is what the
    formulas of the study make of the packages, less idle, or of the core on which the call began,
    from a timechart; without idle power or timechart it is not known.

    Rows carry ``warmup`` where they are the first of their prompt or after the model was loaded,
    ``early_stop`` where fewer tokens came than were asked for, ``wrong_unit`` where the energy of
    the row makes sense in another unit only, and ``cores_miss_package``. The batch is 1, whatever
    it was set to: there is one prompt.

    Parameters
    ----------
    results, timechart : Path
    host : Host, optional
    recorded : {"total", "generated"}

    Returns
    -------
    table : polars.DataFrame
        The columns of the runs format.
    notes : tuple of str

    Raises
    ------
    FileError, TableError, ParameterError
        Naming the row.
    """
    host = host or Host()
    calls = _read_calls(results)
    unit = _unit(calls, results)
    notes = [f"GPU energies taken as {unit}, the unit in which they are those of a GPU"]
    chart = Chart(timechart, host.zone) if timechart else None
    rows = [_row(call, unit, host, chart, recorded) for call in calls]
    for row, trial in zip(rows, _trials(calls), strict=True):
        row["trial"] = trial
    if chart is not None:
        notes += chart.notes(sum(row["host_energy_j"] is not None for row in rows), len(rows))
    elif any(row["host_energy_j"] is None for row in rows):
        notes.append(_why_unknown(calls))
    return check_columns(RawTable(pl.DataFrame(rows), f"{results}: calls", 1), COLUMNS), (*notes,)


def _is_call(values: Sequence[str]) -> bool:
    return len(values) > len(FIRST) and values[1].startswith(CALL)


def _read_calls(path: Path) -> list[Call]:
    calls, first = [], True
    for number, values in csv_rows(read_text(path), str(path), CURE):
        if _is_call(values):
            calls.append(_call(values, f"{path}: row {number}", first))
        first = not _is_call(values)
    if not calls:
        raise FileError(str(path), "has no row of an inference", CURE)
    return calls


def _call(values: Sequence[str], where: str, first: bool) -> Call:
    layout = layout_of(values)
    if layout is None:
        raise FileError(where, f"has {len(values)} values, which fit no number of GPUs", CURE)
    gpus_at = len(FIRST) + layout.packages
    asked_at = gpus_at + layout.gpus
    core_at = asked_at + len(ASKED)
    told = dict(zip((*FIRST, *ASKED), (*values[:3], *values[asked_at:core_at]), strict=True))
    packages = (finite(v, where, "the energy of a package") for v in values[3:gpus_at])
    gpus = tuple(finite(v, where, "the energy of a GPU") for v in values[gpus_at:asked_at])
    core = int(finite(values[core_at], where, "a CPU")) if layout.has_core else None
    number = {k: finite(v, where, f"a number for {k}") for k, v in told.items() if k not in TEXTS}
    if not number["runtime_s"] > 0 or min(gpus) < 0:
        found = f"{number['runtime_s']:g} s, and energies of GPUs {', '.join(map(str, gpus))}"
        raise TableError(where, found, "leave the run out")
    return Call(
        where,
        {name: told[name] for name in TEXTS},
        number,
        tuple(value * UNITS["uJ"] for value in packages),
        gpus,
        core,
        first,
    )


def _unit(calls: Sequence[Call], path: Path) -> str:
    """Unit of the energies of GPUs, by the mean power of all calls."""
    counted = math.fsum(sum(call.gpus) / len(call.gpus) for call in calls)
    unit = plausible_unit(counted, math.fsum(call.number["runtime_s"] for call in calls))
    if unit is None:
        raise TableError(
            f"{path}: energies of GPUs",
            "are those of a GPU in no unit",
            f"check the file: known are {', '.join(UNITS)}",
        )
    return unit


def _row(
    call: Call, unit: str, host: Host, chart: Chart | None, recorded: Recorded
) -> dict[str, object]:
    number = call.number
    output = generated(number, recorded, call.where)
    host_j, method, flags = _host(call, host, chart)
    told = {
        "warmup": call.first or number["iteration"] == 0,
        "early_stop": ended_early(output, number["output_limit"]),
    }
    flags += unit_flags(sum(call.gpus) / len(call.gpus), number["runtime_s"], unit)
    return {
        "system": call.text["system"],
        "model": call.text["model"],
        "engine": "transformers",
        "n_accelerators": len(call.gpus),
        "batch_size": 1.0,
        "kv_cache": False,
        "input_tokens": int(number["input_tokens"]),
        "output_tokens": int(output),
        "runtime_s": number["runtime_s"],
        "accelerator_energy_j": counter_energy_j(0.0, sum(call.gpus), unit),
        "host_energy_j": host_j,
        "method": method,
        "flags": "|".join([*(flag for flag, holds in told.items() if holds), *flags]),
        "output_token_limit": int(number["output_limit"]),
    }


def _host(call: Call, host: Host, chart: Chart | None) -> tuple[float | None, str, tuple[str, ...]]:
    """Energy of the host where it is known, methods by name, and flags."""
    runtime_s = call.number["runtime_s"]
    if call.packages_j and host.package_idle_w is not None and min(call.packages_j) >= 0:
        mean_w = [[energy_j / runtime_s for energy_j in call.packages_j]]
        idle_w = [host.package_idle_w] * len(call.packages_j)
        return rapl_net_energy_j(mean_w, idle_w, [runtime_s]), "pyjoules|rapl-net", ()
    if chart is not None:
        energy_j = chart.energy_j(call.where, call.core, call.number["begun"], runtime_s)
        if energy_j is not None:
            return energy_j, "pyjoules|uprof-core", chart.flags
    return None, "pyjoules", ()


def _why_unknown(calls: Sequence[Call]) -> str:
    if any(call.packages_j for call in calls):
        return "host energy is not known: give --package-idle W, or the packages' counter wrapped"
    return "host energy is not known: give the timechart of uProf as --energy"


def _trials(calls: Sequence[Call]) -> list[int]:
    """Number of each trial: told, except in grids, whose scripts write the limit there."""
    if any(call.number["iteration"] != call.number["output_limit"] for call in calls):
        return [int(call.number["iteration"]) for call in calls]
    seen: Counter[str] = Counter()
    trials = []
    for call in calls:
        trials.append(seen[call.text["tag"]])
        seen[call.text["tag"]] += 1
    return trials
