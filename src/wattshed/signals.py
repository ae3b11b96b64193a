"""Carbon intensity of electricity over time: built in, or from a file."""

from __future__ import annotations

from bisect import bisect_right
from datetime import UTC
from pathlib import Path

import numpy as np

from wattshed.errors import TableError
from wattshed.files import sha256
from wattshed.records import Signal, Site
from wattshed.series import TIME_COLUMNS, Array, find_source, series_of
from wattshed.tables import read_raw

COLUMN = "g_per_kwh"
"""What is read from a file unless a column is named."""

LONGEST_BRIDGE_S = 3 * 3600.0
"""Gaps of at most this are bridged; longer ones stay missing."""


def read_signal(source: str | Path, *, relative_to: Path | None = None) -> Signal:
    """Read a carbon signal from a file, or the built-in one of that name.

    Parameters
    ----------
    source : str or Path
        CSV, Parquet or JSONL with a time (`TIME_COLUMNS`) and `g_per_kwh`; ``FILE#COLUMN`` reads
        another column; ``eia-2022-carbon#PJM`` is built in.
    relative_to : Path, optional
        Folder that the path of a file is relative to.

    Raises
    ------
    FileError, TableError
        Naming the row, the value and the cure.
    """
    found = find_source(source, "signal", relative_to)
    raw = read_raw(found.path)
    column = found.name or COLUMN
    if column not in raw.frame.columns or column in TIME_COLUMNS:
        _refuse_column(found.label, column, raw.frame.columns)
    series = series_of(raw, column, "g/kWh")
    value = bridge(series.edges_s, series.value, LONGEST_BRIDGE_S)
    bridged = np.flatnonzero(np.isnan(series.value) & ~np.isnan(value))
    return Signal(
        found.label,
        tuple(series.edges_s.tolist()),
        tuple(None if np.isnan(g) else g for g in value.tolist()),
        tuple(bridged.tolist()),
        series.origin,
        found.provenance,
        sha256(found.path),
    )


def intensity_at(site: Site, at_s: float) -> float | None:
    """Carbon intensity of the electricity of a site at a time, g/kWh.

    Parameters
    ----------
    site : Site
    at_s : float
        Since 1970.

    Returns
    -------
    float or None
        None where it is not known: a signal without dates, or one that is shifted for
        simulations, says nothing of a time.
    """
    signal = site.carbon_signal
    if signal is None:
        return site.carbon_g_per_kwh
    if signal.origin is None or site.signal_offset_s is not None:
        return None
    origin = signal.origin if signal.origin.tzinfo else signal.origin.replace(tzinfo=UTC)
    window = bisect_right(signal.edges_s, at_s - origin.timestamp()) - 1
    return signal.g_per_kwh[window] if 0 <= window < len(signal.g_per_kwh) else None


def bridge(edges_s: Array, value: Array, longest_s: float) -> Array:
    """Fill short gaps between known values by a straight line through the windows' middles.

    Parameters
    ----------
    edges_s : array (W + 1,)
    value : array (W,)
        nan where it is missing.
    longest_s : float
        Gaps that are longer, or at an end, stay missing.

    Returns
    -------
    array (W,)
    """
    missing = np.isnan(value)
    turns = np.flatnonzero(np.diff(missing, prepend=False, append=False)).reshape(-1, 2)
    filled, middle = value.copy(), (edges_s[:-1] + edges_s[1:]) / 2
    for first, after in turns:
        inside = first > 0 and after < len(value)
        if inside and edges_s[after] - edges_s[first] <= longest_s:
            gap = slice(first, after)
            filled[gap] = np.interp(middle[gap], middle[~missing], value[~missing])
    return filled


def _refuse_column(label: str, column: str, columns: list[str]) -> None:
    known = [name for name in columns if name not in TIME_COLUMNS]
    head = label.partition("#")[0]
    raise TableError(
        label,
        f"no values in a column {column!r}",
        f"name a column as in {head}#{known[0] if known else COLUMN}: {', '.join(known)}",
    )
