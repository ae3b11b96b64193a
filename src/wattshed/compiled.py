"""How the simulator is compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from numba import njit
from numba.core.cpu import CPUTargetOptions

Function = TypeVar("Function", bound=Callable[..., Any])

OPTIONS: dict[str, Any] = {"error_model": "numpy"}
if hasattr(CPUTargetOptions, "_nrt"):
    # Nothing in the event loop makes an array, so none has to be counted. Without this option,
    # which numba does not promise to keep, it counts the references to every array of `World` at
    # every call, and the loop takes seven times as long. For the same reason all functions are
    # put into the one that calls them.
    OPTIONS["_nrt"] = False


UNCALLED = {**OPTIONS, "no_cpython_wrapper": True, "no_cfunc_wrapper": True}
"""Of functions that only compiled ones call."""


def compiled(function: Function) -> Function:
    """Compile the event loop, and keep it for the next process."""
    return cast(Function, njit(cache=True, **OPTIONS)(function))


def called(function: Function) -> Function:
    """Compile a rare part of it on its own, so that the rest is compiled sooner."""
    return cast(Function, njit(**UNCALLED)(function))


def inlined(function: Function) -> Function:
    """Compile a part of the event loop into it."""
    return cast(Function, njit(forceinline=True, **UNCALLED)(function))
