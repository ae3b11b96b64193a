import math
from decimal import Decimal

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wattshed.report.document import Table
from wattshed.report.text import (
    format_cell,
    format_column,
    format_number,
    format_rows,
    numeric_columns,
)


def read(text):
    """What a text says, also beyond the largest float."""
    return Decimal(text.replace(",", ""))


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(9999.5)
@example(999999999.7)
@example(-0.00099995)
@example(5e-324)
def test_a_float_reads_back_within_four_significant_digits(value):
    assert read(format_number(value)) == pytest.approx(Decimal(value), rel=Decimal("5e-4"))


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_alone_in_its_column_reads_back_too(value):
    (text,) = format_column([value])
    assert read(text) == pytest.approx(Decimal(value), rel=Decimal("5e-4"))


@given(st.integers())
def test_integers_are_written_in_full(value):
    assert int(format_number(value).replace(",", "")) == value


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (None, "–"),
        ("a100", "a100"),
        ("", ""),
        (True, "yes"),
        (0.0, "0"),
        (2024, "2024"),
        (-51924, "-51,924"),
        (123456.7, "123,457"),
        (0.13096, "0.1310"),
        (math.inf, "∞"),
        (math.nan, "nan"),
    ],
)
def test_cells(cell, text):
    assert format_cell(cell) == text


def test_whole_floats_lose_their_decimals_only_together():
    assert format_column([5.0, None, 60.0]) == ["5", "–", "60"]
    assert format_column([5.0, 2.5]) == ["5.000", "2.500"]


def test_columns_of_numbers_and_gaps_are_numeric():
    table = Table(
        "t", "", ["name", "number", "gap", "mixed"], [["a", 1, None, 1], ["b", 2.5, None, "x"]]
    )
    assert numeric_columns(table) == [False, True, False, False]


def test_a_row_of_another_length_is_refused():
    with pytest.raises(ValueError, match="table t, row 1: 1 cells, 2 columns"):
        format_rows(Table("t", "", ["a", "b"], [[1, 2], [3]]))
