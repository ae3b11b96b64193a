"""Place labels beside points so that they cover neither each other nor the data.

Pure geometry: boxes are (left, bottom, right, top), all in one unit.
"""

from __future__ import annotations

from collections.abc import Sequence

Box = tuple[float, float, float, float]

_DIRECTIONS = ((1, 0), (0, 1), (0, -1), (-1, 0), (1, 1), (1, -1), (-1, 1), (-1, -1))
_DISTANCES = (7.0, 13.0, 20.0, 28.0, 40.0, 56.0, 76.0)
_OUTSIDE_COST = 10.0
_DISTANCE_COST = 1.0


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
    obstacles: Sequence[Box],
) -> list[Box]:
    """Find a box for each label, one after the other, where it covers least.

    Parameters
    ----------
    anchors : list of (x, y)
        The labelled points.
    sizes : list of (width, height)
        Of the labels.
    frame : Box
        Where labels should stay.
    obstacles : list of Box
        What they should not cover.

    Returns
    -------
    list of Box
    """
    taken = list(obstacles)
    boxes = []
    for anchor, size in zip(anchors, sizes, strict=True):
        box = min(_candidates(anchor, size), key=lambda c: _cost(c, frame, taken))
        boxes.append(box[1])
        taken.append(box[1])
    return boxes


def _candidates(anchor: tuple[float, float], size: tuple[float, float]) -> list[tuple[float, Box]]:
    """Distance and box of each place that is tried, nearest first."""
    x, y = anchor
    width, height = size
    found = []
    for distance in _DISTANCES:
        for right, up in _DIRECTIONS:
            reach = distance if 0 in (right, up) else 0.7 * distance
            left = x + right * reach - (1 - right) * width / 2
            bottom = y + up * reach - (1 - up) * height / 2
            found.append((distance, (left, bottom, left + width, bottom + height)))
    return found


def _cost(candidate: tuple[float, Box], frame: Box, taken: Sequence[Box]) -> float:
    distance, box = candidate
    covered = sum(overlap(box, other) for other in taken)
    outside = (box[2] - box[0]) * (box[3] - box[1]) - overlap(box, frame)
    return covered + _OUTSIDE_COST * outside + _DISTANCE_COST * distance


def overlap(a: Box, b: Box) -> float:
    """Area that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)


def along(start: tuple[float, float], stop: tuple[float, float], step: float) -> list[Box]:
    """Small boxes along a line, so that labels can keep off it."""
    length = max(abs(stop[0] - start[0]), abs(stop[1] - start[1]))
    count = int(length / step) + 1
    half = step / 2
    points = [
        (
            start[0] + (stop[0] - start[0]) * k / count,
            start[1] + (stop[1] - start[1]) * k / count,
        )
        for k in range(count + 1)
    ]
    return [(x - half, y - half, x + half, y + half) for x, y in points]
