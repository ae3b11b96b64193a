"""Halves: every query in exactly one, in order where there is one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wattshed import read_workload
from wattshed.errors import ParameterError
from wattshed.workload.split import split_half
from wattshed.workload.table import Workload

Maker = Callable[..., Workload]
ROWS = st.lists(
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 50)), min_size=2, max_size=30
)


def with_arrivals(workload: Workload) -> Workload:
    arrival = pl.Series("arrival_s", np.arange(workload.table.height) * 2.0)
    return replace(workload, table=workload.table.with_columns(arrival))


def expanded(workload: Workload) -> list[tuple[int, int]]:
    table = workload.table.select(
        pl.col("input_tokens", "output_tokens").repeat_by("count").explode()
    )
    return table.rows()


@pytest.mark.parametrize("timed", [True, False])
@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS, seed=st.integers(0, 9))
def test_halves_partition_the_queries(
    make_workload: Maker, rows: list, seed: int, timed: bool
) -> None:
    workload = make_workload(*(list(column) for column in zip(*rows, strict=True)))
    if timed:
        workload = with_arrivals(workload)
    first, second = split_half(workload, seed=seed)
    assert first.queries == workload.queries // 2
    parts = expanded(first) + expanded(second)
    assert sorted(parts) == sorted(expanded(workload))
    if timed:
        assert parts == expanded(workload)
        assert second.table["arrival_s"][0] == 0


def test_a_trace_is_split_by_arrival() -> None:
    trace = read_workload("azure-conv-2023")
    first, second = split_half(trace)
    assert (first.queries, second.queries) == (9683, 9683)
    assert trace.span_s is not None
    assert first.span_s is not None
    assert second.span_s is not None
    assert first.span_s + second.span_s < trace.span_s
    assert first.name == "azure-conv-2023 (first half)"
    assert "by arrival" in second.provenance.note
    assert first.content_hash == trace.content_hash


def test_counts_are_split_at_random_and_it_is_said() -> None:
    halves = split_half(read_workload("alpaca"), seed=3)
    for half in halves:
        assert "random shuffle (seed 3)" in half.provenance.note
    means = [float(h.distinct().n @ h.distinct().count) / h.queries for h in halves]
    assert means[0] == pytest.approx(means[1], rel=0.05)
    again = split_half(read_workload("alpaca"), seed=3)
    assert again[0].table.equals(halves[0].table)
    assert not split_half(read_workload("alpaca"), seed=4)[0].table.equals(halves[0].table)


def test_what_cannot_be_split_is_refused(make_workload: Maker) -> None:
    with pytest.raises(ParameterError, match="single query"):
        split_half(make_workload([1], [1]))
    with pytest.raises(ParameterError, match="too many to shuffle"):
        split_half(make_workload([1], [1], [10**9]))
    lost = replace(make_workload([1, 2], [1, 2]), aggregated=True, span_s=5.0)
    with pytest.raises(ParameterError, match="aggregated while they were read"):
        split_half(lost)


def test_groups_that_never_had_arrivals_are_split_at_random(make_workload: Maker) -> None:
    first, second = split_half(replace(make_workload([1, 2], [1, 2], [7, 8]), aggregated=True))
    assert (first.queries, second.queries) == (7, 8)
