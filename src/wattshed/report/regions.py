"""Geometry of a map: cells around grid points, rectangles of equal value, points gathered.

Pure lists in, pure lists out; drawing is in `wattshed.report.charts`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from wattshed.report.document import Scale

Rectangle = tuple[int, int, int, int]
Point = tuple[float, float, float]

MOST_POINTS = 1500
_GATHERED = 40


def cell_edges(centres: Sequence[float], scale: Scale) -> list[float]:
    """Borders half-way between grid points, as the axis shows half-way; one more than points.

    >>> cell_edges([8.0, 32.0, 128.0], "log2")
    [4.0, 16.0, 64.0, 256.0]
    """
    if scale != "linear":
        return [2**edge for edge in cell_edges([math.log2(c) for c in centres], "linear")]
    middles = [(a + b) / 2 for a, b in itertools.pairwise(centres)]
    if not middles:
        return [centres[0] - 0.5, centres[0] + 0.5]
    return [2 * centres[0] - middles[0], *middles, 2 * centres[-1] - middles[-1]]


def rectangles_of(values: Sequence[Sequence[int]], wanted: int) -> list[Rectangle]:
    """Cover the cells that hold `wanted` with few rectangles (column, row, column, row).

    Runs of a row are stretched down as long as the next row has the same run.
    """
    found: list[Rectangle] = []
    growing: dict[tuple[int, int], int] = {}
    for number in range(len(values) + 1):
        runs = _runs(values[number], wanted) if number < len(values) else []
        for run in [r for r in growing if r not in runs]:
            found.append((run[0], growing.pop(run), run[1], number))
        for run in runs:
            growing.setdefault(run, number)
    return found


def _runs(row: Sequence[int], wanted: int) -> list[tuple[int, int]]:
    """Stretches of `wanted` in a row, as (first column, column after the last)."""
    inside = [False, *(value == wanted for value in row), False]
    borders = [k for k in range(len(row) + 1) if inside[k] != inside[k + 1]]
    return list(zip(borders[::2], borders[1::2], strict=True))


def gather_points(points: Sequence[Point], scales: tuple[Scale, Scale]) -> list[Point]:
    """Join neighbours where there are too many points to draw; weights are kept.

    Parameters
    ----------
    points : list of (x, y, weight)
    scales : pair of Scale
        Neighbours are near on the axes as they are shown.

    Returns
    -------
    list of (x, y, weight)
        At most 1,500 of the points as they are, or one for each filled cell of a 40 x 40
        grid, at its points' weighted middle.
    """
    if len(points) <= MOST_POINTS:
        return list(points)
    bins: dict[tuple[int, int], list[Point]] = {}
    columns = _bins([p[0] for p in points], scales[0])
    rows = _bins([p[1] for p in points], scales[1])
    for point, column, row in zip(points, columns, rows, strict=True):
        bins.setdefault((column, row), []).append(point)
    return [_middle(group) for _, group in sorted(bins.items())]


def _bins(values: Sequence[float], scale: Scale) -> list[int]:
    shown = [math.log2(v) for v in values] if scale != "linear" else list(values)
    low, high = min(shown), max(shown)
    width = (high - low) / _GATHERED or 1.0
    return [min(int((v - low) / width), _GATHERED - 1) for v in shown]


def _middle(group: list[Point]) -> Point:
    weight = sum(w for _, _, w in group)
    if not weight:
        return group[0]
    return (
        sum(x * w for x, _, w in group) / weight,
        sum(y * w for _, y, w in group) / weight,
        weight,
    )


def widened(
    limits: tuple[float, float], values: Sequence[float], scale: Scale
) -> tuple[float, float]:
    """Limits that hold all values, with a little room beyond those outside the limits.

    >>> widened((4.0, 64.0), [2.0, 32.0], "log2")
    (1.6, 64.0)
    """
    low, high = min(values), max(values)
    if scale != "linear":
        return (
            limits[0] if low >= limits[0] else low / 1.25,
            limits[1] if high <= limits[1] else high * 1.25,
        )
    room = 0.03 * (max(high, limits[1]) - min(low, limits[0]))
    return (
        limits[0] if low >= limits[0] else low - room,
        limits[1] if high <= limits[1] else high + room,
    )
