"""Importers by name, which of them knows a file, and runs from what it read.

An importer is a name, a function that knows its files by the keys of their first record (or the
header of a table), and one that reads them. Add one by adding it to `IMPORTERS`; the conformance
test discovers it.

What a tool measured of one request becomes a row of its own. Energy of a whole benchmark is never
spread over its requests: it goes into one row, their mean, flagged with how it was shared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import polars as pl

from wattshed.errors import FileError, ParameterError
from wattshed.measure.importers import (
    aiperf,
    aiperf_telemetry,
    codecarbon,
    guidellm,
    mlenergy,
    study_2024,
    study_2024_cuda,
    vllm_bench,
)
from wattshed.measure.importers.found import Benchmark, Energy, Setting, mean_of
from wattshed.records import Kind
from wattshed.runs import COLUMNS, SETTINGS, check_runs
from wattshed.tables import RawTable, check_columns

Shape = Literal["auto", "requests", "mean"]
TELEMETRY = "aiperf-telemetry"
STUDY, STUDY_CUDA = "study-2024", "study-2024-cuda"
"""Rows of runs already, beside a file of power samples: read by paths of their own."""


@dataclass(frozen=True)
class Tokens:
    """Tokens of the queries in files that do not say them; None where nobody told.

    Attributes
    ----------
    input_tokens, output_tokens : int or None
    recorded : {"total", "generated"}
        What the study of 2024 counted in its column of tokens.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    recorded: Literal["total", "generated"] = "total"


@dataclass(frozen=True)
class Importer:
    """One kind of file.

    Attributes
    ----------
    recognise : callable
        Whether the keys of the first record, or a header, are those of such a file.
    read : callable
    what : str
        Tool and file, for people.
    """

    name: str
    recognise: Callable[[frozenset[str]], bool]
    read: Callable[[Path, Tokens], list[Benchmark]]
    what: str


@dataclass(frozen=True)
class ImportedRuns:
    """Runs from a file of another tool.

    Attributes
    ----------
    table : polars.DataFrame
        Columns of the runs format that hold something, checked like any runs.
    notes : tuple of str
        What was left out and how figures were made.
    kind : {"measured", "derived", "modelled"}
        Of the energies; of the runtimes where there is no energy.
    tool : str
        Name of the importer.
    """

    table: pl.DataFrame
    notes: tuple[str, ...]
    kind: Kind
    tool: str


def _telemetry_alone(path: Path, _tokens: Tokens) -> list[Benchmark]:
    raise FileError(
        str(path), "energy without requests", "import the requests, with this file as --energy"
    )


IMPORTERS: dict[str, Importer] = {
    i.name: i
    for i in (
        Importer(
            "aiperf", aiperf.recognise, lambda path, _: aiperf.read(path), "profile_export.jsonl"
        ),
        Importer(
            "aiperf-summary",
            aiperf.recognise_summary,
            lambda path, _: aiperf.read_summary(path),
            "profile_export_aiperf.json",
        ),
        Importer(
            TELEMETRY, aiperf_telemetry.recognise, _telemetry_alone, "gpu_telemetry_export.jsonl"
        ),
        Importer(
            "vllm-bench",
            vllm_bench.recognise,
            lambda path, _: vllm_bench.read(path),
            "result of `vllm bench serve --save-result --save-detailed`",
        ),
        Importer(
            "guidellm", guidellm.recognise, lambda path, _: guidellm.read(path), "benchmarks.json"
        ),
        Importer(
            "mlenergy",
            mlenergy.recognise,
            lambda path, _: mlenergy.read(path),
            "results.json of ML.ENERGY",
        ),
        Importer(
            "mlenergy-leaderboard",
            mlenergy.recognise_leaderboard,
            lambda path, tokens: mlenergy.read_leaderboard(path, tokens.input_tokens),
            "configurations of ML.ENERGY's leaderboard",
        ),
        Importer(
            "codecarbon",
            codecarbon.recognise,
            lambda path, tokens: codecarbon.read(path, tokens.input_tokens, tokens.output_tokens),
            "emissions.csv",
        ),
    )
}


def recognise(path: Path) -> str:
    """Name of the importer that knows a file, by its content.

    Raises
    ------
    FileError
        If it cannot be read, or none does.
    """
    keys = _keys(path)
    for importer in IMPORTERS.values():
        if importer.recognise(keys):
            return importer.name
    found = ", ".join(sorted(keys)[:8]) or "neither keys nor a header"
    raise FileError(
        str(path),
        f"no result of a known tool (found {found})",
        f"use one of {', '.join(f'{i.what} ({i.name})' for i in IMPORTERS.values())}",
    )


