"""Length predictors, discovered: shapes, bounds and what each promises to be the mean of."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from wattshed import read_workload
from wattshed.workload.lengths import PREDICTORS, train_histogram, train_mean
from wattshed.workload.table import Workload

Maker = Callable[..., Workload]


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_is_a_function_of_the_input_alone(name: str) -> None:
    trace = read_workload("azure-conv-2023")
    predict = PREDICTORS[name](trace)
    m = np.array([1.0, 7, 8, 1000, 1e8])
    found = predict(m)
    assert found.shape == m.shape
    assert found.dtype == np.float64
    assert (found >= 1).all()
    assert (found <= trace.distinct().n.max()).all()
    np.testing.assert_array_equal(predict(m[::-1]), found[::-1])
    assert predict(np.array([])).shape == (0,)


@pytest.mark.parametrize("name", PREDICTORS)
def test_every_predictor_has_the_right_total_on_its_own_past(
    name: str, make_workload: Maker
) -> None:
    past = make_workload([8, 15, 16, 31], [10, 20, 300, 500], [20, 30, 40, 50])
    queries = past.distinct()
    expected = PREDICTORS[name](past)(queries.m)
    assert expected @ queries.count == pytest.approx(queries.n @ queries.count)


def test_histogram_is_the_mean_of_each_bucket_and_of_all_where_it_is_thin(
    make_workload: Maker,
) -> None:
    past = make_workload([8, 15, 16, 32], [10, 20, 300, 7000], [10, 10, 20, 19])
    everything = (100 + 200 + 6000 + 7000 * 19) / 59
    found = train_histogram(past)(np.array([8.0, 15, 16, 31, 32, 63, 2, 1e6]))
    np.testing.assert_allclose(found, [15, 15, 300, 300, *[everything] * 4])
    assert train_mean(past)(np.array([5.0]))[0] == pytest.approx(everything)


def test_quantiles_are_those_of_the_bucket(make_workload: Maker) -> None:
    past = make_workload([8] * 4 + [64], [1, 2, 3, 4, 900], [25, 25, 25, 25, 100])
    predict = train_histogram(past)
    m = np.array([9.0, 100, 5])
    np.testing.assert_array_equal(predict.quantile(m, 0.5), [2, 900, 4])
    np.testing.assert_array_equal(predict.quantile(m, 0.9), [4, 900, 900])
    np.testing.assert_array_equal(predict.quantile(m, 0), [1, 900, 1])
    np.testing.assert_array_equal(predict.quantile(m, 1), [4, 900, 900])
