"""Energy of a trial from the windows of its meters: each component counted once, or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from wattshed.records import Boundary, MeterInfo, WindowEnergy

NO_METER, NO_DATA, MODELLED = "no_meter", "no_data", "modelled"
_KINDS = ("counter", "power", "log", "model")


@dataclass(frozen=True)
class Energy:
    """Energy of a window within a boundary.

    Attributes
    ----------
    value_j, low_j, high_j : float or None
        None where one of the meters cannot say: a part is never given for the whole.
    method : str
    flags : tuple of str
    """

    value_j: float | None
    low_j: float | None
    high_j: float | None
    method: str
    flags: tuple[str, ...]


def meters_to_add(infos: Sequence[MeterInfo]) -> dict[Boundary, tuple[str, ...]]:
    """Meters whose energies may be added, by boundary: no two cover the same component.

    Accelerators come first, so that a host counts only what they do not. Counters come before
    power, both before logs and models; the meter of fewer components before one of more.
    """
    chosen: dict[Boundary, list[str]] = {"accelerator": [], "host": []}
    covered: set[str] = set()
    ranked = sorted(infos, key=lambda info: (_KINDS.index(info.kind), len(info.covers)))
    for boundary, ids in chosen.items():
        for info in ranked:
            components = set(info.covers) or {info.id}
            if info.boundary == boundary and not components & covered:
                ids.append(info.id)
                covered |= components
    return {boundary: tuple(ids) for boundary, ids in chosen.items()}


def meters_that_decide(infos: Sequence[MeterInfo]) -> tuple[str, ...]:
    """Those of accelerators; where there are none, those of the host, whose CPU may compute."""
    chosen = meters_to_add(infos)
    return chosen["accelerator"] or chosen["host"]


def add_up(windows: Sequence[WindowEnergy], meters: Sequence[str]) -> Energy:
    """Sum over meters; low and high are sums, too, as their errors may have one cause.

    Parameters
    ----------
    windows : sequence of WindowEnergy
        Of all meters.
    meters : sequence of str
        Which of them to add.
    """
    if not meters:
        return Energy(None, None, None, "", (NO_METER,))
    by_id = {window.meter: window for window in windows}
    found = [by_id[meter] for meter in meters]
    flags = [flag for window in found for flag in window.flags]
    flags += [MODELLED for window in found if window.kind == "modelled"]
    value, low, high = (
        _total([getattr(window, name) for window in found])
        for name in ("value_j", "low_j", "high_j")
    )
    if value is None:
        flags.append(NO_DATA)
    method = "+".join(dict.fromkeys(window.method for window in found if window.method))
    return Energy(value, low, high, method, tuple(dict.fromkeys(flags)))


def _total(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if len(known) == len(values) else None
