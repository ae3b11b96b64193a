"""Sections of the hybrid-cluster report on what was measured: figures 1 to 3."""

from __future__ import annotations

from itertools import pairwise
from typing import Final, Literal

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.hybrid_figures import CHECKSUMS, SYSTEMS
from wattshed.reproduce.study import Result, cell, compared_cells, largest_deviation_pct

SHOWN_SIZES = (8, 32, 128, 512)
CHART_ORDER = ("swing-a100", "palmetto-v100", "m1-pro")
"""That of the study's panels; each system fills a column of the legend."""
MODEL_NAMES = {"llama-2-7b": "Llama-2-7B", "mistral-7b": "Mistral-7B", "falcon-7b": "Falcon-7B"}
STYLES: Final[dict[str, Literal["line", "dashed", "line+markers"]]] = {
    "llama-2-7b": "line",
    "mistral-7b": "dashed",
    "falcon-7b": "line+markers",
}
PANELS = {
    "runtime": ("mean_runtime_s", "mean runtime of a query (s)"),
    "throughput": ("throughput_tokens_per_s", "throughput (tokens/s)"),
    "energy-per-token": ("energy_per_token_j", "energy per total token (J/token)"),
}
"""Panels (a), (b) and (c) of figures 1 and 2: name to quantity of a point and label."""


def sweep_section(results: Result) -> Section:
    """Figures 1 and 2."""
    return Section(
        "Figures 1 and 2: one axis at a time",
        [
            "Mean runtime and energy of a query on each system, over input sizes with at most 32"
            " output tokens (figure 1) and over output limits with about 32 input tokens (figure"
            " 2). The first trial of each process is left out; energy covers accelerator and host;"
            " J/token is the mean over trials of energy per recorded total token. In the input"
            " sweep on the M1 Pro that total counts the tokens asked for, elsewhere those sent.",
            "The published values are means over the study's trials, ours come from means per cell"
            " weighted by their trials, so any deviation is rounding. No throughput was published"
            " as a number; ours is recorded total tokens over runtime.",
        ],
        [_sweep_table(figure, results[figure]) for figure in ("figure1", "figure2")],
        [
            sweep_chart(figure, results[figure], panel)
            for figure in ("figure1", "figure2")
            for panel in PANELS
        ],
    )


def _sweep_table(figure: str, result: Result) -> Table:
    keys = list(dict.fromkeys((p["system"], p["model"]) for p in result["points"]))
    return Table(
        slug=f"{figure}-deviations",
        title=f"Figure {figure[-1]}: energy per token and largest deviations",
        columns=[
            "system",
            "model",
            "sizes",
            *(f"at {size} tokens (J/token)" for size in SHOWN_SIZES),
            "throughput at 32 (tokens/s)",
            "J/token off (%)",
            "runtime off (%)",
        ],
        rows=[_sweep_row(result["points"], *key) for key in keys],
        note="Energies and throughputs are ours; deviations are the largest over all sizes.",
    )


def _sweep_row(points: list[Result], system: str, model: str) -> list[Cell]:
    mine = {p["size_tokens"]: p for p in points if (p["system"], p["model"]) == (system, model)}

    def worst(quantity: str) -> Cell:
        return cell(max(abs(p[quantity]["deviation_pct"]) for p in mine.values()), 2)

    return [
        SYSTEMS[system],
        model,
        len(mine),
        *(cell(mine[size]["energy_per_token_j"]["ours"], 3) for size in SHOWN_SIZES),
        cell(mine[32]["throughput_tokens_per_s"]["ours"], 3),
        worst("energy_per_token_j"),
        worst("mean_runtime_s"),
    ]


