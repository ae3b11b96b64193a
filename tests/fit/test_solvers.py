"""Solvers against a reference implementation, known truth and outliers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls

from wattshed.fit.forms import FORMS
from wattshed.fit.solvers import least_squares, non_negative, solve

GRID = 2.0 ** np.arange(3, 12)
M, N = (axis.ravel() for axis in np.meshgrid(GRID, GRID))
TRUTH = {
    "phase": np.array([3.6, 0.028, 3.3e-6]),
    "kv-phase": np.array([0.5, 0.01, 1e-6, 2.0, 1e-3]),
    "roofline": np.array([4.0, 0.03, 2e-6, 1.8]),
    "bilinear": np.array([0.5, 30.0, 0.04]),
}


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_non_negative_least_squares_agrees_with_lawson_hanson(seed: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(12, columns))
    b = rng.normal(size=12)
    weight = rng.uniform(0.1, 2, size=(1, 12))
    ours = non_negative(a, b[None], weight)[0]
    root = np.sqrt(weight[0])
    reference, _ = nnls(root[:, None] * a, root * b)
    np.testing.assert_allclose(ours, reference, atol=1e-8)


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_batched_problems_equal_single_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a = rng.normal(size=(20, 3))
    b = rng.normal(size=(4, 20))
    weight = rng.integers(0, 3, size=(4, 20)).astype(float)
    together = least_squares(a, b, weight)
    for i in range(4):
        rows = np.repeat(np.arange(20), weight[i].astype(int))
        alone, *_ = np.linalg.lstsq(a[rows], b[i, rows], rcond=None)
        np.testing.assert_allclose(together[i], alone, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", TRUTH)
def test_exact_data_give_back_the_truth(name: str) -> None:
    form = FORMS[name]
    y = form.predict(TRUTH[name], M, N)
    found = solve(form, M, N, y, np.ones((1, len(y))))[0]
    np.testing.assert_allclose(form.predict(found, M, N), y, rtol=2e-3)


@pytest.mark.parametrize("name", ["phase", "kv-phase", "roofline"])
def test_one_cell_ten_times_too_high_hardly_moves_the_others(name: str) -> None:
    form = FORMS[name]
    rng = np.random.default_rng(0)
    y = form.predict(TRUTH[name], M, N) * np.exp(rng.normal(0, 0.02, len(M)))
    spoiled = y.copy()
    spoiled[40] *= 10
    ones = np.ones((1, len(y)))
    clean = form.predict(solve(form, M, N, y, ones)[0], M, N)
    robust = form.predict(solve(form, M, N, spoiled, ones)[0], M, N)
    assert np.abs(robust / clean - 1).max() < 0.05


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["phase", "kv-phase", "roofline"]))
def test_whatever_the_data_no_prediction_is_negative(seed: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    y = np.exp(rng.normal(0, 3, len(M)))
    form = FORMS[name]
    found = solve(form, M, N, y, np.ones((1, len(y))))[0]
    assert (found >= 0).all()
    assert (form.predict(found, M, N) >= 0).all()


@pytest.mark.parametrize("name", ["phase", "roofline"])
def test_scaling_energy_scales_the_model(name: str) -> None:
    """Joules or millijoules, the physics is the same."""
    form = FORMS[name]
    rng = np.random.default_rng(1)
    y = form.predict(TRUTH[name], M, N) * np.exp(rng.normal(0, 0.05, len(M)))
    ones = np.ones((1, len(y)))
    joules = form.predict(solve(form, M, N, y, ones)[0], M, N)
    millijoules = form.predict(solve(form, M, N, 1e3 * y, ones)[0], M, N)
    np.testing.assert_allclose(millijoules, 1e3 * joules, rtol=2e-3)
