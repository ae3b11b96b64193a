"""The seam of engine drivers: `info`, `generate` and `close`; and the drivers by name."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Protocol

from wattshed.errors import ParameterError
from wattshed.measure.clock import SYSTEM_CLOCK, Clock
from wattshed.records import DriverInfo, Generation

GROUP = "wattshed.drivers"
"""Entry points of other packages: a name, and a function like those in `DRIVERS`."""


class Driver(Protocol):
    """An engine that answers queries of a size that we choose."""

    @property
    def info(self) -> DriverInfo:
        """What is driven."""
        ...

    def generate(self, input_tokens: int, output_tokens: int, batch_size: int = 1) -> Generation:
        """Answer `batch_size` equal queries at once, each of another text, so that none is cached.

        Raises
        ------
        EngineError
            If the engine fails, or cannot produce so many tokens.
        """
        ...

    def close(self) -> None:
        """Let the engine go."""
        ...


USER = re.compile(r"//[^/?#]*@")
DriverOpener = Callable[[str, Mapping[str, str], Clock], Driver]

DRIVERS: dict[str, str] = {
    "transformers": "wattshed.measure.drivers.transformers:open_driver",
    "openai": "wattshed.measure.drivers.openai:open_driver",
    "simulated": "wattshed.measure.drivers.simulated:open_driver",
}
"""Drivers by name, as ``module:function``: imported when they are opened."""


def open_driver(
    text: str, settings: Mapping[str, str] | None = None, clock: Clock = SYSTEM_CLOCK
) -> Driver:
    """Open the engine that ``NAME[:ARGUMENT]`` asks for, such as ``openai:http://HOST:8000/v1``.

    Parameters
    ----------
    text : str
    settings : mapping, optional
        Of the driver, by name; it refuses what it does not know.
    clock : Clock

    Raises
    ------
    ParameterError, EngineError
    """
    name, _, argument = text.partition(":")
    if name in DRIVERS:
        module, _, function = DRIVERS[name].partition(":")
        opener: DriverOpener = getattr(importlib.import_module(module), function)
        return opener(argument, settings or {}, clock)
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        other: DriverOpener = others[name].load()
        return other(argument, settings or {}, clock)
    known = ", ".join([*DRIVERS, *sorted(others)])
    raise ParameterError("engine", f"{name!r} is unknown", f"use one of {known}")


def without_user(text: str) -> str:
    """What asks for an engine, as files may keep it: without user and password of its address.

    Examples
    --------
    >>> without_user("openai:http://me:secret@host:8000/v1")
    'openai:http://host:8000/v1'
    """
    return USER.sub("//", text)
