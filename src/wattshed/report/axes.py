"""Scales, ticks and legends of matplotlib axes that the caller made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wattshed.report.document import Scale
from wattshed.report.ticks import format_ticks, linear_ticks, log_ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, FAINT, GRID, MUTED = "#222222", "#666666", "#DDDDDD", "#B4B4B4"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
"""Colours that colour-blind readers can tell apart (Okabe and Ito), yellow darkened."""


def set_scale(axes: Axes, which: str, scale: Scale, label: str) -> None:
    """Scale and name of one axis."""
    change, name = (
        (axes.set_xscale, axes.set_xlabel) if which == "x" else (axes.set_yscale, axes.set_ylabel)
    )
    if scale != "linear":
        change("log", base=_base(scale))
    name(label)


def _base(scale: Scale) -> int:
    return 2 if scale == "log2" else 10


def set_ticks(axes: Axes, which: str, scale: Scale) -> None:
    """Ticks at round numbers within the present limits."""
    low, high = sorted(axes.get_xlim() if which == "x" else axes.get_ylim())
    ticks = log_ticks(low, high, _base(scale)) if scale != "linear" else []
    if len(ticks) < 2:
        ticks = linear_ticks(low, high)
    place = axes.set_xticks if which == "x" else axes.set_yticks
    place([], minor=True)
    place(ticks, format_ticks(ticks, even=scale == "linear"))


def set_legend(axes: Axes, handles: list[Any], names: list[str]) -> None:
    """Above the axes, in as many columns as the names leave room for."""
    fitting = max(1, 92 // (max(map(len, names)) + 6))
    rows = -(-len(names) // fitting)
    axes.legend(
        handles,
        [name.lstrip("_") or "–" for name in names],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=-(-len(names) // rows),  # rows of equal length
        borderaxespad=0.3,
        columnspacing=1.6,
        handlelength=1.8,
    )
