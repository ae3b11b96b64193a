"""Draw curves, markers and bars, with their intervals and labels, on given axes."""

from __future__ import annotations

import itertools
import math
import textwrap
from typing import TYPE_CHECKING, Any, Literal

from msgspec import structs

from wattshed.report.axes import FAINT, INK, MUTED, PALETTE, set_legend, set_scale, set_ticks
from wattshed.report.document import Chart, Series
from wattshed.report.labels import Box, along, place
from wattshed.report.stacks import BARS, draw_areas, draw_limits, draw_stacked_bars, tops_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.text import Text

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
_ALIGNMENTS: tuple[Literal["left", "center", "right"], ...] = ("left", "center", "right")
_LINES = {"line": "-", "line+markers": "-", "dashed": (0, (5, 2)), "markers": "none"}


def draw_chart(axes: Axes, chart: Chart) -> None:
    """Draw all series of a chart made `showable`, then fix scales, ticks, grid and legend."""
    data: Literal["x", "y"] = "y" if chart.horizontal else "x"
    value: Literal["x", "y"] = "x" if chart.horizontal else "y"
    set_scale(axes, data, chart.x_scale, chart.x_label)
    set_scale(axes, value, chart.y_scale, chart.y_label)
    handles = [_draw_series(axes, chart, index) for index in range(len(chart.series))]
    _set_room(axes, chart, value)
    if chart.x_ticks is None:
        set_ticks(axes, data, chart.x_scale)
    else:
        _name_categories(axes, chart, chart.x_ticks)
    set_ticks(axes, value, chart.y_scale)
    bars = any(s.style in BARS for s in chart.series)
    axes.grid(visible=True, axis=value if bars else "both")
    if bars and chart.y_scale == "linear":
        (axes.axvline if chart.horizontal else axes.axhline)(0, color=FAINT, linewidth=0.8)
    if len(chart.series) > 1:
        set_legend(axes, handles, [s.name for s in chart.series])


def _set_room(axes: Axes, chart: Chart, value: Literal["x", "y"]) -> None:
    """Room around the data, for labels where there are any; none around areas."""
    limit = axes.set_xlim if value == "x" else axes.set_ylim
    if any(s.labels and s.style not in BARS for s in chart.series):
        axes.margins(0.1)
    elif any(s.labels for s in chart.series) and not chart.horizontal:
        axes.margins(y=0.12)
    elif any(s.style == "stacked areas" for s in chart.series):
        axes.margins(x=0, y=0)
        limit(0)
    if chart.y_end is not None:
        limit(None, chart.y_end)


def colours(chart: Chart) -> list[str]:
    """One colour for each series, or for each system where all are drawn in several styles.

    "M1 Pro, measured" as markers and "M1 Pro, model" as a line share theirs.
    """
    heads = [s.name.partition(", ")[0] for s in chart.series]
    groups = list(dict.fromkeys(heads))
    members = [
        [s.style for s, h in zip(chart.series, heads, strict=True) if h == g] for g in groups
    ]
    paired = all(len(styles) > 1 and len(set(styles)) == len(styles) for styles in members)
    ranks = [groups.index(h) for h in heads] if paired else range(len(heads))
    return [
        MUTED if s.muted else PALETTE[rank % len(PALETTE)]
        for s, rank in zip(chart.series, ranks, strict=True)
    ]


def _draw_series(axes: Axes, chart: Chart, index: int) -> Any:
    """Draw one series; what is returned stands for it in the legend."""
    series = chart.series[index]
    color = colours(chart)[index]
    x = _positions(chart, index)
    if series.style == "bars":
        bars = axes.barh if chart.horizontal else axes.bar
        handle = bars(x, series.y, 0.92 * _slot_width(chart), color=color, alpha=0.85)
        _draw_whiskers(axes, chart, series, x, INK)
        _label_bars(axes, chart, series, x)
        return handle
    if series.style == "stacked bars":
        handle = draw_stacked_bars(axes, chart, index, color)
        _label_bars(axes, chart, structs.replace(series, y=tops_of(chart, index)), x)
        return handle
    if series.style == "stacked areas":
        return draw_areas(axes, chart, index, color)
    if series.style == "limits":
        return draw_limits(axes, chart, series)
    style: dict[str, Any] = {"color": color, "linestyle": _LINES[series.style], "linewidth": 1.6}
    if "markers" in series.style:
        style.update(marker=MARKERS[index % len(MARKERS)], markersize=5, markeredgewidth=0)
    if series.style == "markers":
        _draw_whiskers(axes, chart, series, x, color)
    elif series.low is not None and series.high is not None:
        fill = axes.fill_betweenx if chart.horizontal else axes.fill_between
        fill(x, series.low, series.high, color=color, alpha=0.18, linewidth=0)
    across, up = (series.y, x) if chart.horizontal else (x, series.y)
    return axes.plot(across, up, **style)[0]


