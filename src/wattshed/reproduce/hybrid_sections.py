"""Sections of the hybrid-cluster report on what the study computed: figures 4 and 5."""

from __future__ import annotations

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.hybrid_totals import (
    LARGE_ONLY,
    MILLION,
    SMALL_ONLY,
    STUDY_THRESHOLD,
)
from wattshed.reproduce.study import Result, compared_cells

COMPARED = ["published", "ours", "deviation (%)"]


def figure_4_section(results: Result) -> Section:
    """Figure 4a and its version on consistent totals."""
    published, consistent = results["figure4a"], results["figure4a_consistent_totals"]
    saving = {
        name: f"{results[f'figure4a{name}']['saving_at_32_vs_a100_only_pct']:.2f} %"
        for name in ("", "_consistent_totals", "_matched_models", "_llama_only")
    }
    return Section(
        "Figure 4a: energy over the input threshold",
        [
            "Queries of at most T_in input tokens go to the M1 Pro, the others to the A100. The"
            " study charges each length l with l times the mean J/token of the nearest tabulated"
            " power of two, pooled over the 7B models; the output is frozen at 32 tokens."
            f" Repeated on the cleaned Alpaca, every total lies within"
            f" {published['largest_deviation_pct']:.2f} % of the published one.",
            "On the M1 Pro J/token was taken on the input tokens asked for, on the A100 on those"
            " sent. With those sent on both, the saving at"
            f" {STUDY_THRESHOLD} against the A100 alone becomes"
            f" {saving['_consistent_totals']} instead of {saving['']}. The M1 Pro ran no Falcon:"
            f" with the same two models in both pools the saving is {saving['_matched_models']},"
            f" with Llama-2-7B alone {saving['_llama_only']}.",
        ],
        [
            totals_table("figure4a", "Figure 4a", published, "T_in (tokens)"),
            totals_table(
                "figure4a-consistent", "Figure 4a on actual tokens", consistent, "T_in (tokens)"
            ),
        ],
        [
            totals_chart(
                "figure4a",
                "Figure 4a: total energy",
                "T_in (tokens)",
                {"as the study computed it": published, "on actual tokens": consistent},
            )
        ],
    )


def figure_5_section(results: Result) -> Section:
    """Figure 5a as drawn and on output lengths."""
    published, corrected = results["figure5a_as_published"], results["figure5a_corrected"]
    longer = results["figure5a_corrected_gpt4_outputs"]
    longest = max(int(key) for key in _totals(published) if key.isdecimal())
    return Section(
        "Figure 5a: energy over the output threshold",
        [
            "The same procedure on the output sweep. A filter that is meant to drop the first trial"
            " drops every output limit with a 0 in it, so longer outputs take the J/token at the"
            f" longest limit left, {longest} tokens. The study's script weights these energies"
            " with the histogram of input lengths; so repeated, the totals lie within"
            f" {published['largest_deviation_pct']:.1f} % of the published ones, and the saving at"
            f" {STUDY_THRESHOLD} against the A100 alone is"
            f" {published['saving_at_32_vs_a100_only_pct']:.2f} %.",
            "On the histogram of output lengths, which figure 5 is about, the best threshold saves"
            f" {corrected['best_saving_pct']:.2f} % against the A100 alone; with the longer answers"
            f" of alpaca-gpt4, {longer['best_saving_pct']:.2f} %. These totals were never"
            " published.",
        ],
        [
            totals_table("figure5a", "Figure 5a as published", published, "T_out (tokens)"),
            totals_table(
                "figure5a-corrected", "Figure 5a on output lengths", corrected, "T_out (tokens)"
            ),
        ],
        [
            totals_chart(
                "figure5a",
                "Figure 5a as published: total energy on input lengths",
                "T_out (tokens)",
                {"as the study computed it": published},
            ),
            totals_chart(
                "figure5a-corrected",
                "Figure 5a corrected: total energy on output lengths",
                "T_out (tokens)",
                {"on output lengths": corrected},
            ),
        ],
    )


def totals_table(slug: str, title: str, result: Result, first: str, unit: str = "kWh") -> Table:
    """One row for each threshold and single system, published beside ours."""
    totals = _totals(result)
    rows: list[list[Cell]] = [[key, *compared_cells(totals[key])] for key in totals]
    columns = [first, *(f"{name} ({unit})" for name in COMPARED[:2]), COMPARED[2]]
    return Table(slug=f"{slug}-totals", title=title, columns=columns, rows=rows)


def _totals(result: Result) -> dict[str, Result]:
    """Totals by threshold and single system, whichever their quantity."""
    found: dict[str, Result] = next(v for key, v in result.items() if key.startswith("total_"))
    return found


def totals_chart(
    slug: str,
    title: str,
    x_label: str,
    results: dict[str, Result],
    *,
    y_label: str = "total energy (kWh)",
    per_unit: float = 1.0,
) -> Chart:
    """Ours as lines, published totals as markers, single systems as level dashed lines.

    Levels are the published ones where there are any.

    Parameters
    ----------
    slug, title, x_label, y_label : str
    results : dict
        Name of a version to its result from `energy_figure` or `runtime_figure`.
    per_unit : float
        What of the totals makes one of the unit of `y_label`.
    """
    series: list[Series] = []
    for name, result in results.items():
        totals = _totals(result)
        keys = [key for key in totals if key not in (SMALL_ONLY, LARGE_ONLY)]
        x = [float(key) for key in keys]
        ours = [totals[key]["ours"] / per_unit for key in keys]
        series.append(Series(f"ours, {name}", x, ours, style="line"))
        if totals[keys[0]]["published"] is not None:
            published = [totals[key]["published"] / per_unit for key in keys]
            series.append(Series("published", x, published, style="markers"))
    first = _totals(next(iter(results.values())))
    whose = "ours" if first[SMALL_ONLY]["published"] is None else "published"
    for key in (SMALL_ONLY, LARGE_ONLY):
        level = [first[key][whose] / per_unit] * 2
        series.append(Series(f"{whose}, {key}", [x[0], x[-1]], level, style="dashed"))
    return Chart(slug, title, x_label, y_label, series, x_scale="log2")


def runtime_section(results: Result) -> Section:
    """Figures 4b and 5b."""
    panels = {"figure4b": "T_in (tokens)", "figure5b": "T_out (tokens)"}
    four = results["figure4b"]["largest_deviation_pct"]
    return Section(
        "Figures 4b and 5b: what the study calls runtime",
        [
            "The study's runtime is tokens times the mean runtime of a query of that size:"
            " token-seconds, of which no machine takes any. It is drawn as the study defines it."
            f" Figure 4b reproduces within {four:.1f} %. {results['figure5b']['remark']}",
        ],
        [
            totals_table(slug, f"Figure {slug[-2:]}", results[slug], x_label, "token s")
            for slug, x_label in panels.items()
        ],
        [
            totals_chart(
                slug,
                f'Figure {slug[-2:]}: "runtime", tokens times seconds as the study defines it',
                x_label,
                {"as the study computed it": results[slug]},
                y_label='"runtime" (million token s)',
                per_unit=MILLION,
            )
            for slug, x_label in panels.items()
        ],
    )
