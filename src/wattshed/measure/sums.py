"""Windows of several meters together, where nothing is counted twice."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from wattshed.errors import ParameterError
from wattshed.records import Kind, MeterInfo, WindowEnergy
from wattshed.records.measure import Scope

WIDER: tuple[Scope, ...] = (
    "gpu_memory",
    "gpu",
    "module",
    "dram",
    "cpu_package",
    "soc",
    "node",
    "wall",
)
"""Scopes from the narrowest to the widest, for the name of a sum."""
WHOLE: tuple[Scope, ...] = ("node", "wall")
"""Scopes that hold all others of a machine."""
IN_MODULE: tuple[Scope, ...] = ("cpu_package", "dram", "soc")
"""Scopes that a module may hold without naming them."""
WEAKEST: tuple[Kind, ...] = ("modelled", "published", "derived", "measured")


def sum_windows(windows: Sequence[WindowEnergy], infos: Sequence[MeterInfo]) -> WindowEnergy:
    """Energy of components that do not overlap, in the same stretch of time.

    Parameters
    ----------
    windows : sequence of WindowEnergy
        Of as many meters.
    infos : sequence of MeterInfo
        Of these meters, and perhaps others.

    Returns
    -------
    WindowEnergy
        Bounds are sums of bounds; no value if any has none. Its kind is the least certain of all,
        its scope the widest, with the flag ``mixed_scopes`` if they differ.

    Raises
    ------
    ParameterError
        If two meters count the same component, or nothing is given.
    """
    known = {info.id: info for info in infos}
    missing = [window.meter for window in windows if window.meter not in known]
    if not windows or missing:
        found = f"has no info of {missing[0]!r}" if missing else "has no windows"
        raise ParameterError("sum of windows", found, "give windows, and the infos of their meters")
    for one, other in combinations(windows, 2):
        _refuse_overlap(known[one.meter], one.scope, known[other.meter], other.scope)
    scopes = {window.scope for window in windows}
    flags = {flag for window in windows for flag in window.flags}
    methods = sorted({window.method for window in windows})
    return WindowEnergy(
        meter="+".join(window.meter for window in windows),
        value_j=_sum([window.value_j for window in windows]),
        low_j=_sum([window.low_j for window in windows]),
        high_j=_sum([window.high_j for window in windows]),
        method=f"sum of {', '.join(methods)}",
        coverage=min(window.coverage for window in windows),
        flags=tuple(sorted(flags | ({"mixed_scopes"} if len(scopes) > 1 else set()))),
        scope=max(scopes, key=WIDER.index),
        kind=min((window.kind for window in windows), key=WEAKEST.index),
    )


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _refuse_overlap(one: MeterInfo, scope: Scope, other: MeterInfo, other_scope: Scope) -> None:
    shared = sorted(set(one.covers) & set(other.covers))
    whole = scope in WHOLE or other_scope in WHOLE
    parts = "module" in (scope, other_scope) and bool({scope, other_scope} & set(IN_MODULE))
    if one.id == other.id or shared or whole or parts:
        what = shared[0] if shared else "the whole machine" if whole else f"parts of {one.id}"
        raise ParameterError(
            "sum of windows",
            f"{one.id} and {other.id} both count {what}",
            "give meters of different components, or the whole alone",
        )
