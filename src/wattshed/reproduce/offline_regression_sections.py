"""Sections of the offline-routing report on its regressions, with and without a constant."""

from __future__ import annotations

from wattshed.report.document import Cell, Section, Table
from wattshed.reproduce.offline_tables import CONSTANT, LEVEL, QUANTITIES, TERMS
from wattshed.reproduce.study import Result, cell

TRAPS = {"energy": "intercept_trap", "runtime": "intercept_trap_runtime"}
FITS = {"with": "with_intercept", "without": "without_intercept"}


def regression_section(results: Result) -> Section:
    """The regression tables, and what they hide."""
    negative = [row["negative_predictions_on_grid"] for row in results["energy"].values()]
    found = "; ".join(f"{m['model']}, {m['quantity']}: {m['text']}" for m in results["misprints"])
    measured = results["llama_2_70b_measured_cells"]
    terms = measured["coefficients"]
    llama = results["energy"][measured["model"]]
    cells, grid = llama["cells"], llama["grid_cells"]
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
            f" energy: {min(negative)} to {max(negative)} of the {grid} grid cells. For"
            f" {measured['model']}, {cells - measured['cells']} of {cells} cells have no raw"
            " measurement; on the other"
            f" {measured['cells']} the coefficients are {terms['m']:.3g} J, {terms['n']:.4g} J and"
            f" {terms['mn']:.3g} J, with R2 {measured['r2']:.3f}.",
        ],
        [
            table
            for quantity in QUANTITIES
            for table in (
                _regression_table(results[quantity], quantity),
                _coefficient_table(results, quantity),
            )
        ],
    )


def _regression_table(rows: dict[str, Result], quantity: str) -> Table:
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
        row["negative_predictions_on_grid"],
        row["misprint"],
    ]


def _coefficient_table(results: Result, quantity: str) -> Table:
    unit = QUANTITIES[quantity][1].upper() if quantity == "energy" else QUANTITIES[quantity][1]
    return Table(
        slug=f"coefficients-{quantity}",
        title=f"Coefficients of {quantity} ({unit}), with {100 * LEVEL:.0f} % intervals",
        columns=[
            "model",
            "term",
            "published",
            "ours",
            "deviation (%)",
            "low",
            "high",
            "with a constant",
            "low with it",
            "high with it",
        ],
        rows=[
            _coefficient_row(results, quantity, model, term)
            for model in results[quantity]
            for term in (*TERMS, CONSTANT)
        ],
        note="Student's t; published and ours are of fits without a constant.",
    )


def _coefficient_row(results: Result, quantity: str, model: str, term: str) -> list[Cell]:
    row = results[quantity][model]
    constant = results[TRAPS[quantity]][model][FITS["with"]]
    low, high = row["coefficient_intervals"].get(term, (None, None))
    return [
        model,
        term,
        row["published"]["coefficients"].get(term),
        cell(row["coefficients"].get(term), 4),
        cell(row["coefficient_deviation_pct"].get(term), 2),
        cell(low, 4),
        cell(high, 4),
        cell(constant["coefficients"][term], 4),
        *(cell(bound, 4) for bound in constant["coefficient_intervals"][term]),
    ]


def trap_section(results: Result) -> Section:
    """R2, F and p with and without a constant."""
    return Section(
        "With or without a constant",
        [
            "Without a constant R2 is usually taken about zero, with one about the mean; the first"
            " is larger for the same residuals. The printed table holds both kinds in one column,"
            " so its rows cannot be compared with each other. Here each fit has both.",
        ],
        [_trap_table(results[key], quantity) for quantity, key in TRAPS.items()],
    )


def _trap_table(models: Result, quantity: str) -> Table:
    statistics = {
        "R2 about the mean": "r2_centred",
        "R2 about zero": "r2_uncentred",
        "F": "f",
        "p": "p",
    }
    return Table(
        slug=f"intercept-trap-{quantity}",
        title=f"Both R2, F and p of the {quantity} regressions",
        columns=["model", *(f"{name}, {fit}" for fit in FITS for name in statistics)],
        rows=[
            [
                model,
                *(cell(row[fit][key], 4) for fit in FITS.values() for key in statistics.values()),
            ]
            for model, row in models.items()
        ],
        note="With and without: a constant in the fit.",
    )
