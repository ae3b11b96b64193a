"""Rising curves: known truth comes back, and no data make one fall or turn negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattshed.fit.curves import (
    BATCH_FORMS,
    CURVE_FORMS,
    TOKEN_FORMS,
    choose_form,
    evaluate,
    fit_affine,
    fit_curve,
    fit_floor,
    fit_knots,
    fit_root,
    predict_unseen,
    score,
)

BATCH = 2.0 ** np.arange(7)
TOKENS = 2.0 ** np.arange(7, 15)
FINE = np.linspace(1, 64, 200)


def test_affine_coefficients_come_back() -> None:
    found = fit_affine(BATCH, 0.03 + 4e-4 * BATCH)
    assert found.coefficients == pytest.approx({"constant": 0.03, "per_unit": 4e-4})


def test_root_coefficients_come_back_and_chords_stay_within_one_percent() -> None:
    truth = 0.01 + 0.004 * np.sqrt(FINE) + 2e-4 * FINE
    found = fit_root(BATCH, np.interp(BATCH, FINE, truth))
    assert found.coefficients == pytest.approx(
        {"constant": 0.01, "per_root": 0.004, "per_unit": 2e-4}, rel=0.02
    )
    assert np.abs(evaluate(found.at, found.value, FINE) / truth - 1).max() < 0.01


def test_floor_and_slope_come_back() -> None:
    found = fit_floor(TOKENS, np.maximum(0.05, 1e-4 * TOKENS))
    assert found.coefficients == pytest.approx({"constant": 0.05, "per_unit": 1e-4})
    assert evaluate(found.at, found.value, np.array([1.0, 500, 20_000])) == pytest.approx(
        [0.05, 0.05, 2.0]
    )


def test_knots_pass_through_rising_means() -> None:
    batch, time = np.array([8.0, 8, 16, 64]), np.array([1.0, 1.2, 2.0, 3.0])
    found = fit_knots(batch, time)
    assert evaluate(found.at, found.value, np.array([8.0, 16, 64])) == pytest.approx([1.1, 2, 3])


def test_knots_pool_what_falls() -> None:
    found = fit_knots(np.array([1.0, 2, 4]), np.array([1.0, 3.0, 2.0]))
    assert found.value[1] == pytest.approx(found.value[2])
    assert 2.0 < found.value[1] < 3.0


@settings(max_examples=150)
@given(st.integers(0, 2**32 - 1), st.sampled_from(sorted(CURVE_FORMS)), st.integers(4, 9))
def test_whatever_the_data_curves_are_positive_and_never_fall(
    seed: int, form: str, cells: int
) -> None:
    rng = np.random.default_rng(seed)
    x = np.sort(rng.choice(np.arange(2, 400), cells, replace=False)).astype(float)
    found = CURVE_FORMS[form](x, np.exp(rng.normal(0, 2, cells)))  # type: ignore[index]
    value = evaluate(found.at, found.value, np.geomspace(1, 1000, 300))
    assert (value > 0).all()
    assert (np.diff(value) >= -1e-12 * value[1:]).all()


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["affine", "root", "knots", "floor"]))
def test_scaling_the_unit_scales_the_curve(seed: int, form: str) -> None:
    rng = np.random.default_rng(seed)
    y = (0.02 + 1e-3 * BATCH) * np.exp(rng.normal(0, 0.05, len(BATCH)))
    fit = CURVE_FORMS[form]  # type: ignore[index]
    seconds, milliseconds = fit(BATCH, y), fit(BATCH, 1e3 * y)
    np.testing.assert_allclose(milliseconds.value, 1e3 * seconds.value, rtol=1e-9)


@pytest.mark.parametrize(
    ("truth", "form"),
    [
        (0.03 + 4e-4 * BATCH, "affine"),
        (0.01 + 0.01 * np.sqrt(BATCH), "root"),
        (np.array([1.0, 1, 1, 1, 5, 5, 5]), "knots"),
    ],
)
def test_the_form_that_made_the_data_is_chosen(truth: np.ndarray, form: str) -> None:
    assert choose_form(BATCH, truth, BATCH, BATCH_FORMS) == form
    assert fit_curve(BATCH, truth, BATCH, BATCH_FORMS, kind="measured", source="").form == form


def test_what_is_left_out_has_no_part_in_its_own_prediction() -> None:
    """A spoiled cell changes the predictions of the others, not its own."""
    y = 0.03 + 4e-4 * BATCH
    spoiled = y.copy()
    spoiled[3] *= 10
    for predict in (
        lambda values: predict_unseen(BATCH, values, BATCH, ["affine"]),
        lambda values: predict_unseen(BATCH, values, BATCH, BATCH_FORMS),
    ):
        assert predict(spoiled)[3] == pytest.approx(predict(y)[3])


def test_cells_of_one_group_are_left_out_together() -> None:
    group = np.array([1.0, 1, 1, 1, 2, 4, 8, 16])
    y = np.maximum(0.05, 1e-4 * TOKENS)
    y[:4] *= 10
    clean = predict_unseen(TOKENS, np.where(group == 1, 1.0, y), group, TOKEN_FORMS)
    assert predict_unseen(TOKENS, y, group, TOKEN_FORMS)[:4] == pytest.approx(clean[:4])


def test_score_counts_ends_and_inner_batches() -> None:
    found = score(
        "decode_time_s", "batch", np.array([1.0, 2, 4]), np.array([1.1, 0.98, 1.5]), np.ones(3)
    )
    assert found.error_pct == pytest.approx([10, -2, 50])
    assert (found.median_ape_pct, found.worst_ape_pct) == pytest.approx((10, 50))
    assert found.inner_mean_ape_pct == pytest.approx(2)
