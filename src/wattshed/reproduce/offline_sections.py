"""Sections of the offline-routing report: variance, and models that predict."""

from __future__ import annotations

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.offline_tables import QUANTITIES
from wattshed.reproduce.offline_verdicts import least_printed_r2
from wattshed.reproduce.study import Result, cell

FORMS_SHOWN = ("bilinear", "phase", "roofline", "kv-phase")


def anova_section(anova: Result) -> Section:
    """Analysis of variance."""
    interaction = anova["all_models"]["energy"]["mn"]
    rows: list[list[Cell]] = [
        [
            models,
            quantity,
            term,
            row["published_f"],
            cell(row["f"], 5),
            cell(row["deviation_pct"], 2),
            cell(row["p"], 3),
        ]
        for models, tables in (("three 7B", anova), ("all seven", anova["all_models"]))
        for quantity in QUANTITIES
        for term, row in tables[quantity].items()
    ]
    columns = ["models", "quantity", "term", "F published", "F ours", "deviation (%)", "p"]
    return Section(
        "Analysis of variance",
        [
            "Type II, m and n as categories. The printed table speaks of all models; its values are"
            " those of the three 7B models. Over all seven the interaction of m and n in energy has"
            f" F {interaction['f']:.2f} and p {interaction['p']:.2f}: differences between models"
            " cover it.",
        ],
        [Table("anova", "Analysis of variance", columns, rows)],
    )


def models_section(results: Result) -> Section:
    """Leave-one-out errors, and sweeps to grid."""
    axis = results["axis_to_grid"]
    inside = axis["sweeps_within_grid"]
    energy, runtime = axis["energy"], axis["runtime"]
    return Section(
        "Models that predict",
        [
            f"An R2 of at least {least_printed_r2(results):.2f} says little where energies span"
            f" {results['energy_decades']:.1f} decades. The mean relative error of"
            " predicting each cell from all others is what a router or a planner meets. Of the"
            " forms here, phase and roofline sum the cost of a pass over the growing context, which"
            " is what an engine without a KV cache does; kv-phase describes engines with one and is"
            " shown for comparison.",
            f"Fitted to the two sweeps of {axis['model']} only, the selected form predicts the"
            f" {axis['predicted_cells']} grid cells with a mean relative error of"
            f" {energy['mape_pct']:.1f} % in energy (total {energy['bias_pct']:+.1f} %) and"
            f" {runtime['mape_pct']:.1f} % in runtime (total {runtime['bias_pct']:+.1f} %); the"
            f" study's form errs by {axis['forms']['bilinear']['energy']['mape_pct']:,.0f} % in"
            " energy. Without the longest outputs, which lie outside the grid, the selected form"
            f" comes to {inside['energy']['mape_pct']:.1f} % and"
            f" {inside['runtime']['mape_pct']:.1f} %.",
        ],
        [_leave_one_out_table(results), _axis_table(axis)],
        [_short_output_chart(results["short_outputs"])],
    )


def _leave_one_out_table(results: Result) -> Table:
    systems = (("A100", "leave_one_out"), ("M1 Pro", "leave_one_out_m1_pro"))
    rows: list[list[Cell]] = [
        [
            system,
            model,
            quantity,
            row["cells"],
            *(cell(row[quantity]["forms"][form]["mape_pct"], 3) for form in FORMS_SHOWN),
            row[quantity]["selected"],
        ]
        for system, key in systems
        for model, row in results[key].items()
        for quantity in QUANTITIES
    ]
    columns = [
        "system",
        "model",
        "quantity",
        "cells",
        *(f"{form} (%)" for form in FORMS_SHOWN),
        "selected",
    ]
    return Table("leave-one-out", "Leave-one-cell-out mean relative error", columns, rows)


def _axis_table(axis: Result) -> Table:
    rows: list[list[Cell]] = [
        [
            form,
            *(
                cell(errors[quantity][key], 3)
                for quantity in QUANTITIES
                for key in ("mape_pct", "bias_pct")
            ),
            errors["energy"]["negative_predictions"],
        ]
        for form, errors in axis["forms"].items()
    ]
    columns = [
        "form",
        "energy error (%)",
        "energy bias (%)",
        "runtime error (%)",
        "runtime bias (%)",
        "negative energies",
    ]
    return Table(
        slug="axis-to-grid",
        title=f"From {axis['fitted_cells']} sweep cells to {axis['predicted_cells']} grid cells",
        columns=columns,
        rows=rows,
        note=f"A100, {axis['model']}; bias is the error of the total.",
    )


def _short_output_chart(points: Result) -> Chart:
    x = [float(m) for m in points["input_tokens"]]
    series = [Series("measured", x, points["measured_j"], style="markers")]
    for form, label in (("bilinear", "printed model"), ("selected", "selected form")):
        series.append(Series(label, x, points[f"{form}_j"], style="line"))
    return Chart(
        slug="short-outputs",
        title=f"Energy of {points['model']} with {points['output_tokens']} output tokens",
        x_label="input tokens",
        y_label="energy of a query (J)",
        series=series,
        x_scale="log2",
    )
