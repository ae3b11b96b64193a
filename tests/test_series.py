"""Windows of time: what files may say, and how bins are cut."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import TableError
from wattshed.series import Series, overlap, series_of, when
from wattshed.tables import RawTable


def read(columns: dict[str, list[object]]) -> Series:
    return series_of(RawTable(pl.DataFrame(columns), "made-up", 2), "value", "W")


rising = st.lists(st.floats(0.01, 100, allow_subnormal=False), min_size=1, max_size=20).map(
    lambda widths: np.cumsum([0.0, *widths])
)


@given(bins=rising, windows=rising)
def test_pieces_fill_each_bin_and_lie_in_one_window(bins: np.ndarray, windows: np.ndarray) -> None:
    windows = windows * (1.01 * bins[-1] / windows[-1])
    inside, window, part = overlap(bins, windows)
    np.testing.assert_allclose(np.bincount(inside, part, len(bins) - 1), 1.0)
    length = part * np.diff(bins)[inside]
    assert (length <= np.diff(windows)[window] * (1 + 1e-9) + 1e-9).all()
    # Widths of windows, as far as the bins reach.
    reach = np.diff(np.minimum(windows, bins[-1]))
    np.testing.assert_allclose(np.bincount(window, length, len(windows) - 1), reach, atol=1e-9)


@pytest.mark.parametrize(
    "stamps",
    [
        ["2022-07-01T00:00:00Z", "2022-07-01T01:00:00Z"],
        ["2022-07-01 02:00+02:00", "2022-07-01 03:00+02:00"],
        [datetime(2022, 7, 1, hour, tzinfo=UTC) for hour in (0, 1)],
        [datetime(2022, 7, 1, hour + 2, tzinfo=timezone(timedelta(hours=2))) for hour in (0, 1)],
    ],
)
def test_dates_are_compared_in_utc(stamps: list[object]) -> None:
    series = read({"datetime": stamps, "value": [1.0, 2.0]})
    assert series.origin == datetime(2022, 7, 1, tzinfo=UTC)
    np.testing.assert_array_equal(series.edges_s, [0, 3600, 7200])
    assert when(3600, series.origin) == "2022-07-01T01:00:00Z"


def test_a_date_without_an_offset_is_utc_only_where_the_column_says_so() -> None:
    stamps = ["2022-07-01 00:00", "2022-07-01 01:00"]
    assert read({"datetime_utc": stamps, "value": [1.0, 2.0]}).origin is not None
    with pytest.raises(TableError, match=r"row 2, column datetime: .*offset from UTC"):
        read({"datetime": stamps, "value": [1.0, 2.0]})


def test_seconds_need_not_begin_at_0() -> None:
    series = read({"start_s": [-30.0, 0.0], "value": [1.0, 2.0]})
    np.testing.assert_array_equal(series.edges_s, [-30, 0, 30])
    assert when(-30, series.origin) == "-30 s"


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"value": [1.0, 2.0]}, "header: no time .*give one of the columns start_s, datetime"),
        (
            {"start_s": [0, 1], "datetime_utc": ["", ""], "value": [1, 2]},
            "start_s and datetime_utc",
        ),
        ({"datetime_utc": ["2022-07-01", "noon"], "value": [1, 2]}, "row 3, .*got 'noon'"),
        ({"datetime_utc": ["2022-07-01", None], "value": [1, 2]}, "row 3, .*got None"),
        ({"start_s": [0, 1], "values": [1, 2]}, "no column value"),
    ],
)
def test_bad_columns_are_told(columns: dict[str, list[object]], told: str) -> None:
    with pytest.raises(TableError, match=told):
        read(columns)


def test_dates_survive_every_format(tmp_path: Path) -> None:
    from wattshed.tables import read_raw

    stamps = [datetime(2022, 7, 1, hour, tzinfo=UTC) for hour in (0, 1)]
    frame = pl.DataFrame({"datetime": stamps, "value": [1.0, None]})
    text = frame.with_columns(pl.col("datetime").dt.strftime("%Y-%m-%dT%H:%M:%SZ"))
    frame.write_parquet(tmp_path / "a.parquet")
    text.write_csv(tmp_path / "a.csv")
    text.write_ndjson(tmp_path / "a.jsonl")
    for path in tmp_path.iterdir():
        series = series_of(read_raw(path), "value", "W")
        np.testing.assert_array_equal(series.edges_s, [0, 3600, 7200])
        np.testing.assert_array_equal(series.value, [1.0, np.nan])
