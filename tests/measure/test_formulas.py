"""The study's formulas: sums by hand, clipping, and the traps of its scripts."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import InputError
from wattshed.measure.formulas import (
    METHODS,
    apple_cpu_energy_j,
    apple_gpu_energy_j,
    counter_energy_j,
    overlap_s,
    plausible_unit,
    rapl_net_energy_j,
    unit_flags,
    uprof_core_energy_j,
    uprof_mean_core_energy_j,
    without_pause,
)

DT = [0.2, 0.3, 0.5]
GPU = [10.0, 20.0, 4.0]


def test_clipping_weights_partial_samples_by_their_overlap():
    # samples begin at 0, 0.2 and 0.5 s; the window has half of the first, and 2/5 of the last
    assert apple_gpu_energy_j(GPU, DT, window_s=(0.1, 0.7)) == pytest.approx(
        10 * 0.1 + 20 * 0.3 + 4 * 0.2, abs=1e-9
    )
    # told where they begin, with a gap of 1 s after the first
    assert apple_gpu_energy_j(GPU, DT, [0, 1.2, 1.5], (0.1, 1.3)) == pytest.approx(
        10 * 0.1 + 20 * 0.1, abs=1e-9
    )
    assert overlap_s([0], [1], (2, 3)).tolist() == [0.0]
    with pytest.raises(InputError, match="window: ends at 1 s, before 2 s"):
        overlap_s([0], [1], (2, 1))


samples = st.lists(
    st.tuples(st.floats(0.01, 2), st.floats(0, 500), st.floats(0, 1)), min_size=1, max_size=20
)
moments = st.lists(st.floats(-1, 45), min_size=3, max_size=3).map(sorted)


@given(samples, moments)
def test_energy_of_a_window_is_that_of_its_parts(rows: list[tuple[float, ...]], abc: list[float]):
    dt, power, share = np.array(rows).T
    a, b, c = abc
    two = np.column_stack([power, power[::-1]])
    methods = [
        lambda w: apple_gpu_energy_j(power, dt, window_s=w),
        lambda w: apple_cpu_energy_j(power, share, dt, window_s=w),
        lambda w: rapl_net_energy_j(two, [30.0, 40.0], dt, window_s=w),
        lambda w: uprof_core_energy_j(two, [1], dt, window_s=w),
    ]
    for energy_j in methods:
        parts = energy_j((a, b)) + energy_j((b, c))
        assert energy_j((a, c)) == pytest.approx(parts, rel=1e-9, abs=1e-9)
        whole = energy_j((0.0, float(np.sum(dt)) + 1))
        assert energy_j(None) == pytest.approx(whole, rel=1e-9, abs=1e-9)


def test_a_power_that_is_not_known_is_refused_unless_the_window_leaves_it_out():
    unknown = [10.0, np.nan, 4.0]
    with pytest.raises(InputError, match="sample 1: its power, or its share, is not known"):
        apple_gpu_energy_j(unknown, DT)
    assert apple_gpu_energy_j(unknown, DT, window_s=(0.0, 0.2)) == pytest.approx(2.0)
    with pytest.raises(InputError, match="has powers that are not known"):
        uprof_mean_core_energy_j([[1.0, np.nan]], [0, 1], 2.0)
    assert uprof_mean_core_energy_j([[1.0, np.nan]], [0], 2.0) == 2.0


def test_what_does_not_fit_together_is_refused():
    with pytest.raises(InputError, match="dt_s: has 2 samples, powers 3"):
        apple_gpu_energy_j(GPU, [0.1, 0.1])
    with pytest.raises(InputError, match="active: has core 2 of 2"):
        uprof_core_energy_j([[1, 2]], [2], [0.1])
    with pytest.raises(InputError, match="active: has 1 samples, powers 2"):
        uprof_core_energy_j([[1, 2], [1, 2]], [[1]], [0.1, 0.1])
    with pytest.raises(InputError, match="active: has numbers and lists"):
        uprof_core_energy_j([[1, 2], [1, 2]], [[1], 0], [0.1, 0.1])  # type: ignore[list-item]


def test_no_active_core_is_no_energy_of_the_process():
    assert uprof_core_energy_j([[1, 2], [3, 4]], [], [0.1, 0.1]) == 0.0


def test_counters_are_differenced_in_the_unit_that_is_stated():
    assert counter_energy_j(1_000, 3_500, "mJ") == pytest.approx(2.5, abs=1e-9)
    assert counter_energy_j(1_000_000, 3_500_000, "uJ") == pytest.approx(2.5, abs=1e-9)
    with pytest.raises(InputError, match="goes back from 5 to 4"):
        counter_energy_j(5, 4, "mJ")
    with pytest.raises(InputError, match="'kJ' is unknown; use one of J, mJ, uJ"):
        counter_energy_j(4, 5, "kJ")


@given(st.floats(5, 4999), st.floats(0.1, 1000), st.sampled_from(["J", "mJ", "uJ"]))
def test_millijoules_are_not_taken_for_microjoules(power_w: float, runtime_s: float, unit: str):
    counted = power_w * runtime_s / {"J": 1, "mJ": 1e-3, "uJ": 1e-6}[unit]
    found = plausible_unit(counted * (1 + 1e-12), runtime_s)
    assert found == unit
    other = "uJ" if unit == "mJ" else "mJ"
    assert unit_flags(counted * (1 + 1e-12), runtime_s, unit) == ()
    assert unit_flags(counted * (1 + 1e-12), runtime_s, other) == ("wrong_unit",)


def test_nothing_is_said_of_a_unit_where_none_makes_sense():
    assert plausible_unit(1e-3, 1.0) is None
    assert unit_flags(1e-3, 1.0, "mJ") == ()


def test_the_pause_inside_the_timed_call_is_taken_off_the_window():
    assert without_pause((10.0, 15.0)) == (12.0, 15.0)
    with pytest.raises(InputError, match="give more than 2 s"):
        without_pause((10.0, 11.0))


@pytest.mark.parametrize("name", METHODS)
def test_every_method_tells_what_it_needs_where_it_is_from_and_what_it_counts(name: str):
    method = METHODS[name]
    parameters = list(inspect.signature(method.function).parameters)
    assert parameters[: len(method.needs)] == list(method.needs)
    assert set(parameters) - set(method.needs) <= {"begin_s", "window_s"}
    assert "section 4.2" in (method.function.__doc__ or "")
    assert method.counts