def _draw_whiskers(axes: Axes, chart: Chart, series: Series, x: list[float], color: str) -> None:
    """Intervals of bars and markers; a value may lie outside its own interval."""
    if series.low is None or series.high is None:
        return
    lines, cap = (axes.hlines, "|") if chart.horizontal else (axes.vlines, "_")
    lines(x, series.low, series.high, color=color, linewidth=1.1, zorder=3)
    for ends in (series.low, series.high):
        across, up = (ends, x) if chart.horizontal else (x, ends)
        axes.plot(across, up, linestyle="none", marker=cap, color=color, markersize=5, zorder=3)


def _label_bars(axes: Axes, chart: Chart, series: Series, x: list[float]) -> None:
    """Labels of lying bars in a column at the right, of standing ones above their ends."""
    for place_x, top, text in zip(x, _tops(series), series.labels or [], strict=False):
        if chart.horizontal:
            axes.text(1.01, place_x, text, va="center", transform=axes.get_yaxis_transform())
        elif math.isfinite(top):
            up = top >= 0
            axes.annotate(
                text,
                (place_x, top),
                (0, 3 if up else -3),
                textcoords="offset points",
                ha="center",
                va="bottom" if up else "top",
            )


def _tops(series: Series) -> list[float]:
    """Where each bar and its interval end."""
    ends = [series.y, series.low or series.y, series.high or series.y]
    return [max(v, key=abs) for v in zip(*ends, strict=True)]


def _slots(chart: Chart) -> list[int]:
    """Series that stand side by side at each position."""
    return [
        k
        for k, s in enumerate(chart.series)
        if s.style == "bars" or (s.style == "markers" and chart.x_ticks and s.low is not None)
    ]


def _slot_width(chart: Chart) -> float:
    places = sorted({x for k in _slots(chart) for x in chart.series[k].x if math.isfinite(x)})
    steps = [b - a for a, b in itertools.pairwise(places)]
    return 0.75 * min(steps, default=1.0) / max(1, len(_slots(chart)))


def _positions(chart: Chart, index: int) -> list[float]:
    """Where the points of a series lie along the x axis."""
    slots = _slots(chart)
    if index not in slots:
        return list(chart.series[index].x)
    shift = (slots.index(index) - (len(slots) - 1) / 2) * _slot_width(chart)
    return [x + shift for x in chart.series[index].x]


def _name_categories(axes: Axes, chart: Chart, names: list[str]) -> None:
    places = list(range(len(names)))
    if chart.horizontal:
        axes.set_yticks(places, [wrapped(n, 38) for n in names])
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        return
    room = max(6, 88 // max(1, len(names)))
    slanted = any(len(word) > room for n in names for word in n.split())
    labels = names if slanted else [wrapped(n, room) for n in names]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, labels, **(turned if slanted else {}))
    axes.set_xlim(-0.55, len(names) - 0.45)
    axes.tick_params(axis="x", length=0)


