"""Large Parquet files, collapsed while they are read, mean the same as read row by row."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from wattshed import read_workload
from wattshed.errors import FileError, TableError
from wattshed.workload.table import Workload

ROWS = 5000


def good_rows(seed: int = 0) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "arrival_s": np.cumsum(rng.exponential(0.1, ROWS)),
            "input_tokens": rng.integers(1, 60, ROWS).astype(np.int32),
            "output_tokens": rng.integers(1, 60, ROWS).astype(np.uint16),
            "count": [None if c == 4 else int(c) for c in rng.integers(1, 5, ROWS)],
            "class": [None if c == "" else c for c in rng.choice(["a", "b", ""], ROWS)],
            "deadline_s": rng.random(ROWS),
        }
    )


def told_both_ways(tmp_path: Path, frame: pl.DataFrame) -> str:
    """The error of a faulty table, which is the same read whole and while it is collapsed."""
    path = tmp_path / "w.parquet"
    frame.write_parquet(path, row_group_size=700)
    told = []
    for above in (ROWS, 0):
        with pytest.raises(TableError) as error:
            read_workload(path, aggregate_above=above)
        told.append(str(error.value))
    assert told[0] == told[1]
    return told[0]


def both(tmp_path: Path, frame: pl.DataFrame) -> tuple[Workload, Workload]:
    path = tmp_path / "w.parquet"
    frame.write_parquet(path, row_group_size=700)
    return read_workload(path, aggregate_above=frame.height), read_workload(path, aggregate_above=0)


@pytest.mark.parametrize(
    "frame",
    [
        good_rows(),
        good_rows().select("input_tokens", "output_tokens"),
        good_rows().select("output_tokens", "input_tokens", "count"),
        good_rows().with_columns(pl.col("input_tokens").cast(pl.Float32)),
        good_rows().with_columns(pl.col("input_tokens").cast(pl.String) + " "),
        good_rows().with_columns(pl.lit(None, pl.Float64).alias("arrival_s")),
        good_rows().head(1),
    ],
    ids=["all", "tokens", "counts", "floats", "text", "empty arrivals", "one row"],
)
def test_groups_hold_the_same_queries_as_rows(tmp_path: Path, frame: pl.DataFrame) -> None:
    rows, groups = both(tmp_path, frame)
    assert groups.aggregated
    assert not rows.aggregated
    assert groups.queries == rows.queries
    for name in ("m", "n", "count"):
        np.testing.assert_array_equal(
            getattr(groups.distinct(), name), getattr(rows.distinct(), name)
        )
    assert groups.span_s == rows.span_s
    assert groups.content_hash == rows.content_hash
    assert groups.table.schema == rows.table.schema


def test_groups_keep_classes_apart(tmp_path: Path) -> None:
    rows, groups = both(tmp_path, good_rows())
    for workload in (rows, groups):
        table = workload.table.group_by("class").agg(pl.col("count").sum()).sort("class")
        assert table["count"].sum() == rows.queries
        assert table["class"].to_list() == [None, "a", "b"]
    assert not groups.table.select("input_tokens", "output_tokens", "class").is_duplicated().any()


@pytest.mark.parametrize("row", [0, 1, 3333, ROWS - 1])
@pytest.mark.parametrize(
    ("column", "dtype", "value"),
    [
        ("input_tokens", pl.Int64, 0),
        ("input_tokens", pl.Int64, None),
        ("input_tokens", pl.Int64, 100_000_001),
        ("output_tokens", pl.Float64, float("nan")),
        ("output_tokens", pl.Float64, 1.5),
        ("output_tokens", pl.String, "many"),
        ("count", pl.Int64, 0),
        ("arrival_s", pl.Float64, float("inf")),
        ("arrival_s", pl.Float64, -1.0),
        ("deadline_s", pl.Float64, float("nan")),
    ],
)
def test_a_bad_value_is_told_as_if_the_table_were_read_whole(
    tmp_path: Path, row: int, column: str, dtype: Any, value: Any
) -> None:
    frame = good_rows().with_columns(pl.col(column).cast(dtype))
    frame[row, column] = value
    assert f"row {row + 1}, column {column}" in told_both_ways(tmp_path, frame)


@pytest.mark.parametrize("row", [1, 700, ROWS - 1])
@pytest.mark.parametrize("value", [0.0, None])
def test_arrivals_out_of_order_are_told(tmp_path: Path, row: int, value: float | None) -> None:
    frame = good_rows()
    frame[row, "arrival_s"] = value
    assert f"row {row + 1}, column arrival_s" in told_both_ways(tmp_path, frame)


def test_arrivals_that_begin_late_are_refused(tmp_path: Path) -> None:
    frame = good_rows()
    frame[0, "arrival_s"] = None
    path = tmp_path / "w.parquet"
    frame.write_parquet(path)
    for above in (ROWS, 0):
        with pytest.raises(TableError, match=r"row 2, column arrival_s.*an empty value"):
            read_workload(path, aggregate_above=above)


def test_the_first_of_several_bad_rows_is_told(tmp_path: Path) -> None:
    frame = good_rows()
    for row in (4000, 1234, 2000):
        frame[row, "input_tokens"] = 0
    path = tmp_path / "w.parquet"
    frame.write_parquet(path, row_group_size=700)
    with pytest.raises(TableError, match="row 1235, column input_tokens"):
        read_workload(path, aggregate_above=0)


def test_files_that_cannot_be_collapsed_are_read_whole(tmp_path: Path) -> None:
    csv = tmp_path / "w.csv"
    good_rows().write_csv(csv)
    mooncake = tmp_path / "m.parquet"
    pl.DataFrame(
        {"timestamp": [0, 9], "input_length": [1, 2], "output_length": [3, 4]}
    ).write_parquet(mooncake)
    assert not read_workload(csv, aggregate_above=0).aggregated
    assert not read_workload(mooncake, aggregate_above=0).aggregated


def test_a_parquet_file_that_is_none_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.parquet"
    path.write_text("input_tokens,output_tokens\n1,2\n")
    with pytest.raises(FileError, match="cannot be read"):
        read_workload(path, aggregate_above=0)


def test_damage_inside_a_parquet_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.parquet"
    good_rows().write_parquet(path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[100:4000] = bytes(3900)
    path.write_bytes(content)
    with pytest.raises(FileError, match="cannot be read"):
        read_workload(path, aggregate_above=0)


def test_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    good_rows().write_csv(path)
    assert read_workload(path).content_hash == hashlib.sha256(path.read_bytes()).hexdigest()
