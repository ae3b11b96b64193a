"""A replay beside a simulation, or beside another replay, of the same requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl

from wattshed.engines.model import Array
from wattshed.errors import FileError
from wattshed.records import (
    ComparedFigure,
    Comparison,
    Interval,
    PairedSaving,
    ReplayedPolicy,
    ReplayResults,
    SimulatedPolicy,
    SimulationResults,
)
from wattshed.simulate.pairing import NEAR, sentence_of
from wattshed.tables import Column, check_columns, read_raw

KINDS: dict[str, tuple[str, Any]] = {
    "wattshed/simulation": ("simulation", SimulationResults),
    "wattshed/replay": ("replay", ReplayResults),
    "wattshed/simulate/1": ("results", SimulationResults),
    "wattshed/replay/1": ("results", ReplayResults),
}
"""Where files and `--json` keep results, by their schema."""
FILES = ("replay.json", "simulation.json")
QUANTILES = ("mean", "p50", "p90", "p99")
FIGURES = (
    "requests",
    "completed",
    "duration_s",
    "output_tokens_per_s",
    "attainment",
    *(f"{field}.{q}" for field in ("ttft_s", "tbt_s", "tpot_s", "e2e_s") for q in QUANTILES),
    "energy_j.requests_dynamic",
    "energy_j.requests_static",
    "energy_j.idle",
    "energy_j.total",
    "energy_per_request_j",
    "net_energy_per_request_j",
    "energy_per_output_token_j",
)
"""Figures that are laid side by side, as paths of fields."""
COLUMNS = (
    Column("fate", "str", required=True),
    Column("input_tokens", "int", required=True),
    Column("output_tokens", "int", required=True),
    *(Column(f"{part}_energy_j", "float") for part in ("dynamic", "prefill", "decode", "static")),
)
"""Of the requests of another run, that they are paired by and compared in."""
DRAWS = 4000
Contender = SimulatedPolicy | ReplayedPolicy


@dataclass(frozen=True)
class Other:
    """A contender of another run.

    Attributes
    ----------
    table : DataFrame or None
        Its requests, where they lie beside it.
    """

    source: str
    policy: Contender
    table: pl.DataFrame | None
    workload: str


def load_others(source: Path, name: str) -> list[Other]:
    """Contenders of another run: those of the same policy, or else all.

    Parameters
    ----------
    source : Path
        Folder of ``wattshed simulate -o`` or ``wattshed replay -o``, its JSON file, or what
        ``--json`` printed.
    name : str
        Policy of the replay.

    Raises
    ------
    FileError, TableError
    """
    path = _file(source)
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        key, kind = KINDS.get(str(content.get("schema")), ("results", None))
        if kind is None:
            raise FileError(str(path), "holds neither simulation nor replay", _CURE)
        found: SimulationResults | ReplayResults = msgspec.convert(content[key], kind)
    except msgspec.ValidationError as error:
        raise FileError(str(path), f"is of another version: {error}", _CURE) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, KeyError) as error:
        raise FileError(str(path), f"holds neither simulation nor replay: {error}", _CURE) from None
    policies: list[Contender] = [*found.policies]
    same = [p for p in policies if p.name == name] or policies
    return [Other(str(source), p, _table(path.parent, p), found.workload) for p in same]


_CURE = "give a folder that wattshed simulate -o or wattshed replay -o has written"


def _file(source: Path) -> Path:
    if not source.is_dir():
        return source
    for name in FILES:
        if (source / name).exists():
            return source / name
    raise FileError(str(source), f"has neither {' nor '.join(FILES)}", _CURE)


def _table(folder: Path, policy: Contender) -> pl.DataFrame | None:
    """The table of a contender, known by its first row."""
    for path in sorted(folder.glob("requests-*")):
        if path.suffix not in (".csv", ".parquet"):
            continue
        raw = read_raw(path)
        named = {"policy", "controller"} <= set(raw.frame.columns)
        if named and raw.frame.row(0)[:2] == (policy.name, policy.controller):
            return check_columns(raw, COLUMNS)
    return None


def compare(
    ours: ReplayedPolicy,
    table: pl.DataFrame,
    workload: str,
    other: Other,
    *,
    target: float = 0.99,
    seed: int = 0,
) -> Comparison:
    """Lay a replay beside another run.

    Parameters
    ----------
    ours : ReplayedPolicy
    table : DataFrame
        Its requests.
    workload : str
    other : Other
    target : float
        Attainment at which both count as equal, whatever lies above it.
    seed : int
        Of the bootstrap.
    """
    theirs = other.policy
    figures = [_figure(name, ours, theirs) for name in FIGURES]
    same = other.table is not None and _same_requests(table, other.table)
    notes = []
    if ours.requests != theirs.requests or workload != other.workload:
        notes.append(
            f"{ours.requests} requests of {workload} here, {theirs.requests} of {other.workload}"
            " there: the two are not of the same work"
        )
    if ours.partial or theirs.partial:
        notes.append("one of the two was stopped before its end")
    savings = []
    if same and other.table is not None:
        savings = _savings(ours, table, theirs, other.table, target, seed)
    elif not notes:
        notes.append("no savings: the requests of the other are not there, or are not the same")
    return Comparison(ours.label, theirs.label, other.source, figures, savings, notes)


def _figure(name: str, ours: Contender, theirs: Contender) -> ComparedFigure:
    mine, other = (_value(p, name) for p in (ours, theirs))
    difference = mine / other - 1 if mine is not None and other else None
    return ComparedFigure(name, mine, other, difference)


def _value(policy: Contender, path: str) -> float | None:
    found: Any = policy
    for name in path.split("."):
        found = getattr(found, name)
    return None if found is None else float(found)


def _same_requests(ours: pl.DataFrame, theirs: pl.DataFrame) -> bool:
    names = ("input_tokens", "output_tokens")
    return ours.height == theirs.height and all(
        np.array_equal(_numbers(ours, name), _numbers(theirs, name)) for name in names
    )


def _numbers(table: pl.DataFrame, name: str) -> Array:
    """A column as numbers; nan where nothing stands."""
    if name not in table.columns:
        return np.full(table.height, np.nan)
    return table[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def energies_of(table: pl.DataFrame) -> dict[str, Array]:
    """Energy of requests (Q,): what they add, and with their share of static power."""
    dynamic = _numbers(table, "dynamic_energy_j")
    if np.isnan(dynamic).all():
        dynamic = _numbers(table, "prefill_energy_j") + _numbers(table, "decode_energy_j")
    return {"dynamic": dynamic, "charged": dynamic + _numbers(table, "static_energy_j")}


WORDS = {
    "dynamic": "energy per request, net of idle,",
    "charged": "energy per request, with its share of static power,",
}


def _savings(
    ours: ReplayedPolicy,
    table: pl.DataFrame,
    theirs: Contender,
    other: pl.DataFrame,
    target: float,
    seed: int,
) -> list[PairedSaving]:
    mine, its = energies_of(table), energies_of(other)
    pair = ours.attainment, theirs.attainment
    difference = None if None in pair else (pair[0] or 0.0) - (pair[1] or 0.0)
    reached = all(one is None or one >= target for one in pair)
    equal = reached or (difference is not None and abs(difference) <= NEAR)
    both = (table["fate"] == "served").to_numpy() & (other["fate"] == "served").to_numpy()
    found = []
    for energy, words in WORDS.items():
        known = both & ~np.isnan(mine[energy]) & ~np.isnan(its[energy])
        if known.sum() < 2:
            continue
        a, b = mine[energy][known], its[energy][known]
        saving, interval = paired_saving(a, b, seed)
        sentence = sentence_of(
            ours.label, theirs.label, saving, interval, equal, difference or 0.0, words
        )
        found.append(
            PairedSaving(energy, len(a), saving, interval, difference, bool(equal), sentence)
        )
    return found


def paired_saving(ours: Array, theirs: Array, seed: int = 0) -> tuple[float, Interval]:
    """1 - energy of the one over that of the other, for the same requests (Q,) in order.

    The interval is of a moving-block bootstrap: requests that were served together depend on each
    other, so that blocks of about sqrt(Q) neighbours are drawn, the same ones of both.
    Source: Kuensch, The jackknife and the bootstrap for general stationary observations, Annals of
    Statistics 17 (1989).
    """
    count = len(ours)
    length = max(1, round(count**0.5))
    rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    start = rng.integers(0, count - length, (DRAWS, -(-count // length)), endpoint=True)
    drawn = []
    for values in (ours, theirs):
        upto = np.concatenate([[0.0], np.cumsum(values)])
        drawn.append((upto[start + length] - upto[start]).sum(axis=1))
    low, high = np.percentile(1 - drawn[0] / drawn[1], [2.5, 97.5])
    method = f"bootstrap of blocks of {length} requests, paired"
    return float(1 - ours.sum() / theirs.sum()), Interval(float(low), float(high), method)
