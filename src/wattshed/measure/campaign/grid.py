"""Cells of a campaign, and the order in which they are measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

import msgspec
import numpy as np

from wattshed.errors import ParameterError

FIXED_TOKENS = 32
"""Of the other axis, while one is varied, as in the first study (Wilkins et al. 2024, 5.2)."""


class Cell(msgspec.Struct, frozen=True):
    """Queries of one size under one setting of the engine and the hardware.

    Attributes
    ----------
    input_tokens, output_tokens : int
    batch_size : int
        Equal queries that are answered at once.
    kv_cache : bool or None
        None for whatever the engine is set to.
    clock_mhz, power_limit_w : float or None
        What the accelerator is held at; None leaves it as it is.
    """

    input_tokens: int
    output_tokens: int
    batch_size: int = 1
    kv_cache: bool | None = None
    clock_mhz: float | None = None
    power_limit_w: float | None = None

    @property
    def tokens(self) -> int:
        """Of all its queries, both ways."""
        return (self.input_tokens + self.output_tokens) * self.batch_size

    def __str__(self) -> str:
        text = f"m={self.input_tokens} n={self.output_tokens}"
        settings = (
            ("batch", self.batch_size if self.batch_size > 1 else None),
            ("kv_cache", self.kv_cache),
            ("MHz", self.clock_mhz),
            ("W", self.power_limit_w),
        )
        return text + "".join(f" {name}={value}" for name, value in settings if value is not None)


def powers_of_two(low: int, high: int) -> tuple[int, ...]:
    """Powers of two from `low` to `high`, both ends included."""
    return tuple(1 << i for i in range(low.bit_length() - 1, high.bit_length()))


INPUTS, OUTPUTS = powers_of_two(8, 2048), powers_of_two(8, 4096)

PRESETS: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "vary-input": (INPUTS, (FIXED_TOKENS,)),
    "vary-output": ((FIXED_TOKENS,), OUTPUTS),
    "joint": (INPUTS, OUTPUTS),
    "adaptive": (INPUTS, OUTPUTS),
}
"""Input and output tokens by name: every pair of them is a cell, or a candidate for one."""

EXPERIMENTS = {"vary-input": "input", "vary-output": "output", "joint": "grid"}
"""What the runs of a preset are called, in the words of the first study; others keep their name."""


def make_cells(
    inputs: Iterable[int],
    outputs: Iterable[int],
    batches: Iterable[int] = (1,),
    *,
    kv_cache: bool | None = None,
    clocks_mhz: Iterable[float | None] = (None,),
    power_limits_w: Iterable[float | None] = (None,),
) -> tuple[Cell, ...]:
    """Every combination, each once.

    Raises
    ------
    ParameterError
        If a number of tokens or queries is below 1, or there is no cell.
    """
    every = product(inputs, outputs, batches, (kv_cache,), clocks_mhz, power_limits_w)
    cells = tuple(dict.fromkeys(Cell(*values) for values in every))
    if not cells:
        raise ParameterError("cells", "there are none", "give input and output tokens")
    for cell in cells:
        if min(cell.input_tokens, cell.output_tokens, cell.batch_size) < 1:
            raise ParameterError("cells", str(cell), "give whole numbers from 1 up")
        if any(value is not None and value <= 0 for value in (cell.clock_mhz, cell.power_limit_w)):
            raise ParameterError("cells", str(cell), "give a clock and a power limit above 0")
    return cells


def order_of_round(cells: int, seed: int, number: int) -> list[int]:
    """The order in which a round visits all cells.

    Trial k of every cell comes before trial k + 1 of any, each round in an order of its own: what
    drifts (heat, other users) falls on all cells alike, and not on those that are measured last.

    Parameters
    ----------
    cells : int
    seed : int
    number : int
        Of the round, from 0.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, number]))
    return [int(i) for i in rng.permutation(cells)]


def start_of(cells: Sequence[Cell]) -> list[int]:
    """Cells that an adaptive campaign begins with: lowest, middle and highest of both axes."""
    inputs = _spread([cell.input_tokens for cell in cells])
    outputs = _spread([cell.output_tokens for cell in cells])
    return [
        i
        for i, cell in enumerate(cells)
        if cell.input_tokens in inputs and cell.output_tokens in outputs
    ]


def _spread(values: Sequence[int]) -> set[int]:
    found = sorted(set(values))
    return {found[0], found[len(found) // 2], found[-1]}
