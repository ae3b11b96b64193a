"""What is said while the simulator is compiled for the first time, and how it is called."""

from __future__ import annotations

import numpy as np
from numba import njit

from wattshed.compiled import ready, when_compiling


def test_it_is_said_once_when_something_is_compiled_and_not_again() -> None:
    said: list[str] = []
    one, two = njit(lambda x: x + 1), njit(lambda x: x + 2)
    with when_compiling(lambda: said.append("compiling")):
        assert one(1) + two(1) == 5
    assert said == ["compiling"]
    with when_compiling(lambda: said.append("again")):
        assert one(2) == 3
    assert said == ["compiling"]


def test_what_is_ready_for_arguments_gives_what_the_function_gives() -> None:
    def least(columns, number, none):
        return columns[1][:number].min() if none is None else -1.0

    function, columns = njit(least), (np.arange(3), np.array([3.0, 1.0, 2.0]))
    found = ready(function, columns, 1, None)
    for number in (1, 2, 3):
        assert found(columns, number, None) == function(columns, number, None)
    columns[1][0] = 0.5
    assert found(columns, 3, None) == 0.5
    assert ready(least, columns, 1, None) is least