def wrapped(text: str, width: int) -> str:
    """Break lines between words only."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


def showable(chart: Chart) -> tuple[Chart, int]:
    """Blank what a logarithmic axis cannot show; with the number of points lost.

    Intervals that reach 0 or below are drawn down to less than any value shown.
    """
    logs = (chart.x_scale != "linear", chart.y_scale != "linear")
    if not any(logs):
        return chart, 0
    values = [v for s in chart.series for v in (*s.y, *(s.low or []), *(s.high or [])) if v > 0]
    floor = min(values, default=1.0) / 4
    found = [_blanked(series, logs, floor) for series in chart.series]
    return structs.replace(chart, series=[s for s, _ in found]), sum(lost for _, lost in found)


def _blanked(series: Series, logs: tuple[bool, bool], floor: float) -> tuple[Series, int]:
    lost = {
        k
        for k, pair in enumerate(zip(series.x, series.y, strict=True))
        if any(log and value <= 0 for log, value in zip(logs, pair, strict=True))
    }

    def kept(values: list[float], below: float) -> list[float]:
        return [below if logs[1] and v <= 0 else v for v in values]

    blank = structs.replace(
        series,
        x=[math.nan if k in lost else x for k, x in enumerate(series.x)],
        y=[math.nan if k in lost else y for k, y in enumerate(series.y)],
        low=series.low and kept(series.low, floor),
        high=series.high and kept(series.high, floor),
    )
    return blank, len(lost)


def say_what_is_missing(axes: Axes, lost: int) -> None:
    """Write how many points a logarithmic axis hides."""
    if lost:
        text = f"{lost} not above 0: not shown"
        axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", color=FAINT)


def label_points(axes: Axes, chart: Chart) -> None:
    """Write the labels of points where they cover neither data nor each other."""
    anchors, texts, colors = [], [], []
    for index, series in enumerate(chart.series):
        points = _on_canvas(axes, chart, series, _positions(chart, index))
        for point, label in zip(points, series.labels or [], strict=False):
            if label and series.style not in BARS and all(map(math.isfinite, point)):
                anchors.append(point)
                texts.append(wrapped(label, 34))
                colors.append(colours(chart)[index])
    drawn = [
        axes.text(0, 0, text, color=color, transform=axes.figure.transFigure)
        for text, color in zip(texts, colors, strict=True)
    ]
    sizes = [(e.width, e.height) for e in (d.get_window_extent() for d in drawn)]
    left, bottom, right, top = axes.get_window_extent().extents
    frame = (left + 4, bottom + 4, right, top)
    boxes = place(anchors, sizes, frame, _obstacles(axes, chart))
    for text, anchor, box in zip(drawn, anchors, boxes, strict=True):
        _move(axes, text, anchor, box)


def _on_canvas(
    axes: Axes, chart: Chart, series: Series, x: list[float]
) -> list[tuple[float, float]]:
    pairs = zip(series.y, x, strict=True) if chart.horizontal else zip(x, series.y, strict=True)
    return [tuple(axes.transData.transform(pair).tolist()) for pair in pairs]


def _obstacles(axes: Axes, chart: Chart) -> list[Box]:
    """Boxes over markers, lines and intervals."""
    found: list[Box] = []
    for index, series in enumerate(chart.series):
        x = _positions(chart, index)
        points = _on_canvas(axes, chart, series, x)
        found += [(a - 5, b - 5, a + 5, b + 5) for a, b in points if math.isfinite(a + b)]
        pairs = list(itertools.pairwise(points))
        if series.style in ("markers", "bars"):
            ends = [
                _on_canvas(axes, chart, structs.replace(series, y=y), x)
                for y in (series.low, series.high)
                if y is not None
            ]
            pairs = list(zip(*ends, strict=True)) if len(ends) == 2 else []
        for start, stop in pairs:
            if all(map(math.isfinite, (*start, *stop))):
                found += along(start, stop, 5.0)
    return found


def _move(axes: Axes, text: Text, anchor: tuple[float, float], box: Box) -> None:
    """Put a label into its box, with a thin line to its point if that is not beside it."""
    to_fraction = axes.figure.transFigure.inverted()  # the same at every resolution
    # Aligned towards its point, so that it stays there in a font of another width.
    side = int(box[0] < anchor[0]) + int(box[2] < anchor[0])
    middle = (box[0], (box[0] + box[2]) / 2, box[2])[side]
    left, bottom, x, y = to_fraction.transform([(middle, box[1]), anchor]).ravel().tolist()
    text.set_position((left, bottom))
    text.set_horizontalalignment(_ALIGNMENTS[side])
    text.set_verticalalignment("bottom")
    near = (min(max(anchor[0], box[0]), box[2]), min(max(anchor[1], box[1]), box[3]))
    if math.dist(near, anchor) > 14:
        axes.annotate(
            "",
            (x, y),
            tuple(to_fraction.transform(near).tolist()),
            xycoords="figure fraction",
            textcoords="figure fraction",
            arrowprops={"arrowstyle": "-", "color": FAINT, "linewidth": 0.6, "shrinkB": 4},
        )
