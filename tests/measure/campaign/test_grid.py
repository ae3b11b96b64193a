"""Cells of the presets, and their order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import ParameterError
from wattshed.measure.campaign.grid import (
    PRESETS,
    Cell,
    make_cells,
    order_of_round,
    powers_of_two,
    start_of,
)


def test_the_presets_are_those_of_the_first_study() -> None:
    tokens = {
        name: [(cell.input_tokens, cell.output_tokens) for cell in make_cells(*preset)]
        for name, preset in PRESETS.items()
    }
    inputs = [8, 16, 32, 64, 128, 256, 512, 1024, 2048]
    outputs = [*inputs, 4096]
    assert tokens["vary-input"] == [(m, 32) for m in inputs]
    assert tokens["vary-output"] == [(32, n) for n in outputs]
    assert tokens["joint"] == [(m, n) for m in inputs for n in outputs]
    assert tokens["adaptive"] == tokens["joint"]


def test_every_combination_is_a_cell_once() -> None:
    cells = make_cells(
        [8, 16, 8], [32], [1, 4], clocks_mhz=[900.0, 1400.0], power_limits_w=[None, 250.0]
    )
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 2
    assert Cell(8, 32, 4, None, 900.0, 250.0) in cells
    assert str(Cell(8, 32, 4, None, 900.0, 250.0)) == "m=8 n=32 batch=4 MHz=900.0 W=250.0"


@pytest.mark.parametrize(
    ("inputs", "outputs", "clocks"), [([], [8], [None]), ([0], [8], [None]), ([8], [8], [-1.0])]
)
def test_what_is_no_cell_is_refused(
    inputs: list[int], outputs: list[int], clocks: list[float | None]
) -> None:
    with pytest.raises(ParameterError, match="cells"):
        make_cells(inputs, outputs, clocks_mhz=clocks)


def test_powers_of_two_include_both_ends() -> None:
    assert powers_of_two(8, 64) == (8, 16, 32, 64)
    assert powers_of_two(1, 1) == (1,)


@given(st.integers(1, 200), st.integers(0, 1000), st.integers(0, 30))
def test_a_round_visits_every_cell_once(cells: int, seed: int, number: int) -> None:
    order = order_of_round(cells, seed, number)
    assert sorted(order) == list(range(cells))
    assert order == order_of_round(cells, seed, number)


def test_rounds_and_seeds_differ_in_their_order() -> None:
    orders = {tuple(order_of_round(30, seed, k)) for seed in range(3) for k in range(5)}
    assert len(orders) == 15


def test_an_adaptive_campaign_starts_at_ends_and_middles() -> None:
    cells = make_cells(*PRESETS["adaptive"])
    found = {(cells[i].input_tokens, cells[i].output_tokens) for i in start_of(cells)}
    assert found == {(m, n) for m in (8, 128, 2048) for n in (8, 256, 4096)}
