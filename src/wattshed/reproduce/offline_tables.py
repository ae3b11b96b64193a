"""Regressions and analysis of variance of the offline-routing study (HotCarbon 2024).

Seven models on A100s, accelerator energy and runtime of 81 cells of input size m and
output limit n (80 for Llama-2-70B), both as asked for. The printed coefficients are of
fits without a constant; the R2, F and p printed beside them are, for three models, of
fits with one.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from wattshed.data.catalog import read_table
from wattshed.fit.forms import BILINEAR_INTERCEPT, FORMS, Array
from wattshed.fit.ols import OLSFit, anova_two_way, ols
from wattshed.fit.rules import GRID, drop_flagged
from wattshed.reproduce.study import MODELS, RUNS, Result, compare, published_value
from wattshed.runs import read_runs

SYSTEM = "swing-a100"
QUANTITIES = {"energy": ("accelerator_energy_j", "j"), "runtime": ("runtime_s", "s")}
TERMS = ("m", "n", "mn")
CONSTANT = "constant"
LEVEL = 0.95
"""Of the coefficient intervals."""
WITHOUT_RAW_ROW = ("imputed", "no_raw_row")
ROUNDING_PCT = 1.0
"""Printed coefficients have three digits; one that is further off is a misprint."""


def grid_rows() -> pl.DataFrame:
    """Every cell of the A100 grids, imputed and hand-edited ones included."""
    return read_runs(RUNS).table.filter(pl.col("system") == SYSTEM, pl.col("experiment") == GRID)


def axes(rows: pl.DataFrame) -> tuple[Array, Array]:
    """Input size m and output limit n as asked for, arrays (N,)."""
    return (
        rows["input_tokens_nominal"].cast(pl.Float64).to_numpy(),
        rows["output_token_limit"].cast(pl.Float64).to_numpy(),
    )


def fit_rows(rows: pl.DataFrame, quantity: str, *, intercept: bool) -> OLSFit:
    """Least squares of energy (J) or runtime (s) on m, n and mn.

    Parameters
    ----------
    rows : polars.DataFrame
        From `grid_rows`, one model.
    quantity : {"energy", "runtime"}
    intercept : bool
        Whether there is a constant, as the first coefficient.
    """
    form = BILINEAR_INTERCEPT if intercept else FORMS["bilinear"]
    assert form.design is not None
    y = rows[QUANTITIES[quantity][0]].to_numpy()
    return ols(form.design(*axes(rows)), y, intercept=intercept, level=LEVEL)


def _describe(fit: OLSFit) -> Result:
    """Statistics and coefficients by term, with their intervals."""
    names = (CONSTANT, *TERMS) if fit.intercept else TERMS
    bounds = zip(fit.low.tolist(), fit.high.tolist(), strict=True)
    return {
        "r2_centred": fit.r2_centred,
        "r2_uncentred": fit.r2_uncentred,
        "f": fit.f,
        "p": fit.p,
        "coefficients": dict(zip(names, fit.coefficients.tolist(), strict=True)),
        "coefficient_intervals": {n: list(b) for n, b in zip(names, bounds, strict=True)},
    }


def regressions(quantity: str) -> dict[str, Result]:
    """The study's regression of one quantity for each model, published beside ours."""
    grids = {str(name): rows for (name,), rows in grid_rows().group_by("model")}
    return {
        row["model"]: _regression(row, grids[row["model"]], quantity)
        for row in read_table(MODELS).sort("model").iter_rows(named=True)
    }


def _regression(printed: Result, rows: pl.DataFrame, quantity: str) -> Result:
    with_constant: bool = printed["statistics_with_intercept"]
    plain, constant = (fit_rows(rows, quantity, intercept=i) for i in (False, True))
    shown = constant if with_constant else plain
    described = _describe(plain)
    coefficients = described["coefficients"]
    published = _published(printed, quantity)
    return {
        **described,
        "r2": shown.r2,
        "f": shown.f,
        "p": shown.p,
        "intercept_used_for_statistics": with_constant,
        "published": published,
        "deviation_pct": compare(published["f"], shown.f)["deviation_pct"],
        "coefficient_deviation_pct": {
            term: compare(published["coefficients"][term], coefficients[term])["deviation_pct"]
            for term in TERMS
        },
        "cells": rows.height,
        **_negative_predictions(rows, plain),
        "misprint": _misprint(published, shown.r2, coefficients),
    }


