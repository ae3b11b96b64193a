"""The least energy that serving some queries can need, whatever the schedule."""

from __future__ import annotations

import msgspec

from wattshed.records.common import Kind


class BoundPart(msgspec.Struct, frozen=True):
    """One deployment in an energy bound.

    Attributes
    ----------
    deployment : str
    on_s : float
        How long its replicas are on, together.
    floor_power_w : float
        Least power of one of its replicas while it is on.
    idle_floor_j : float
        `floor_power_w` for `on_s`.
    dynamic_j, busy_s : float
        Least energy above the floor, and least time, of the queries that it gets where the
        bound is reached. Whole queries: the parts may exceed the bound by a part of one query.
    queries : int
        How many these are.
    """

    deployment: str
    on_s: float
    floor_power_w: float
    idle_floor_j: float
    dynamic_j: float
    busy_s: float
    queries: int


class EnergyBound(msgspec.Struct, frozen=True):
    """No schedule of these queries on these replicas needs less energy than `bound_j`.

    Attributes
    ----------
    bound_j : float
        `idle_floor_j` and `dynamic_j` together.
    idle_floor_j : float
        What the replicas draw at least for as long as they are on.
    dynamic_j : float
        What the queries add at least.
    on_s : float
        How long each replica is on, on average.
    clocks : list of float or None
        Clocks that each step may choose from; None if those of the fleet are fixed.
    parts : list of BoundPart
        By deployment, sorted by name.
    kind : {"derived", "modelled"}
        ``modelled`` if a figure that no data support is in it.
    """

    bound_j: float
    idle_floor_j: float
    dynamic_j: float
    on_s: float
    clocks: list[float] | None
    parts: list[BoundPart]
    kind: Kind
