"""Draw bars and areas that stand on each other, and limits across bars."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wattshed.report.axes import INK
from wattshed.report.document import Chart, Series

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BARS = ("bars", "stacked bars")
_THICKNESS = 0.6
_REACH = 0.42  # of a limit to either side of the middle of its bar


def draw_stacked_bars(axes: Axes, chart: Chart, index: int, color: str) -> Any:
    """Draw one series of bars on those below it."""
    series, base = chart.series[index], base_of(chart, index)
    bars: Any = axes.barh if chart.horizontal else axes.bar
    start = "left" if chart.horizontal else "bottom"
    return bars(series.x, series.y, _THICKNESS, color=color, alpha=0.85, **{start: base})


def draw_areas(axes: Axes, chart: Chart, index: int, color: str) -> Any:
    """Draw one area on those below it."""
    series, base, top = chart.series[index], base_of(chart, index), tops_of(chart, index)
    fill = axes.fill_betweenx if chart.horizontal else axes.fill_between
    return fill(series.x, base, top, color=color, alpha=0.85, linewidth=0)


def draw_limits(axes: Axes, chart: Chart, series: Series) -> Any:
    """Draw a short line across each bar."""
    lines = axes.vlines if chart.horizontal else axes.hlines
    starts, ends = [x - _REACH for x in series.x], [x + _REACH for x in series.x]
    return lines(series.y, starts, ends, color=INK, linewidth=2.0, zorder=3)


def base_of(chart: Chart, index: int) -> list[float]:
    """What a series stands on: the sum of those of its style before it."""
    series = chart.series[index]
    below = [s.y for s in chart.series[:index] if s.style == series.style]
    return [sum(values) for values in zip(*below, strict=True)] if below else [0.0] * len(series.y)


def tops_of(chart: Chart, index: int) -> list[float]:
    """Where a series ends: what it stands on, and itself."""
    pairs = zip(base_of(chart, index), chart.series[index].y, strict=True)
    return [base + height for base, height in pairs]
