"""Draw charts and maps; the only module that knows matplotlib, imported when first used.

The style is that of a printed paper: colours that colour-blind readers can tell apart
(Okabe and Ito), a light grid, legends above the data, intervals wherever there are any.
The same chart always gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec import structs

from wattshed.report.document import Chart, Map, Scale, Series
from wattshed.report.labels import Box, along, place
from wattshed.report.regions import cell_edges, gather_points, rectangles_of
from wattshed.report.ticks import format_tick, log_ticks

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path
    from matplotlib.text import Annotation

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C00")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
WIDTH_IN = 7.0
PNG_DPI = 200
_INK, _FAINT, _GRID = "#222222", "#666666", "#DDDDDD"
_LINES = {"line": "-", "line+markers": "-", "dashed": (0, (5, 2)), "markers": "none"}
_FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
    "font.size": 8.5,
    "grid.color": _GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": _INK,
    "text.parse_math": False,
    "xtick.color": _FAINT,
    "xtick.labelcolor": _INK,
    "ytick.color": _FAINT,
    "ytick.labelcolor": _INK,
}


def draw(chart: Chart | Map, *, titled: bool = True) -> Figure:
    """Draw a chart or map as a figure 7 inches wide.

    Parameters
    ----------
    chart : Chart or Map
    titled : bool
        Whether the title stands above the picture; a page sets it in the caption instead.

    Returns
    -------
    matplotlib.figure.Figure
        With an Agg canvas; nothing is registered with pyplot.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with _style(chart.slug):
        figure = Figure(figsize=(WIDTH_IN, _height_in(chart)), layout="constrained")
        FigureCanvasAgg(figure)
        if titled:
            title = textwrap.fill(chart.title, 78)
            figure.suptitle(title, x=0.012, ha="left", fontsize=10, fontweight="bold")
        axes = figure.add_subplot()
        if isinstance(chart, Map):
            _draw_map(axes, chart)
        else:
            _draw_chart(axes, chart)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        if isinstance(chart, Chart):
            _label_points(axes, chart)
    return figure


def to_svg(chart: Chart | Map, *, titled: bool = True) -> str:
    """Draw as SVG with its text as text; ids carry the slug, so that a page can hold many."""
    figure = draw(chart, titled=titled)
    file = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _style(chart.slug):
        figure.savefig(file, format="svg", metadata=nothing)
    return _own_names(file.getvalue(), chart.slug)


def to_png(chart: Chart | Map, *, titled: bool = True) -> bytes:
    """Draw as PNG at 200 dots per inch."""
    figure = draw(chart, titled=titled)
    file = io.BytesIO()
    with _style(chart.slug):
        figure.savefig(file, format="png", dpi=PNG_DPI, metadata={"Software": None})
    return file.getvalue()


@contextmanager
def _style(slug: str) -> Iterator[None]:
    import matplotlib

    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": slug})
        # A name in a script that the font lacks: a browser has it, the PNG shows a box.
        warnings.filterwarnings("ignore", message=r"Glyph \d+")
        yield


