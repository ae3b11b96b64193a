"""Rate curves: what is read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from wattshed import read_rates
from wattshed.data import read_table
from wattshed.errors import FileError, InputError, TableError
from wattshed.files import sha256


def written(folder: Path, text: str) -> Path:
    path = folder / "rates.csv"
    path.write_text(text)
    return path


def test_built_in_curve_is_as_tabulated() -> None:
    curve = read_rates("servegen-rates#m-large")
    rows = read_table("servegen-rates").filter(pl.col("workload") == "m-large")
    np.testing.assert_array_equal(curve.rate_per_s, rows["rate_per_s"])
    np.testing.assert_array_equal(curve.edges_s, np.arange(2017) * 600.0)
    assert curve.provenance.licence == "Apache-2.0"


def test_a_gap_in_a_recording_is_no_rate_of_zero() -> None:
    curve = read_rates("servegen-rates#m-small")
    assert np.isnan(curve.rate_per_s).sum() == 37
    assert (curve.rate_per_s[~np.isnan(curve.rate_per_s)] > 0).all()


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_own_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rates.{suffix}"
    frame = pl.DataFrame({"start_s": [0.0, 60.0, 180.0], "rate_per_s": [1.5, None, 0.0]})
    write = {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}
    write[suffix](path)
    curve = read_rates(path)
    np.testing.assert_array_equal(curve.edges_s, [0, 60, 180, 300])
    np.testing.assert_array_equal(curve.rate_per_s, [1.5, np.nan, 0.0])
    assert curve.content_hash == sha256(path)


def test_one_workload_of_several(tmp_path: Path) -> None:
    text = "workload,start_s,rate_per_s\na,0,1\na,60,2\nb,0,3\nb,30,4\n"
    path = written(tmp_path, text)
    np.testing.assert_array_equal(read_rates(f"{path}#b").rate_per_s, [3, 4])
    assert read_rates(f"{path}#b").end_s == 60
    with pytest.raises(FileError, match=r"2 workloads; use .*#a, .*#b"):
        read_rates(path)
    with pytest.raises(FileError, match="no workload 'c'"):
        read_rates(f"{path}#c")


def test_unknown_names_are_told_with_those_that_there_are() -> None:
    with pytest.raises(FileError, match="'servegen'; use a file or one of servegen-rates"):
        read_rates("servegen")
    with pytest.raises(FileError, match="5 workloads; use servegen-rates#deepseek-r1"):
        read_rates("servegen-rates")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("start_s,rate_per_s\n60,1\n0,2\n", "row 3, column start_s: 0 is not later than 60"),
        ("start_s,rate_per_s\n0,1\n0,2\n", "row 3, column start_s: 0 is not later than 0"),
        ("start_s,rate_per_s\n0,1\n60,-2\n", "row 3, column rate_per_s: .*got '-2'; correct"),
        ("start_s,rate_per_s\n0,inf\n60,2\n", "row 2, column rate_per_s: .*finite.*'inf'"),
        ("start_s,rate_per_s\n0,nan\n60,2\n", "row 2, column rate_per_s: .*finite.*'nan'"),
        ("start_s,rate_per_s\n0,many\n60,2\n", "row 2, column rate_per_s: .*got 'many'"),
        ("start_s,rate_per_s\n,1\n60,2\n", "row 2, column start_s: .*got nothing"),
        ("start_s,rate_per_s\n0,\n60,\n", "row 2, column rate_per_s: no row has a value"),
        ("start_s,rate_per_s\n", "no rows"),
        ("start_s,rate_per_s\n0,1\n", "1 window; give at least two rows"),
        ("start_s,rate\n0,1\n60,2\n", r"header: no column rate_per_s \(found start_s, rate\)"),
        ("time,rate_per_s\n0,1\n60,2\n", "header: no column start_s"),
    ],
)
def test_bad_rows_are_told_with_row_value_and_cure(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(TableError, match=told):
        read_rates(written(tmp_path, text))


def test_rows_are_counted_in_the_file_where_one_workload_is_read(tmp_path: Path) -> None:
    text = "workload,start_s,rate_per_s\na,0,1\na,60,2\nb,0,3\nb,0,4\n"
    with pytest.raises(InputError, match="row 5, column start_s"):
        read_rates(f"{written(tmp_path, text)}#b")
