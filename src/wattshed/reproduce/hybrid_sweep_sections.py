"""Sections of the hybrid-cluster report on what was measured: figures 1 to 3."""

from __future__ import annotations

from itertools import pairwise

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.hybrid_figures import CHECKSUMS, SYSTEMS
from wattshed.reproduce.study import Result, cell, compared_cells, largest_deviation_pct

SHOWN_MODEL = "llama-2-7b"
SHOWN_SIZES = (8, 32, 128, 512)


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
            " as a number.",
        ],
        [_sweep_table(figure, results[figure]) for figure in ("figure1", "figure2")],
        [_sweep_chart(figure, results[figure]) for figure in ("figure1", "figure2")],
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


def _sweep_chart(figure: str, result: Result) -> Chart:
    axis = "input size" if figure == "figure1" else "output limit"
    series = []
    for system, label in SYSTEMS.items():
        mine = [p for p in result["points"] if (p["system"], p["model"]) == (system, SHOWN_MODEL)]
        x = [float(p["size_tokens"]) for p in mine]
        values = [p["energy_per_token_j"] for p in mine]
        series.append(Series(f"{label}, ours", x, [v["ours"] for v in values], style="line"))
        series.append(
            Series(f"{label}, published", x, [v["published"] for v in values], style="markers")
        )
    return Chart(
        slug=f"{figure}-energy-per-token",
        title=f"Figure {figure[-1]}: energy per token of Llama-2-7B",
        x_label=f"{axis} (tokens)",
        y_label="energy per total token (J/token)",
        series=series,
        x_scale="log2",
        y_scale="log10",
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
