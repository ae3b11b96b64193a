"""How the simulator is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


OPTIONS: dict[str, Any] = {
    "cache": True,
    "error_model": "numpy",
    "forceinline": True,
    "_nrt": False,
}
"""Nothing in the event loop makes an array, so none has to be counted: without `_nrt=False` numba
counts the references to every array of `World` at every call, and the loop takes seven times as
long. For the same reason small functions are put into those that call them."""


def compiled(function: Function) -> Function:
    """Compile a function of the event loop."""
    return cast(Function, njit(**OPTIONS)(function))