def _own_names(svg: str, slug: str) -> str:
    """Take the picture out of its XML file, with ids, fonts and style of its own."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{slug}-', svg)
    svg = re.sub(r'href="#', f'href="#{slug}-', svg)
    svg = svg.replace("url(#", f"url(#{slug}-")
    svg = svg.replace("'DejaVu Sans'", _FONTS)
    return re.sub(r"<style type=\"text/css\">\*\{", '<style type="text/css">svg *{', svg)


# ---------------------------------------------------------------- curves, markers and bars


def _height_in(chart: Chart | Map) -> float:
    if isinstance(chart, Map):
        return 5.0
    if not chart.horizontal:
        return 4.2
    lines = [len(_wrapped(t, 38).splitlines()) for t in chart.x_ticks or []]
    bars = sum(s.style == "bars" for s in chart.series)
    return 1.5 + sum(max(0.27, 0.16 * n + 0.08, 0.18 * bars) for n in lines)


def _draw_chart(axes: Axes, chart: Chart) -> None:
    data, value = ("y", "x") if chart.horizontal else ("x", "y")
    _set_scale(axes, data, chart.x_scale, chart.x_label)
    _set_scale(axes, value, chart.y_scale, chart.y_label)
    handles = [_draw_series(axes, chart, index) for index in range(len(chart.series))]
    if any(s.labels and s.style != "bars" for s in chart.series):
        axes.margins(0.1)
    if chart.x_ticks is None:
        _set_ticks(axes, data, chart.x_scale)
    else:
        _name_categories(axes, chart, chart.x_ticks)
    _set_ticks(axes, value, chart.y_scale)
    axes.grid(visible=True, axis="both" if chart.x_ticks is None else value)
    if any(s.style == "bars" for s in chart.series) and chart.y_scale == "linear":
        (axes.axvline if chart.horizontal else axes.axhline)(0, color=_FAINT, linewidth=0.8)
    if len(chart.series) > 1:
        _legend(axes, handles, [s.name for s in chart.series])
    _say_what_is_missing(axes, chart)


def _draw_series(axes: Axes, chart: Chart, index: int) -> Artist:
    series = chart.series[index]
    color = PALETTE[index % len(PALETTE)]
    x = _positions(chart, index)
    if series.style == "bars":
        bars = axes.barh if chart.horizontal else axes.bar
        handle: Artist = bars(x, series.y, _slot_width(chart), color=color, alpha=0.85)
        _draw_whiskers(axes, chart, series, x, _INK)
        _label_bars(axes, chart, series, x)
        return handle
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


def _draw_whiskers(
    axes: Axes, chart: Chart, series: Series, x: list[float], color: str
) -> None:
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
    places = sorted({x for k in _slots(chart) for x in chart.series[k].x})
    steps = [b - a for a, b in zip(places, places[1:], strict=False)]
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
        axes.set_yticks(places, [_wrapped(n, 38) for n in names])
        axes.set_ylim(len(names) - 0.45, -0.55)
        axes.tick_params(axis="y", length=0)
        return
    room = max(6, 88 // max(1, len(names)))
    slanted = any(len(word) > room for n in names for word in n.split())
    labels = names if slanted else [_wrapped(n, room) for n in names]
    turned: dict[str, Any] = {"rotation": 35, "ha": "right", "rotation_mode": "anchor"}
    axes.set_xticks(places, labels, **(turned if slanted else {}))
    axes.set_xlim(-0.55, len(names) - 0.45)
    axes.tick_params(axis="x", length=0)


def _wrapped(text: str, width: int) -> str:
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


# ---------------------------------------------------------------- axes


def _set_scale(axes: Axes, which: str, scale: Scale, label: str) -> None:
    change, name = (
        (axes.set_xscale, axes.set_xlabel) if which == "x" else (axes.set_yscale, axes.set_ylabel)
    )
    if scale != "linear":
        change("log", base=_base(scale))
    name(label)


def _base(scale: Scale) -> int:
    return 2 if scale == "log2" else 10


def _set_ticks(axes: Axes, which: str, scale: Scale) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

    axis = axes.xaxis if which == "x" else axes.yaxis
    low, high = sorted(axis.get_view_interval())
    ticks = log_ticks(low, high, _base(scale)) if scale != "linear" else []
    if len(ticks) < 2:
        chosen = MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
        ticks = [float(t) for t in chosen if low <= t <= high]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: format_tick(value)))


def _legend(axes: Axes, handles: list[Any], names: list[str]) -> None:
    """Above the axes, in as many columns as the names leave room for."""
    longest = max(map(len, names))
    axes.legend(
        handles,
        [name.lstrip("_") or "–" for name in names],
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        ncols=max(1, min(len(names), 92 // (longest + 6))),
        borderaxespad=0.3,
        columnspacing=1.6,
        handlelength=1.8,
    )


def _say_what_is_missing(axes: Axes, chart: Chart) -> None:
    """A logarithmic axis cannot show zero; say how many points that hides."""
    hidden = sum(
        (chart.x_scale != "linear" and x <= 0) or (chart.y_scale != "linear" and y <= 0)
        for s in chart.series
        for x, y in zip(s.x, s.y, strict=True)
    )
    if hidden:
        text = f"{hidden} not above 0: not shown"
        axes.text(0.99, 0.02, text, transform=axes.transAxes, ha="right", color=_FAINT)


# ---------------------------------------------------------------- labels


def _label_points(axes: Axes, chart: Chart) -> None:
    """Write the labels of points where they cover neither data nor each other."""
    anchors, texts, colors = [], [], []
    for index, series in enumerate(chart.series):
        points = _on_canvas(axes, chart, series, _positions(chart, index))
        for point, text in zip(points, series.labels or [], strict=False):
            if text and series.style != "bars" and all(map(math.isfinite, point)):
                anchors.append(point)
                texts.append(_wrapped(text, 34))
                colors.append(PALETTE[index % len(PALETTE)])
    drawn = [axes.annotate(t, (0, 0), color=c) for t, c in zip(texts, colors, strict=True)]
    sizes = [(e.width, e.height) for e in (d.get_window_extent() for d in drawn)]
    left, bottom, right, top = axes.get_window_extent().extents.tolist()
    boxes = place(anchors, sizes, (left, bottom, right, top), _obstacles(axes, chart))
    for annotation, anchor, box in zip(drawn, anchors, boxes, strict=True):
        _move(annotation, anchor, box)


def _on_canvas(
    axes: Axes, chart: Chart, series: Series, x: list[float]
) -> list[tuple[float, float]]:
    pairs = zip(series.y, x, strict=True) if chart.horizontal else zip(x, series.y, strict=True)
    logs = (axes.get_xscale() == "log", axes.get_yscale() == "log")
    return [
        (math.nan, math.nan)
        if any(log and v <= 0 for log, v in zip(logs, pair, strict=True))
        else tuple(axes.transData.transform(pair).tolist())
        for pair in pairs
    ]


def _obstacles(axes: Axes, chart: Chart) -> list[Box]:
    """Boxes over markers, lines and intervals."""
    found: list[Box] = []
    for index, series in enumerate(chart.series):
        x = _positions(chart, index)
        points = _on_canvas(axes, chart, series, x)
        found += [(a - 5, b - 5, a + 5, b + 5) for a, b in points if math.isfinite(a + b)]
        pairs = list(zip(points, points[1:], strict=False))
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


def _move(annotation: Annotation, anchor: tuple[float, float], box: Box) -> None:
    """Put a label into its box, with a thin line to its point if that is not beside it."""
    axes = annotation.axes
    figure = annotation.get_figure()
    assert axes is not None
    assert figure is not None
    to_fraction = figure.transFigure.inverted().transform  # the same at every resolution
    annotation.set_position(to_fraction(box[:2]))
    annotation.xy = to_fraction(anchor)
    annotation.xycoords = annotation.anncoords = "figure fraction"
    near = (min(max(anchor[0], box[0]), box[2]), min(max(anchor[1], box[1]), box[3]))
    if math.dist(near, anchor) > 14:
        axes.annotate(
            "",
            to_fraction(anchor),
            to_fraction(near),
            xycoords="figure fraction",
            textcoords="figure fraction",
            arrowprops={"arrowstyle": "-", "color": _FAINT, "linewidth": 0.6, "shrinkB": 4},
        )


# ---------------------------------------------------------------- maps


def _draw_map(axes: Axes, chart: Map) -> None:
    from matplotlib.patches import Patch, PathPatch

    _set_scale(axes, "x", chart.x_scale, chart.x_label)
    _set_scale(axes, "y", chart.y_scale, chart.y_label)
    x, y = cell_edges(chart.x, chart.x_scale), cell_edges(chart.y, chart.y_scale)
    axes.set_xlim(x[0], x[-1])
    axes.set_ylim(y[0], y[-1])
    handles: list[Artist] = []
    names = []
    for index, name in enumerate(chart.names):
        color = _lightened(PALETTE[index % len(PALETTE)])
        rectangles = rectangles_of(chart.values, index)
        if rectangles:
            # A hairline of the same colour closes the seams that viewers show between shapes.
            shape = _path_of([(x[a], y[b], x[c], y[d]) for a, b, c, d in rectangles])
            axes.add_patch(PathPatch(shape, facecolor=color, edgecolor=color, linewidth=0.3))
        handles.append(Patch(facecolor=color, edgecolor=_FAINT, linewidth=0.5))
        names.append(name if rectangles else f"{name} (nowhere)")
    if chart.density:
        handles.append(_draw_density(axes, chart))
        names.append("workload (area: weight)")
    _set_ticks(axes, "x", chart.x_scale)
    _set_ticks(axes, "y", chart.y_scale)
    _legend(axes, handles, names)


def _lightened(color: str) -> tuple[float, float, float]:
    from matplotlib.colors import to_rgb

    red, green, blue = (0.45 * part + 0.55 for part in to_rgb(color))
    return red, green, blue


def _path_of(boxes: list[Box]) -> Path:
    from matplotlib.path import Path

    corners = [[(a, b), (c, b), (c, d), (a, d), (a, b)] for a, b, c, d in boxes]
    codes = [Path.MOVETO, Path.LINETO, Path.LINETO, Path.LINETO, Path.CLOSEPOLY] * len(boxes)
    return Path([point for box in corners for point in box], codes)


def _draw_density(axes: Axes, chart: Map) -> Artist:
    """Points over the regions; the axes grow to show those outside the grid."""
    points = gather_points(chart.density, (chart.x_scale, chart.y_scale))
    x, y, weight = zip(*points, strict=True)
    heaviest = max(weight) or 1.0
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(min(left, *x), max(right, *x))
    axes.set_ylim(min(bottom, *y), max(top, *y))
    style: dict[str, Any] = {"color": _INK, "alpha": 0.45, "linewidths": 0, "zorder": 3}
    axes.scatter(x, y, s=[90 * w / heaviest for w in weight], **style)
    return axes.scatter([], [], s=20, **style)
