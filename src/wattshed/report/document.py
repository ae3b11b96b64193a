"""What a report consists of, as plain values; rendering is elsewhere, computing too."""

from __future__ import annotations

from typing import Literal

import msgspec

from wattshed.records import Provenance

Cell = str | int | float | None
Scale = Literal["linear", "log2", "log10"]


class Table(msgspec.Struct, frozen=True):
    """A titled table; written as CSV under its slug.

    Attributes
    ----------
    slug : str
        File name without suffix, unique among the tables of a document; the chart of the
        same figures may share it.
    columns : list of str
        Headings with units, e.g. ``energy (kWh)``.
    rows : list of list
        One value for each column; None is shown as a dash and written as nothing.
    highlight : list of int
        Rows to set in bold.
    note : str
        Set below the table.
    """

    slug: str
    title: str
    columns: list[str]
    rows: list[list[Cell]]
    highlight: list[int] = []
    note: str = ""


Style = Literal[
    "line", "markers", "line+markers", "dashed", "bars", "stacked bars", "stacked areas", "limits"
]


class Series(msgspec.Struct, frozen=True):
    """One curve, set of markers or set of bars, with an optional interval.

    Stacked series stand on those of the same style before them, point by point. Limits are short
    lines across bars, at their value. What is muted is drawn in grey.
    """

    name: str
    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None
    style: Style = "line+markers"
    labels: list[str] | None = None
    muted: bool = False


class Chart(msgspec.Struct, frozen=True, tag=True):
    """Curves over one pair of axes; written as PNG and SVG under its slug.

    `x_ticks` names the positions of a categorical axis (0, 1, 2, ...). `horizontal` lays
    the picture on its side: x runs down, y to the right, and labels and scales go along.
    `y_end` lets the y axis end there, so that pictures beside each other can be compared.
    """

    slug: str
    title: str
    x_label: str
    y_label: str
    series: list[Series]
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    x_ticks: list[str] | None = None
    horizontal: bool = False
    y_end: float | None = None
    note: str = ""


class Cut(msgspec.Struct, frozen=True):
    """A line over a map, e.g. where a simpler rule would divide it; may leave the picture."""

    name: str
    x: list[float]
    y: list[float]


class Map(msgspec.Struct, frozen=True, tag=True):
    """Which of several names holds at each point of a grid, e.g. the cheapest machine.

    Attributes
    ----------
    x, y : list of float
        Grid coordinates, increasing.
    values : list of list of int
        Index into `names`, one row for each y.
    density : list of (x, y, weight)
        Points drawn over the regions, e.g. the queries of a workload.
    cuts : list of Cut
        Lines drawn over both.
    """

    slug: str
    title: str
    x_label: str
    y_label: str
    x: list[float]
    y: list[float]
    values: list[list[int]]
    names: list[str]
    density: list[tuple[float, float, float]] = []
    cuts: list[Cut] = []
    x_scale: Scale = "log2"
    y_scale: Scale = "log2"
    note: str = ""


class Section(msgspec.Struct, frozen=True):
    """A heading, its text, and what it shows."""

    heading: str
    paragraphs: list[str] = []
    tables: list[Table] = []
    charts: list[Chart | Map] = []


class Document(msgspec.Struct, frozen=True):
    """A whole report."""

    title: str
    abstract: str
    sections: list[Section]
    sources: list[Provenance]
    created_by: str
    command: str
    seed: int | None = None
