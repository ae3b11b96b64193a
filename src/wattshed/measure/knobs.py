"""Clocks and power limits: what can be set, what would change, and how it is put back.

Nothing here changes anything but `put_back`; leases do (`wattshed.measure.lease`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from wattshed.errors import FileError, InputError, MeterError, ParameterError
from wattshed.files import read_json

SCHEMA = "wattshed/settings/1"


class Settings(msgspec.Struct, frozen=True):
    """Clock and power limit; None where it is not known, or shall be left alone.

    Attributes
    ----------
    clock_mhz : float or None
    power_limit_w : float or None
    """

    clock_mhz: float | None = None
    power_limit_w: float | None = None

    def known(self) -> dict[str, float]:
        """By name, those that are not None."""
        found = {"clock_mhz": self.clock_mhz, "power_limit_w": self.power_limit_w}
        return {name: value for name, value in found.items() if value is not None}

    def each(self) -> list[Settings]:
        """One by one, those that are not None."""
        return [Settings(**{name: value}) for name, value in self.known().items()]


class Knobs(Protocol):
    """What can be set on one component."""

    @property
    def id(self) -> str:
        """As people name it: ``nvml:0``."""
        ...

    @property
    def component(self) -> str:
        """As meters say what they cover: its UUID."""
        ...

    def read(self) -> Settings:
        """What is set now."""
        ...

    def check(self, wanted: Settings) -> None:
        """Change nothing, and raise `ParameterError` or `MeterError` if it cannot be set."""
        ...

    def set(self, wanted: Settings) -> None:
        """Set the one that is not None.

        Raises
        ------
        MeterError
            Then it is as it was.
        """
        ...

    def verify(self, wanted: Settings) -> None:
        """Raise `MeterError` unless it is as it was just set, as far as this can be read."""
        ...

    def restore(self, earlier: Settings, wanted: Settings) -> None:
        """Put back what setting `wanted` changed.

        Raises
        ------
        MeterError
        """
        ...


KNOBS: dict[str, str] = {"nvml": "wattshed.measure.knobs_nvidia:open_knobs"}
"""Knobs by name, as ``module:function``: a function of the components' names, "" for all."""


class Change(msgspec.Struct, frozen=True):
    """One setting of one component that a lease changes.

    Attributes
    ----------
    id : str
        ``nvml:0``; may name another GPU after a reboot.
    knobs, component : str
        What opens it again: a name in `KNOBS`, and the UUID.
    earlier : Settings
        All that were known.
    wanted : Settings
        The one that is not None.
    """

    id: str
    knobs: str
    component: str
    earlier: Settings
    wanted: Settings

    def __str__(self) -> str:
        ((name, after),) = self.wanted.known().items()
        before = self.earlier.known().get(name)
        return f"{self.id}: {name} {'unknown' if before is None else f'{before:g}'} -> {after:g}"


class State(msgspec.Struct, frozen=True):
    """The state file: who changes what.

    Attributes
    ----------
    pid : int
    begun_s : float
        Since the epoch.
    changes : list of Change
    schema : str
    """

    pid: int
    begun_s: float
    changes: list[Change]
    schema: str = SCHEMA


def open_knobs(text: str) -> list[Knobs]:
    """Knobs that ``NAME[:COMPONENTS]`` asks for: ``nvml``, ``nvml:0,2``.

    Raises
    ------
    ParameterError, MeterError
    """
    name, _, components = text.partition(":")
    if name not in KNOBS:
        raise ParameterError("settings", f"{name!r} is unknown", f"use one of {', '.join(KNOBS)}")
    module, _, function = KNOBS[name].partition(":")
    opener: Callable[[str], list[Knobs]] = getattr(importlib.import_module(module), function)
    return opener(components)


def plan_settings(
    gpus: str, *, clock_mhz: float | None = None, power_limit_w: float | None = None
) -> list[Change]:
    """What a lease would change; changes nothing.

    Raises
    ------
    ParameterError
        If a value is outside what a GPU supports, naming the range.
    MeterError
        If there is no such GPU, or it has no such knob.
    """
    return changes_of(gpus, open_knobs(gpus), Settings(clock_mhz, power_limit_w))


def changes_of(gpus: str, knobs: Sequence[Knobs], wanted: Settings) -> list[Change]:
    """What setting `wanted` on `knobs`, opened by `gpus`, would change; see `plan_settings`."""
    for knob in knobs:
        knob.check(wanted)
    name = gpus.partition(":")[0]
    return [
        Change(knob.id, name, knob.component, knob.read(), one)
        for knob in knobs
        for one in wanted.each()
    ]


def put_back(changes: Iterable[Change]) -> None:
    """Restore what was there, on each component, even if another one fails.

    Raises
    ------
    MeterError
        Naming those that could not be restored.
    """
    failures = []
    for change in changes:
        try:
            knob = open_knobs(f"{change.knobs}:{change.component}")[0]
            knob.restore(change.earlier, change.wanted)
        except InputError as error:
            failures.append(f"{change} ({error.found})")
    if failures:
        raise MeterError(
            "settings",
            f"could not be put back: {'; '.join(failures)}",
            "start wattshed again as root; or reset them by hand and remove the state file",
            "not_permitted",
        )


def read_state(path: Path) -> State:
    """Read a state file.

    Raises
    ------
    FileError
    """
    cure = "reset clocks and power limits by hand, then remove the file"
    state = read_json(path, State, cure)
    if state.schema != SCHEMA:
        raise FileError(str(path), f"has schema {state.schema!r}", cure)
    return state
