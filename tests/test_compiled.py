"""What is said while the simulator is compiled for the first time."""

from __future__ import annotations

from numba import njit

from wattshed.compiled import when_compiling


def test_it_is_said_once_when_something_is_compiled_and_not_again() -> None:
    said: list[str] = []
    one, two = njit(lambda x: x + 1), njit(lambda x: x + 2)
    with when_compiling(lambda: said.append("compiling")):
        assert one(1) + two(1) == 5
    assert said == ["compiling"]
    with when_compiling(lambda: said.append("again")):
        assert one(2) == 3
    assert said == ["compiling"]