def _published(printed: Result, quantity: str) -> Result:
    """What the study printed; where our table corrects a misprint, the misprint."""
    unit = QUANTITIES[quantity][1]
    names = {term: f"{quantity}_{term}_{unit}" for term in TERMS}
    if quantity == "runtime":
        names["mn"] = "runtime_mn_printed_s"
    return {
        **{name: printed[f"{quantity}_{name}"] for name in ("r2", "f", "p")},
        "coefficients": {term: printed[name] for term, name in names.items()},
    }


def _negative_predictions(rows: pl.DataFrame, fit: OLSFit) -> dict[str, int]:
    """Cells of the full grid, measured or not, and those with a negative prediction."""
    m, n = np.meshgrid(*(np.unique(axis) for axis in axes(rows)))
    negative = FORMS["bilinear"].predict(fit.coefficients, m.ravel(), n.ravel()) < 0
    return {"grid_cells": m.size, "negative_predictions_on_grid": int(negative.sum())}


def _misprint(published: Result, r2: float, coefficients: dict[str, float]) -> str | None:
    """Say which printed figure differs from ours by more than its digits allow."""
    found = [
        f"coefficient of {term} printed as {printed:g}, the fit gives {coefficients[term]:.3g}"
        for term, printed in published["coefficients"].items()
        if abs(100 * (coefficients[term] / printed - 1)) > ROUNDING_PCT
    ]
    if f"{r2:.3f}" != f"{published['r2']:.3f}":
        found.append(f"R2 printed as {published['r2']:.3f}, the fit gives {r2:.3f}")
    return "; ".join(found) or None


def misprints(results: Result) -> list[Result]:
    """Every misprint of the regression tables."""
    return [
        {"model": model, "quantity": quantity, "text": row["misprint"]}
        for quantity in QUANTITIES
        for model, row in results[quantity].items()
        if row["misprint"]
    ]


def intercept_trap(quantity: str = "energy") -> dict[str, Result]:
    """R2, F, p and coefficients of each model with and without a constant.

    R2 is about the mean with a constant and about zero without, so the two columns of
    the printed table cannot be compared with each other.
    """
    cases = {"with_intercept": True, "without_intercept": False}
    return {
        str(model): {
            name: _describe(fit_rows(rows, quantity, intercept=i)) for name, i in cases.items()
        }
        for (model,), rows in grid_rows().sort("model").group_by("model", maintain_order=True)
    }


def energy_decades() -> float:
    """Powers of ten between the least and the largest energy of a measured cell."""
    energy = grid_rows()[QUANTITIES["energy"][0]].to_numpy()
    return float(np.log10(energy.max() / energy.min()))


def measured_cells_only() -> Result:
    """Llama-2-70B without the five cells that have no raw row."""
    kept, _ = drop_flagged(grid_rows().filter(pl.col("model") == "llama-2-70b"), WITHOUT_RAW_ROW)
    fit = fit_rows(kept, "energy", intercept=False)
    return {
        "model": "llama-2-70b",
        "cells": kept.height,
        **_describe(fit),
        "r2": fit.r2,
    }


def anova(models: tuple[str, ...] | None, quantity: str) -> Result:
    """Type II analysis of variance over m and n as categories.

    Parameters
    ----------
    models : tuple of str, or None
        None for all seven; published values are set beside those of the three 7B models.
    quantity : {"energy", "runtime"}
    """
    rows = grid_rows()
    if models is not None:
        rows = rows.filter(pl.col("model").is_in(models))
    m, n = (axis.astype(np.int64) for axis in axes(rows))
    terms = anova_two_way(m, n, rows[QUANTITIES[quantity][0]].to_numpy())
    named = dict(zip(TERMS, (terms["first"], terms["second"], terms["interaction"]), strict=True))
    found: Result = {}
    for name, term in named.items():
        published = published_value("anova", f"{quantity}_{name}_f") if models else None
        compared = compare(published, term.f)
        found[name] = {
            "f": term.f,
            "p": term.p,
            "published_f": published,
            "deviation_pct": compared["deviation_pct"],
        }
    return found
