"""Sections of the offline-routing report: regressions, variance, models that work."""

from __future__ import annotations

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.offline_tables import TERMS
from wattshed.reproduce.study import Result, cell

UNITS = {"energy": "J", "runtime": "s"}
FORMS_SHOWN = ("bilinear", "phase", "roofline", "kv-phase")


def regression_section(results: Result) -> Section:
    """The regression tables, and what they hide."""
    negative = [row["negative_predictions_on_grid"] for row in results["energy"].values()]
    found = "; ".join(f"{m['model']}, {m['quantity']}: {m['text']}" for m in results["misprints"])
    measured = results["llama_2_70b_measured_cells"]
    terms = measured["coefficients"]
    cells = results["energy"]["llama-2-70b"]["cells"]
    return Section(
        "Regressions of energy and runtime",
        [
            "Ordinary least squares of accelerator energy and of runtime on m, n and mn, over the"
            " A100 grid of each model, input size and output limit as asked for, imputed and"
            " hand-edited cells included. Coefficients are per input token, per output token and"
            " per product of both. They are of fits without a constant. The R2, F and p beside"
            " them are, for the models marked so, of fits with one.",
            f"Misprints: {found}.",
            "The coefficient of m is negative, so short outputs to long inputs get a negative"
            f" energy: {min(negative)} to {max(negative)} of the 81 grid cells. For Llama-2-70B,"
            f" {cells - measured['cells']} of {cells} cells have no raw measurement; on the other"
            f" {measured['cells']} the coefficients are {terms['m']:.3g} J, {terms['n']:.4g} J and"
            f" {terms['mn']:.3g} J, with R2 {measured['r2']:.3f}.",
        ],
        [_regression_table(results[quantity], quantity) for quantity in UNITS],
    )


def _regression_table(rows: dict[str, Result], quantity: str) -> Table:
    unit = UNITS[quantity]
    return Table(
        slug=f"regression-{quantity}",
        title=f"Regression of {quantity}",
        columns=[
            "model",
            "constant in R2, F",
            "R2 published",
            "R2 ours",
            "F published",
            "F ours",
            "F deviation (%)",
            "p published",
            "p ours",
            *(f"{term} ({unit})" for term in TERMS),
            "negative cells",
            "misprint",
        ],
        rows=[_regression_row(model, row) for model, row in rows.items()],
    )


def _regression_row(model: str, row: Result) -> list[Cell]:
    published = row["published"]
    return [
        model,
        "yes" if row["intercept_used_for_statistics"] else "no",
        published["r2"],
        cell(row["r2"], 3),
        published["f"],
        cell(row["f"], 4),
        cell(row["deviation_pct"], 2),
        published["p"],
        cell(row["p"], 3),
        *(cell(row["coefficients"][term], 4) for term in TERMS),
        row["negative_predictions_on_grid"],
        row["misprint"],
    ]


def trap_section(results: Result) -> Section:
    """R2 with and without a constant."""
    rows: list[list[Cell]] = [
        [
            model,
            cell(row["with_intercept"]["r2_centred"], 4),
            cell(row["without_intercept"]["r2_uncentred"], 4),
            cell(row["without_intercept"]["r2_centred"], 4),
            cell(row["with_intercept"]["f"], 4),
            cell(row["without_intercept"]["f"], 4),
        ]
        for model, row in results["intercept_trap"].items()
    ]
    columns = [
        "model",
        "R2 with constant, about the mean",
        "R2 without, about zero",
        "R2 without, about the mean",
        "F with",
        "F without",
    ]
    return Section(
        "With or without a constant",
        [
            "Without a constant R2 is usually taken about zero, with one about the mean; the first"
            " is larger for the same residuals. The printed table holds both kinds in one column,"
            " so its rows cannot be compared with each other.",
        ],
        [Table("intercept-trap", "R2 and F of the energy regressions", columns, rows)],
    )


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
        for quantity in UNITS
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
            "R2 above 0.96 says little where energies span four decades. The mean relative error of"
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
        for quantity in UNITS
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
                for quantity in UNITS
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