def sweep_chart(figure: str, result: Result, panel: str) -> Chart:
    """One panel: ours as a line for each system and model, published points as markers.

    Parameters
    ----------
    figure : {"figure1", "figure2"}
    result : dict
        From `sweep_figure`.
    panel : str
        Name in `PANELS`.
    """
    quantity, y_label = PANELS[panel]
    points = result["points"]
    axis = "input size" if figure == "figure1" else "output limit"
    printed = any(p[quantity]["published"] is not None for p in points)
    return Chart(
        slug=f"{figure}-{panel}",
        title=f"Figure {figure[-1]}{'abc'[list(PANELS).index(panel)]}: {panel.replace('-', ' ')}",
        x_label=f"{axis} (tokens)",
        y_label=y_label,
        series=[s for system in CHART_ORDER for s in _curves(points, system, quantity)],
        x_scale="log2",
        y_scale="log10",
        note="Lines: ours. Markers of their own: published, all models of a system."
        if printed
        else "Ours only: it follows from tokens and runtime; no number was published.",
    )


def _curves(points: list[Result], system: str, quantity: str) -> list[Series]:
    """A line for each model, then the published points of all of them."""
    mine = [p for p in points if p["system"] == system]
    models = {p["model"] for p in mine}
    series = [
        _curve([p for p in mine if p["model"] == model], quantity)
        for model in STYLES
        if model in models
    ]
    printed = [p for p in mine if p[quantity]["published"] is not None]
    if printed:
        x = [float(p["size_tokens"]) for p in printed]
        y = [p[quantity]["published"] for p in printed]
        series.append(Series(f"{SYSTEMS[system]}, published", x, y, style="markers"))
    return series


def _curve(points: list[Result], quantity: str) -> Series:
    """One model on one system; a curve with markers gets its name at its end.

    The published markers lie on its own, so these alone would not tell it from the others.
    """
    system, model = SYSTEMS[points[0]["system"]], points[0]["model"]
    name, style = MODEL_NAMES[model], STYLES[model]
    return Series(
        f"{system}, {name}",
        [float(p["size_tokens"]) for p in points],
        [p[quantity]["ours"] for p in points],
        style=style,
        labels=[*[""] * (len(points) - 1), name] if style == "line+markers" else None,
    )


def histogram_section(result: Result) -> Section:
    """Figure 3."""
    rows: list[list[Cell]] = [
        [name, key.replace("_", " "), *compared_cells(sums[key], 9)]
        for name, sums in result["checksums"].items()
        for key in CHECKSUMS
    ]
    table = Table(
        slug="figure3-checksums",
        title="Sums that identify the workload",
        columns=["workload", "sum", "published", "ours", "deviation (%)"],
        rows=rows,
        note="Tokens, and tokens squared for input x output.",
    )
    agreement = largest_deviation_pct(
        list(result["checksums"]["alpaca-gpt4-reconstructed"].values())
    )
    return Section(
        "Figure 3: the workload",
        [
            "The study cites the Alpaca data; its code loads alpaca-gpt4, in which the same"
            " instructions are answered at greater length. Four sums follow exactly from its"
            " published single-model totals and identify what was run. The cleaned Alpaca is near"
            " them in queries and input tokens and far off in output tokens; the reconstruction"
            f" of alpaca-gpt4 agrees in all four within {agreement:.2f} %.",
        ],
        [table],
        [_histogram_chart(result, axis) for axis in ("input", "output")],
    )


def _histogram_chart(result: Result, axis: str) -> Chart:
    edges = max((h["edges_tokens"] for h in result["histograms"].values()), key=len)
    ticks = [f"{low}-{high - 1}" for low, high in pairwise(edges)]
    return Chart(
        slug=f"figure3-{axis}",
        title=f"Figure 3: {axis} lengths",
        x_label=f"{axis} tokens",
        y_label="queries",
        series=[
            Series(
                name,
                [float(i) for i in range(len(histogram[axis]))],
                [float(count) for count in histogram[axis]],
                style="bars",
            )
            for name, histogram in result["histograms"].items()
        ],
        x_ticks=ticks,
    )
