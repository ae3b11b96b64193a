"""Importers, discovered: each recognises its format by content and gives the same queries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from wattshed import read_workload
from wattshed.workload.importers import IMPORTERS

EXAMPLES: dict[str, tuple[str, str]] = {
    "native": (
        "w.csv",
        "arrival_s,input_tokens,output_tokens\n0,4808,10\n0.052,3180,8\n0.052,110,27\n",
    ),
    "azure": (
        "w.csv",
        "TIMESTAMP,ContextTokens,GeneratedTokens\r\n2023-11-16 18:17:03.9799600,4808,10\r\n"
        "2023-11-16 18:17:04.0319600,3180,8\r\n2023-11-16 18:17:04.0319600,110,27",
    ),
    "mooncake": (
        "w.jsonl",
        '{"timestamp": 0, "input_length": 4808, "output_length": 10, "hash_ids": [1, 2]}\n'
        '{"timestamp": 52, "input_length": 3180, "output_length": 8, "hash_ids": []}\n'
        '{"timestamp": 52, "input_length": 110, "output_length": 27, "hash_ids": [3]}\n',
    ),
    "mooncake-ms": (
        "w.csv",
        "timestamp_ms,input_length,output_length\n0,4808,10\n52,3180,8\n52,110,27\n",
    ),
}


@pytest.mark.parametrize("name", IMPORTERS)
def test_every_importer_reads_its_example(tmp_path: Path, name: str) -> None:
    file, content = EXAMPLES[name]
    path = tmp_path / file
    path.write_text(content, newline="")
    table = read_workload(path).table
    assert table["input_tokens"].to_list() == [4808, 3180, 110]
    assert table["output_tokens"].to_list() == [10, 8, 27]
    np.testing.assert_allclose(table["arrival_s"].to_numpy(), [0, 0.052, 0.052], atol=1e-9)
    assert table["count"].to_list() == [1, 1, 1]


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_our_format_round_trips(tmp_path: Path, suffix: str) -> None:
    frame = pl.DataFrame(
        {
            "arrival_s": [0.0, 1.5],
            "input_tokens": [10, 20],
            "output_tokens": [1, 2],
            "count": [3, 4],
            "class": ["chat", None],
            "deadline_s": [None, 9.0],
        }
    )
    path = tmp_path / f"w.{suffix}"
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](
        path
    )
    workload = read_workload(path)
    assert workload.queries == 7
    assert workload.table.equals(frame.select(workload.table.columns))


def test_compressed_csv_is_read(tmp_path: Path) -> None:
    import gzip

    path = tmp_path / "w.csv.gz"
    path.write_bytes(gzip.compress(EXAMPLES["azure"][1].encode()))
    assert read_workload(path).queries == 3


def test_distinct_queries_keep_every_total() -> None:
    workload = read_workload("azure-conv-2023")
    distinct = workload.distinct()
    assert distinct.count.sum() == workload.queries
    for column, tokens in (("input_tokens", distinct.m), ("output_tokens", distinct.n)):
        assert (tokens * distinct.count).sum() == workload.table[column].sum()
    pairs = list(zip(distinct.m, distinct.n, strict=True))
    assert pairs == sorted(set(pairs))
