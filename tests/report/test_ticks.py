import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.report.ticks import MOST_TICKS, format_ticks, linear_ticks, log_ticks

positive = st.floats(1e-9, 1e12)


def test_base_two_ticks_are_powers_of_two():
    assert log_ticks(8, 2048, 2) == [2.0**k for k in range(3, 12)]


def test_many_octaves_are_thinned():
    ticks = log_ticks(1, 2**20, 2)
    assert len(ticks) <= MOST_TICKS
    assert all(math.log2(t).is_integer() for t in ticks)


@given(positive, st.floats(1.0001, 1e12), st.sampled_from([2, 10]))
def test_log_ticks_are_few_rising_and_inside(low, factor, base):
    ticks = log_ticks(low, low * factor, base)
    assert len(ticks) <= MOST_TICKS
    assert ticks == sorted(set(ticks))
    assert all(low * 0.999 <= t <= low * factor * 1.001 for t in ticks)


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9))
def test_linear_ticks_are_few_rising_and_inside(low, span):
    ticks = linear_ticks(low, low + span)
    assert 2 <= len(ticks) <= MOST_TICKS
    assert ticks == sorted(set(ticks))
    assert all(low - span * 0.01 <= t <= low + span * 1.01 for t in ticks)


@pytest.mark.parametrize(
    ("ticks", "texts"),
    [
        ([0, 2.5, 5], ["0.0", "2.5", "5.0"]),
        ([-20, 0], ["−20", "0"]),
        ([10000, 20000], ["10,000", "20,000"]),
        ([], []),
    ],
)
def test_tick_texts(ticks, texts):
    assert format_ticks(ticks) == texts
