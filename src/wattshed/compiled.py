"""How the simulator is compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from numba import njit, typeof
from numba.core.cpu import CPUTargetOptions
from numba.core.event import Event, Listener, install_listener

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


def ready(function: Function, *like: Any) -> Function:
    """A compiled function for arguments of the same types as those that it is given here.

    Called itself it looks at the types of all its arguments each time, which takes longer than a
    short function.
    """
    versions = getattr(function, "overloads", None)
    if versions is None:
        return function  # nothing is compiled where numba is told not to
    function(*like)
    return cast(Function, versions[tuple(map(typeof, like))].entry_point)


class _Teller(Listener):
    """Calls a function when the first compilation begins."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell, self.told = tell, False

    def on_start(self, event: Event) -> None:  # noqa: ARG002 - numba's signature
        if not self.told:
            self.told = True
            self.tell()

    def on_end(self, event: Event) -> None:
        pass


@contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once if something is compiled meanwhile; not if it was kept from before."""
    with install_listener("numba:compile", _Teller(tell)):
        yield