def _keys(path: Path) -> frozenset[str]:
    """Keys of the JSON object in a file, or on its first line; or the columns of its header."""
    try:
        content = path.read_bytes().lstrip()
    except OSError as error:
        raise FileError(str(path), f"cannot be read: {error.strerror}", "check the path") from None
    line = content.partition(b"\n")[0]
    if not content.startswith(b"{"):
        return frozenset(line.decode(errors="replace").strip().replace('"', "").split(",")) - {""}
    try:
        return frozenset(msgspec.json.decode(line, type=dict[str, msgspec.Raw]))
    except msgspec.DecodeError:
        pass
    try:
        return frozenset(msgspec.json.decode(content, type=dict[str, msgspec.Raw]))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(str(path), f"is not JSON: {error}", "check that it is whole") from None


def import_runs(
    path: str | Path,
    *,
    system: str | None = None,
    rows: Shape = "auto",
    energy: str | Path | None = None,
    tokens: Tokens | None = None,
    host: study_2024_cuda.Host | None = None,
    **settings: Setting,
) -> ImportedRuns:
    """Read a result of another tool as runs.

    Parameters
    ----------
    path : str or Path
        Recognised by its content.
    system : str
        Kind of machine; no file says it.
    rows : {"auto", "requests", "mean"}
        One row a request, without energy where the tool measured none of single requests; or one
        row a benchmark, their mean. ``auto`` takes the mean where that has energy.
    energy : str or Path, optional
        What AIPerf's meters said (`gpu_telemetry_export.jsonl`) while these requests were served,
        or the samples of power beside results of the study of 2024.
    tokens : Tokens, optional
        For files that do not say them.
    host : Host, optional
        Idle power and time zone of a machine of the study of 2024.
    **settings
        Settings columns, such as `model`, `accelerator` or `batch_size`: instead of the file's.

    Returns
    -------
    ImportedRuns

    Raises
    ------
    FileError, TableError, ParameterError
        Naming the place, what was found and the cure.
    """
    path = Path(path)
    given = {"system": system, **_known(settings)}
    if study_2024.recognise(path):
        return _of_study(path, energy, tokens or Tokens(), given)
    if study_2024_cuda.recognise(path):
        return _of_study_cuda(path, energy, tokens or Tokens(), host, given)
    importer = IMPORTERS[recognise(path)]
    benchmarks = importer.read(path, tokens or Tokens())
    if not benchmarks:
        raise FileError(str(path), "no benchmarks in it", "give a file with at least one")
    if energy is not None:
        benchmarks = [_metered(path, Path(energy), each) for each in benchmarks]
    shaped = [_shaped(path, each, rows) for each in benchmarks]
    _refuse_missing(path, shaped, given)
    frame = pl.concat([_with_settings(each, given) for each in shaped], how="diagonal_relaxed")
    table = check_runs(RawTable(frame, str(path), 1))
    held = [c.name for c in COLUMNS if table[c.name].null_count() < table.height]
    notes = [note for each in shaped for note in each.notes if not _told(note, given)]
    if (
        "experiment" in held
        and table["batch_size"].null_count()
        and table["experiment"].n_unique() > 1
    ):
        notes.append("several experiments: fit them apart (wattshed fit --experiment NAME)")
    return ImportedRuns(
        table.select(held),
        tuple(dict.fromkeys(notes)),
        _least_sure({each.kind for each in shaped}),
        importer.name,
    )


def _of_study(
    path: Path, power: str | Path | None, tokens: Tokens, given: dict[str, Any]
) -> ImportedRuns:
    """Runs of the study's M1, with energies of its samples if they are given, else as recorded."""
    table = study_2024.read_study_run(path, Path(power) if power else None, tokens.recorded)
    notes = []
    if power is None:
        notes.append("energies are those recorded: give the samples of power to compute them again")
    return _study_runs(table, notes, tokens, given, STUDY)


def _of_study_cuda(
    path: Path,
    timechart: str | Path | None,
    tokens: Tokens,
    host: study_2024_cuda.Host | None,
    given: dict[str, Any],
) -> ImportedRuns:
    """Runs of the study's NVIDIA machines, with energies of the host where they can be known."""
    table, notes = study_2024_cuda.read_study_run(
        path, Path(timechart) if timechart else None, host, tokens.recorded
    )
    return _study_runs(table, notes, tokens, given, STUDY_CUDA)


