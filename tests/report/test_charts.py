import math
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest
from msgspec import structs

from wattshed.report.charts import draw, to_png, to_svg
from wattshed.report.curves import colours
from wattshed.report.document import Chart, Cut, Map, Series

STYLES = ["line", "markers", "line+markers", "dashed", "bars"]
X = [0.0, 1.0, 2.0]


def texts(svg):
    return ["".join(e.itertext()) for e in ET.fromstring(svg).iter() if e.tag.endswith("text")]


@pytest.mark.parametrize(
    ("scale", "horizontal"),
    [("linear", False), ("linear", True), ("log2", False), ("log10", True)],
)
@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_with_intervals_and_labels(style, scale, horizontal):
    series = [
        Series(
            "one",
            X,
            [1.0, 20.0, 300.0],
            [0.0, 10.0, 200.0],
            [2.0, 30.0, 400.0],
            style,
            ["a", "", "c"],
        ),
        Series("two", X, [2.0, 25.0, 250.0], style=style),
    ]
    names = ["first", "second name of some length", "third/with/slashes"]
    chart = Chart("c", "Title", "x", "y", series, "linear", scale, names, horizontal)
    svg = to_svg(chart)
    assert {"Title", "one", "two", "a", "c", "first"} <= set(texts(svg))
    assert to_png(chart).startswith(b"\x89PNG")


@pytest.mark.parametrize("x_scale", ["linear", "log2", "log10"])
@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws_on_a_numeric_axis(style, x_scale):
    series = [Series("one", [8.0, 64.0, 2048.0], [1.0, 2.0, 3.0], style=style)]
    assert "64" in texts(to_svg(Chart("c", "", "x", "y", series, x_scale))) or x_scale != "log2"


@pytest.mark.parametrize(
    "series",
    [
        [],
        [Series("empty", [], [])],
        [Series("point", [3.0], [5.0])],
        [Series("gap", X, [1.0, math.nan, 3.0], labels=["a", "b", "c"])],
        [Series("flat", X, [0.0, 0.0, 0.0], style="bars")],
        [Series(f"many {k}", X, [k + 1.0] * 3) for k in range(12)],
        [Series("値 🙂", X, [1.0, 2.0, 3.0]), Series("_hidden", X, [1.0, 2.0, 3.0])],
    ],
)
def test_odd_series_draw(series):
    chart = Chart("c", "値", "x", "y", series)
    assert to_svg(chart).startswith("<svg")
    assert to_png(chart)


def test_an_interval_need_not_hold_its_value():
    series = [Series("s", X, [5.0, 5.0, 5.0], [6.0] * 3, [7.0] * 3, "bars")]
    assert to_svg(Chart("c", "", "x", "y", series))


def test_a_log_axis_says_what_it_cannot_show():
    series = [Series("s", [1.0, 2.0, 4.0], [0.0, 10.0, 100.0])]
    assert "1 not above 0: not shown" in texts(
        to_svg(Chart("c", "", "x", "y", series, y_scale="log10"))
    )


def test_log2_ticks_are_powers_of_two(chart):
    assert {"8", "16", "32", "64", "128", "256", "512"} <= set(texts(to_svg(chart)))


def test_dollars_and_underscores_are_text(chart):
    assert "energy (J) $ per _token" in texts(to_svg(chart))


def test_the_map_names_regions_and_what_is_nowhere(regions):
    assert {"m1-pro", "a100", "v100 (nowhere)"} <= set(texts(to_svg(regions)))
    assert to_png(regions)


@pytest.mark.parametrize("scale", ["linear", "log10"])
def test_a_map_of_one_cell_draws(scale):
    grid = Map("m", "", "x", "y", [8.0], [8.0], [[0]], ["a"], x_scale=scale, y_scale=scale)
    assert to_svg(grid)


def test_cuts_are_named_and_do_not_widen_the_map(regions):
    cuts = [
        Cut("best T_in 12: +2.8 %", [12.0, 12.0], [1.0, 64.0]),
        Cut("best box 12, 10: +0.1 %", [1.0, 12.0, 12.0], [10.0, 10.0, 1.0]),
    ]
    plain, cut = draw(regions).axes[0], draw(structs.replace(regions, cuts=cuts)).axes[0]
    assert {c.name for c in cuts} <= set(texts(to_svg(structs.replace(regions, cuts=cuts))))
    assert (cut.get_xlim(), cut.get_ylim()) == (plain.get_xlim(), plain.get_ylim())


def test_a_crowded_workload_stays_a_small_file(regions):
    density = [(1.0 + k % 331, 1.0 + k % 211, 1.0 + k % 7) for k in range(20_000)]
    assert len(to_svg(structs.replace(regions, density=density))) < 300_000


def test_the_same_chart_gives_the_same_bytes(chart, regions):
    for item in (chart, regions):
        assert to_svg(item) == to_svg(item)
        assert to_png(item) == to_png(item)


def test_svg_has_no_date_no_outside_reference_and_ids_of_its_own(chart):
    svg = to_svg(chart)
    ids = [e.get("id") for e in ET.fromstring(svg).iter() if e.get("id")]
    assert "metadata" not in svg
    assert "<!DOCTYPE" not in svg
    assert all(i.startswith("curve-") for i in ids)
    assert len(ids) == len(set(ids))
    for used in svg.split("url(#")[1:]:
        assert used.split(")")[0] in ids


def test_labels_lie_inside_the_picture():
    labels = [f"a rather long name, number {k}" for k in range(6)]
    series = [
        Series("s", [1.0 + 0.01 * k for k in range(6)], [1.0] * 6, style="markers", labels=labels)
    ]
    figure = draw(Chart("c", "", "x", "y", series))
    width, height = figure.bbox.size
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height


def test_drawing_leaves_matplotlib_as_it_was(chart):
    import matplotlib as mpl

    before = dict(mpl.rcParams)
    to_svg(chart)
    assert dict(mpl.rcParams) == before


def test_matplotlib_is_imported_only_when_drawing():
    code = "import sys, wattshed.report.folder; assert 'matplotlib' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("drawn", "shared"),
    [
        ([("M1, model", "line"), ("M1, measured", "markers")], True),
        ([("ours, a", "line"), ("ours, b", "line")], False),
        ([("ours, a", "line"), ("published", "markers")], False),
    ],
)
def test_a_model_and_its_measurements_share_a_colour(drawn, shared):
    series = [Series(name, X, X, style=style) for name, style in drawn]
    found = colours(Chart("c", "", "x", "y", series))
    assert (len(set(found)) == 1) == shared
