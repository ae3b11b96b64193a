"""Held-out errors of many iteration profiles, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from wattshed.records import IterationProfile
from wattshed.records.iteration import HeldOutAxis, Quantity


@dataclass(frozen=True)
class HeldOutSummary:
    """Errors of one quantity over the cells that were left out of a group of profiles.

    Attributes
    ----------
    group : str
        First part of the profiles' names, and the architecture of their models.
    median_ape_pct, p90_ape_pct, worst_ape_pct : float
        Over all cells of the group.
    worst : str
        Profile and left-out batch or degree of the worst cell.
    """

    group: str
    quantity: Quantity
    axis: HeldOutAxis
    profiles: int
    cells: int
    median_ape_pct: float
    p90_ape_pct: float
    worst_ape_pct: float
    worst: str


def summarize_held_out(profiles: Iterable[IterationProfile]) -> list[HeldOutSummary]:
    """Pool the held-out errors of profiles by source, architecture, quantity and axis.

    Returns
    -------
    list of HeldOutSummary
        Sorted.
    """
    pooled: dict[tuple[str, Quantity, HeldOutAxis], list[tuple[str, float, float]]] = {}
    for profile in profiles:
        group = f"{profile.name.partition('/')[0]} {profile.architecture}"
        for found in profile.held_out:
            cells = pooled.setdefault((group, found.quantity, found.axis), [])
            cells += [
                (profile.name, left_out, abs(error))
                for left_out, error in zip(found.left_out, found.error_pct, strict=True)
            ]
    return [_summary(key, cells) for key, cells in sorted(pooled.items())]


def _summary(
    key: tuple[str, Quantity, HeldOutAxis], cells: list[tuple[str, float, float]]
) -> HeldOutSummary:
    group, quantity, axis = key
    sizes = np.array([size for _, _, size in cells])
    name, left_out, worst = max(cells, key=lambda cell: cell[2])
    return HeldOutSummary(
        group=group,
        quantity=quantity,
        axis=axis,
        profiles=len({name for name, _, _ in cells}),
        cells=len(cells),
        median_ape_pct=float(np.median(sizes)),
        p90_ape_pct=float(np.quantile(sizes, 0.9)),
        worst_ape_pct=worst,
        worst=f"{name} at {left_out:g}",
    )
