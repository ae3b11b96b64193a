"""Column generation against the whole linear program, and what it refuses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.optimize import linprog

from wattshed.errors import ParameterError
from wattshed.fit.forms import Array
from wattshed.reproduce.covering import cover


def whole_program(cost: Array, count: Array, gain: Array, floor: Array) -> float:
    """Least cost with one variable for each query and deployment."""
    q, k = cost.shape
    weighted = count[:, None]
    once = sparse.kron(sparse.eye(q), np.ones((1, k)), format="csr")
    found = linprog(
        (cost * weighted).ravel(),
        A_ub=-(gain * weighted).reshape(len(floor), -1),
        b_ub=-floor,
        A_eq=once,
        b_eq=np.ones(q),
        method="highs",
    )
    assert found.status == 0
    return float(found.fun)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), q=st.integers(1, 30), part=st.floats(0.0, 0.33))
def test_is_as_cheap_as_the_whole_program(seed: int, q: int, part: float) -> None:
    rng = np.random.default_rng(seed)
    cost, count = rng.normal(size=(q, 3)), rng.integers(1, 9, q)
    gain = np.broadcast_to(np.eye(3)[:, None, :], (3, q, 3))
    floor = np.full(3, part * count.sum())
    shares = cover(cost, count, gain, floor)
    assert shares.sum(axis=1) == pytest.approx(1)
    assert (count @ shares >= floor - 1e-6).all()
    best = whole_program(cost, count, gain, floor)
    assert count @ (shares * cost).sum(axis=1) == pytest.approx(best, abs=1e-6)


def test_without_binding_floors_each_query_goes_where_it_is_cheapest() -> None:
    cost = np.array([[1.0, 2.0], [3.0, 1.0]])
    gain = np.broadcast_to(np.eye(2)[:, None, :], (2, 2, 2))
    shares = cover(cost, np.array([1, 1]), gain, np.zeros(2))
    assert shares == pytest.approx(np.eye(2))


def test_refuses_floors_that_cannot_be_reached() -> None:
    gain = np.broadcast_to(np.eye(2)[:, None, :], (2, 1, 2))
    with pytest.raises(ParameterError, match="cannot be reached"):
        cover(np.ones((1, 2)), np.array([3]), gain, np.array([2.0, 2.0]))
