"""Which models of a query predict, and what a whole workload costs by the study's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np
import polars as pl

from wattshed.data.catalog import read_table
from wattshed.fit.campaign import Options, fit_profiles
from wattshed.fit.cells import Cells, make_cells
from wattshed.fit.forms import FORMS, Array, Form
from wattshed.fit.rules import DROPPED, GRID, drop_flagged, pick_experiment
from wattshed.fit.score import relative_errors
from wattshed.fit.solvers import solve
from wattshed.profiles import energy_model, load_profile, load_profiles, predict
from wattshed.records import QueryModel
from wattshed.reproduce.hybrid_figures import CHECKSUMS
from wattshed.reproduce.offline_tables import SYSTEM, TERMS
from wattshed.reproduce.study import MODELS, RUNS, Result, compare, published_value
from wattshed.runs import Runs, read_runs
from wattshed.units import kwh

LLAMAS = ("llama-2-7b", "llama-2-13b", "llama-2-70b")
AXIS_MODEL = "llama-2-7b"
AXES = "input+output"
BOUNDARY: Final = "accelerator"
DECIMALS = 6
DECIMALS_70B_ENERGY = 4


def leave_one_out(system: str = SYSTEM) -> dict[str, Result]:
    """Leave-one-cell-out errors of each form, as stored with the built-in profiles."""
    return {
        profile.model: {
            "cells": profile.cells,
            "energy": _scores(energy_model(profile)),
            "runtime": _scores(profile.runtime),
        }
        for profile in load_profiles()
        if profile.name.startswith(f"{RUNS}/{system}/")
    }


def _scores(model: QueryModel) -> Result:
    return {
        "selected": model.form,
        "forms": {
            name: {
                "mape_pct": score.mape_pct,
                "bias_pct": score.bias_pct,
                "r2": score.r2,
                "negative_predictions": score.negative_predictions,
            }
            for name, score in model.forms.items()
        },
    }


def axis_to_grid() -> Result:
    """Fit one model to its two sweeps only, and predict the grid that it has not seen.

    The form is selected by its own leave-one-cell-out error on the sweeps. The output sweep
    goes to twice the longest output of the grid; what the fit predicts without that part
    stands beside it, under ``sweeps_within_grid``.
    """
    runs = _runs_of(SYSTEM, AXIS_MODEL)
    grid_rows = runs.table.filter(pl.col("experiment") == GRID)
    grid = make_cells(grid_rows, BOUNDARY)
    inside = runs.table.filter(
        pl.col("output_token_limit") <= grid_rows["output_token_limit"].max()
    )
    return {
        "model": AXIS_MODEL,
        **_predict_grid(runs, grid),
        "sweeps_within_grid": _predict_grid(replace(runs, table=inside), grid),
    }


def _predict_grid(runs: Runs, grid: Cells) -> Result:
    (selected,) = fit_profiles(runs, Options(experiment=AXES, boundary=BOUNDARY, draws=0))
    kept, _ = drop_flagged(runs.table, DROPPED)
    sweeps = make_cells(pick_experiment(kept, AXES)[0], BOUNDARY)
    forms = {name: _grid_errors(form, sweeps, grid) for name, form in FORMS.items()}
    chosen = {"energy": energy_model(selected).form, "runtime": selected.runtime.form}
    return {
        "fitted_cells": len(sweeps),
        "predicted_cells": len(grid),
        "selected": chosen,
        **{quantity: forms[form][quantity] for quantity, form in chosen.items()},
        "forms": forms,
    }


def _runs_of(system: str, model: str) -> Runs:
    runs = read_runs(RUNS)
    mine = (pl.col("system") == system) & (pl.col("model") == model)
    return replace(runs, table=runs.table.filter(mine))


def _grid_errors(form: Form, sweeps: Cells, grid: Cells) -> Result:
    """Errors on the grid of one form fitted to the sweeps."""

    def errors(fitted: Array, measured: Array) -> Result:
        theta = solve(form, sweeps.m, sweeps.n, fitted, np.ones((1, len(sweeps))))[0]
        return _errors(form.predict(theta, grid.m, grid.n), measured)

    return {
        "energy": errors(sweeps.energy_j, grid.energy_j),
        "runtime": errors(sweeps.runtime_s, grid.runtime_s),
    }


def _errors(prediction: Array, y: Array) -> Result:
    mape, median, bias = relative_errors(prediction, y)
    return {
        "mape_pct": mape,
        "median_ape_pct": median,
        "bias_pct": bias,
        "negative_predictions": int((prediction < 0).sum()),
    }


def short_outputs() -> Result:
    """Energies of one model at the grid's shortest output: measured, printed and selected.

    Where m is large and n small the printed model is furthest off.
    """
    rows = _runs_of(SYSTEM, AXIS_MODEL).table.filter(pl.col("experiment") == GRID)
    limit = rows["output_token_limit"].min()
    cells = make_cells(rows.filter(pl.col("output_token_limit") == limit), BOUNDARY)
    (printed,) = read_table(MODELS).filter(pl.col("model") == AXIS_MODEL).iter_rows(named=True)
    theta = np.array([printed[f"energy_{term}_j"] for term in TERMS])
    fitted = load_profile(f"{RUNS}/{SYSTEM}/{AXIS_MODEL}")
    return {
        "model": AXIS_MODEL,
        "output_tokens": limit,
        "input_tokens": cells.m.astype(int).tolist(),
        "measured_j": cells.energy_j.tolist(),
        "bilinear_j": FORMS["bilinear"].predict(theta, cells.m, cells.n).tolist(),
        "selected_j": predict(fitted, cells.m, cells.n).energy_j.tolist(),
    }


def single_model_totals(energy: dict[str, Result], runtime: dict[str, Result]) -> Result:
    """Energy and mean service time of the study's workload on one model alone.

    Both follow from four sums over the workload (queries, Σm, Σn, Σmn) and the
    coefficients as the study's scripts hold them: rounded to six decimals, those of the
    70B energy to four.

    Parameters
    ----------
    energy, runtime : dict
        From `regressions`.
    """
    queries, *sums = (published_value("checksum", name) for name in CHECKSUMS)
    found = {}
    for model in LLAMAS:
        places = DECIMALS_70B_ENERGY if model == "llama-2-70b" else DECIMALS
        total_j = _weighted(energy[model]["coefficients"], places, sums)
        total_s = _weighted(runtime[model]["coefficients"], DECIMALS, sums)
        found[model] = {
            "total_energy_kwh": compare(
                published_value("online", "total_energy", model), kwh(total_j)
            ),
            "mean_service_time_s": compare(
                published_value("online", "mean_service_time", model), total_s / queries
            ),
        }
    return found


def _weighted(coefficients: dict[str, float], places: int, sums: list[float]) -> float:
    return sum(
        round(coefficients[term], places) * value for term, value in zip(TERMS, sums, strict=True)
    )
