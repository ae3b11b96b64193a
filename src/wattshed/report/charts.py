"""Draw charts and maps as SVG and PNG; the only module that imports matplotlib, and late.

The style is that of a printed paper: colours that colour-blind readers can tell apart
(Okabe and Ito), a light grid, legends above the data, intervals wherever there are any.
The same chart always gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from wattshed.report.axes import FAINT, GRID, INK, PALETTE, set_legend, set_scale, set_ticks
from wattshed.report.curves import (
    draw_chart,
    label_points,
    say_what_is_missing,
    showable,
    wrapped,
)
from wattshed.report.document import Chart, Cut, Map
from wattshed.report.labels import Box
from wattshed.report.regions import cell_edges, gather_points, rectangles_of, widened

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.path import Path

WIDTH_IN = 7.0
PNG_DPI = 200
_DASHES: tuple[tuple[float, ...] | None, ...] = ((6, 2), (1.5, 1.5), None)
_FONTS = "Helvetica, Arial, 'Liberation Sans', 'DejaVu Sans', sans-serif"
_STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.family": ["DejaVu Sans"],  # comes with matplotlib: the same layout everywhere
    "font.size": 8.5,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,
    "xtick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.color": FAINT,
    "ytick.labelcolor": INK,
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
            title = wrapped(chart.title, 78)
            figure.suptitle(title, x=0.012, ha="left", fontsize=10, fontweight="bold")
        axes = figure.add_subplot()
        if isinstance(chart, Map):
            _draw_map(axes, chart)
        else:
            chart, lost = showable(chart)
            draw_chart(axes, chart)
            say_what_is_missing(axes, lost)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        if isinstance(chart, Chart):
            label_points(axes, chart)
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
        settings: Any = {**_STYLE, "svg.hashsalt": slug}
        matplotlib.rcParams.update(settings)
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


def _height_in(chart: Chart | Map) -> float:
    if isinstance(chart, Map):
        return 5.0
    if not chart.horizontal:
        return 4.2
    lines = [len(wrapped(t, 38).splitlines()) for t in chart.x_ticks or []]
    bars = sum(s.style == "bars" for s in chart.series)
    return 1.5 + sum(max(0.27, 0.16 * n + 0.08, 0.18 * bars) for n in lines)


def _draw_map(axes: Axes, chart: Map) -> None:
    from matplotlib.patches import Patch, PathPatch

    set_scale(axes, "x", chart.x_scale, chart.x_label)
    set_scale(axes, "y", chart.y_scale, chart.y_label)
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
        handles.append(Patch(facecolor=color, edgecolor=FAINT, linewidth=0.5))
        names.append(name if rectangles else f"{name} (nowhere)")
    if chart.density:
        handles.append(_draw_density(axes, chart))
        names.append("workload (area: weight)")
    limits = axes.get_xlim(), axes.get_ylim()
    for index, cut in enumerate(chart.cuts):
        handles.append(_draw_cut(axes, cut, index))
        names.append(cut.name)
    axes.set(xlim=limits[0], ylim=limits[1])
    set_ticks(axes, "x", chart.x_scale)
    set_ticks(axes, "y", chart.y_scale)
    set_legend(axes, handles, names)


def _draw_cut(axes: Axes, cut: Cut, index: int) -> Artist:
    """A line on a white one, so that it is seen over dots and regions alike."""
    axes.plot(cut.x, cut.y, color="white", linewidth=2.8, alpha=0.8)
    dashes: Any = (0, _DASHES[index % len(_DASHES)])
    return axes.plot(cut.x, cut.y, color=INK, linewidth=1.4, linestyle=dashes)[0]


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
    axes.set_xlim(widened(axes.get_xlim(), x, chart.x_scale))
    axes.set_ylim(widened(axes.get_ylim(), y, chart.y_scale))
    sizes = [round(2 * math.sqrt(90 * w / heaviest)) / 2 for w in weight]
    style: dict[str, Any] = {"marker": "o", "color": INK, "alpha": 0.45, "markeredgewidth": 0}
    for size in sorted(set(sizes)):  # few sizes, each marker stated once: a small SVG
        at = [k for k, s in enumerate(sizes) if s == size]
        places = [x[k] for k in at], [y[k] for k in at]
        axes.plot(*places, linestyle="none", markersize=max(size, 1.0), **style)
    return axes.plot([], [], linestyle="none", markersize=5, **style)[0]