def _study_runs(
    table: pl.DataFrame, notes: Sequence[str], tokens: Tokens, given: dict[str, Any], tool: str
) -> ImportedRuns:
    told = {name: pl.lit(value) for name, value in given.items() if value is not None}
    frame = check_columns(RawTable(table.with_columns(**told), tool, 1), COLUMNS)
    held = [c.name for c in COLUMNS if frame[c.name].null_count() < frame.height]
    counted = f"tokens taken as {tokens.recorded}, which the file does not say (--recorded)"
    return ImportedRuns(frame.select(held), (counted, *notes), "derived", tool)


def together(found: Sequence[ImportedRuns]) -> ImportedRuns:
    """Runs of several files as one table."""
    tables = [each.table for each in found]
    order = [c.name for c in COLUMNS if any(c.name in table.columns for table in tables)]
    return ImportedRuns(
        pl.concat(tables, how="diagonal").select(order),
        tuple(dict.fromkeys(note for each in found for note in each.notes)),
        _least_sure({each.kind for each in found}),
        ", ".join(dict.fromkeys(each.tool for each in found)),
    )


def _metered(path: Path, energy: Path, benchmark: Benchmark) -> Benchmark:
    """With the energy that meters saw from the first request to the last token."""
    if recognise(energy) != TELEMETRY:
        raise FileError(str(energy), "no energy over time", "give a gpu_telemetry_export.jsonl")
    if benchmark.window_s is None:
        raise FileError(
            str(path),
            "requests without times of day, or a sample of them only",
            "give all requests of aiperf or guidellm",
        )
    found = aiperf_telemetry.energy_between(energy, *benchmark.window_s)
    value_j, low_j, high_j = (
        joules / benchmark.rows.height for joules in (found.value_j, found.low_j, found.high_j)
    )
    method = "aiperf: energy counter of all GPUs from the first request to the last token"
    shared = Energy(value_j, method, "shared_equally", low_j, high_j)
    settings = {**benchmark.settings, "n_accelerators": found.gpus}
    notes = benchmark.notes
    if any("left out" in note for note in notes):
        notes += ("energy of what was left out is in that of the others",)
    return replace(benchmark, settings=settings, energy=shared, kind="derived", notes=notes)


def _shaped(path: Path, benchmark: Benchmark, rows: Shape) -> Benchmark:
    if rows == "requests" and benchmark.shape == "mean":
        raise ParameterError("--rows", f"requests, but {path} holds means", "use mean or auto")
    if rows == "mean" or (rows == "auto" and benchmark.energy is not None):
        return mean_of(benchmark)
    if benchmark.energy is None:
        return benchmark
    note = "energy left out: the tool measured none of single requests (rows: mean has it)"
    return replace(benchmark, energy=None, kind="measured", notes=(*benchmark.notes, note))


def _known(settings: Mapping[str, Setting]) -> dict[str, Any]:
    """Settings that were given; one that runs do not have is an error."""
    for name in settings:
        if name not in SETTINGS:
            raise ParameterError(name, "no setting of runs", f"use one of {', '.join(SETTINGS)}")
    return {name: value for name, value in settings.items() if value is not None}


def _refuse_missing(path: Path, benchmarks: list[Benchmark], given: dict[str, Any]) -> None:
    for name in ("system", "model"):
        known = given.get(name) or all(each.settings.get(name) for each in benchmarks)
        if not known:
            raise ParameterError(
                f"--{name}", f"not given, and {path} does not say it", f"give --{name} NAME"
            )


def _told(note: str, given: dict[str, Any]) -> bool:
    """Whether a note is of a setting that was given instead."""
    return "batch_size" in given and note.startswith("batch_size is")


def _with_settings(benchmark: Benchmark, given: dict[str, Any]) -> pl.DataFrame:
    """Rows with their settings; those given count more than those of the file."""
    told = {k: v for k, v in benchmark.settings.items() if v not in (None, "")}
    constants = {name: pl.lit(value) for name, value in {**told, **given}.items()}
    return benchmark.rows.with_columns(**constants)


def _least_sure(kinds: set[Kind]) -> Kind:
    order: tuple[Kind, ...] = ("modelled", "derived", "measured")
    return next(kind for kind in order if kind in kinds)
