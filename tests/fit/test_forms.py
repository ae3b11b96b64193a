"""Forms against the sums they stand for, pass by pass."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.fit.forms import FORMS, context_sums, pass_nodes, roofline_sums

TOKENS = st.integers(1, 3000)
ROOFLINE = st.tuples(
    st.floats(1e-3, 1e2), st.floats(1e-4, 1.0), st.floats(1e-8, 1e-4), st.floats(1.05, 12.0)
)


def passes(m: int, n: int) -> np.ndarray:
    return m + np.arange(n, dtype=float)


@given(TOKENS, TOKENS)
def test_context_sums_are_sums_over_passes(m: int, n: int) -> None:
    s1, s2 = context_sums(np.array([m], float), np.array([n], float))
    assert s1[0] == pytest.approx(passes(m, n).sum(), rel=1e-12)
    assert s2[0] == pytest.approx((passes(m, n) ** 2).sum(), rel=1e-12)


def roofline_pass(theta: tuple[float, ...], length: np.ndarray) -> np.ndarray:
    a, b, c, p = theta
    work = b * length + c * length**2
    high = np.maximum(a, work)
    return high * ((a / high) ** p + (work / high) ** p) ** (1 / p)


@given(ROOFLINE, TOKENS, TOKENS)
def test_roofline_is_the_smooth_maximum_summed_over_passes(
    theta: tuple[float, ...], m: int, n: int
) -> None:
    expected = roofline_pass(theta, passes(m, n)).sum()
    copies = 1 + (m + n) // 12  # enough queries that the exact running sum is used
    exact = FORMS["roofline"].predict(
        np.array(theta), np.full(copies, float(m)), np.full(copies, float(n))
    )
    assert exact[0] == pytest.approx(expected, rel=1e-9)
    length, weight = pass_nodes(np.array([m], float), np.array([n], float))
    quadrature = (roofline_pass(theta, length) * weight).sum()
    assert quadrature == pytest.approx(expected, rel=2e-3)


@given(ROOFLINE, TOKENS, TOKENS)
def test_roofline_gradient_agrees_with_differences(
    theta: tuple[float, ...], m: int, n: int
) -> None:
    length, node = pass_nodes(np.array([m], float), np.array([n], float))
    x = np.log(np.array([theta[0], theta[1], theta[2], theta[3] - 1]))

    def total(x: np.ndarray) -> float:
        raw = np.exp(x)
        raw[3] += 1
        return float(roofline_sums(raw[None], length, node)[0][0, 0])

    _, gradient = roofline_sums(np.array(theta)[None], length, node)
    for i in range(4):
        step = np.zeros(4)
        step[i] = 1e-5
        difference = (total(x + step) - total(x - step)) / 2e-5
        assert gradient[0, 0, i] == pytest.approx(difference, rel=1e-4, abs=1e-6 * total(x))


@pytest.mark.parametrize("name", FORMS)
@given(m=TOKENS, n=TOKENS, seed=st.integers(0, 2**16))
def test_every_form_grows_with_its_coefficients_and_has_a_batch_axis(
    name: str, m: int, n: int, seed: int
) -> None:
    form = FORMS[name]
    theta = np.random.default_rng(seed).uniform(1.1, 2, (3, len(form.parameters)))
    one = [form.predict(row, np.array([m], float), np.array([n], float))[0] for row in theta]
    batch = form.predict(theta, np.array([m], float), np.array([n], float))
    assert batch.shape == (3, 1)
    np.testing.assert_allclose(batch[:, 0], one, rtol=1e-12)
    assert (batch > 0).all()


def test_kv_phase_of_a_long_answer_is_linear_not_quadratic_in_cheap_context() -> None:
    theta = np.array([1.0, 0.1, 0.0, 2.0, 0.0])
    n = np.array([100.0, 200.0])
    cost = FORMS["kv-phase"].predict(theta, np.full(2, 50.0), n)
    assert cost[1] - cost[0] == pytest.approx(200.0)
