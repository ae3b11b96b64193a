"""Least squares and analysis of variance against statsmodels."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from statsmodels.formula.api import ols as formula_ols
from statsmodels.stats.anova import anova_lm

from wattshed.fit.forms import BILINEAR_INTERCEPT, FORMS
from wattshed.fit.ols import anova_two_way
from wattshed.reproduce.hybrid_figures import MODELS_7B
from wattshed.reproduce.offline_tables import QUANTITIES, axes, fit_rows, grid_rows

RELATIVE = 1e-9


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("intercept", [True, False], ids=["intercept", "none"])
@pytest.mark.parametrize("model", ["falcon-7b", "llama-2-7b", "llama-2-70b", "mixtral-8x7b"])
def test_least_squares_agrees(model: str, intercept: bool, quantity: str) -> None:
    rows = grid_rows().filter(pl.col("model") == model)
    form = BILINEAR_INTERCEPT if intercept else FORMS["bilinear"]
    assert form.design is not None
    columns = form.design(*axes(rows))
    theirs = sm.OLS(rows[QUANTITIES[quantity][0]].to_numpy(), columns).fit()
    ours = fit_rows(rows, quantity, intercept=intercept)
    assert_allclose(ours.coefficients, theirs.params, rtol=RELATIVE)
    assert_allclose(ours.standard_errors, theirs.bse, rtol=RELATIVE)
    assert_allclose(ours.r2, theirs.rsquared, rtol=RELATIVE)
    assert_allclose(ours.f, theirs.fvalue, rtol=RELATIVE)
    assert_allclose(ours.p, theirs.f_pvalue, rtol=RELATIVE)
    assert_allclose(np.stack([ours.low, ours.high], axis=1), theirs.conf_int(), rtol=RELATIVE)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("models", [MODELS_7B, None], ids=["7b", "all"])
def test_analysis_of_variance_agrees(models: tuple[str, ...] | None, quantity: str) -> None:
    rows = grid_rows()
    if models:
        rows = rows.filter(pl.col("model").is_in(models))
    m, n = axes(rows)
    y = rows[QUANTITIES[quantity][0]].to_numpy()
    frame = pd.DataFrame({"m": m, "n": n, "y": y})
    theirs = anova_lm(formula_ols("y ~ C(m) * C(n)", data=frame).fit(), typ=2)
    ours = anova_two_way(m.astype(np.int64), n.astype(np.int64), y)
    for term, row in (("first", "C(m)"), ("second", "C(n)"), ("interaction", "C(m):C(n)")):
        expected = theirs.loc[row]
        assert ours[term].df == expected["df"]
        assert_allclose(ours[term].sum_of_squares, expected["sum_sq"], rtol=RELATIVE)
        assert_allclose(ours[term].f, expected["F"], rtol=RELATIVE)
        assert_allclose(ours[term].p, expected["PR(>F)"], rtol=RELATIVE)
