"""What meters say of energy, and what engines say of the queries they served."""

from __future__ import annotations

from typing import Literal

import msgspec

from wattshed.records.common import Boundary, Kind

Scope = Literal["gpu", "gpu_memory", "module", "cpu_package", "dram", "soc", "node", "wall"]
MeterKind = Literal["counter", "power", "log", "model"]
MeterStatus = Literal["ok", "missing", "not_permitted", "not_trusted"]

BOUNDARIES: dict[Scope, Boundary] = {
    "gpu": "accelerator",
    "gpu_memory": "accelerator",
    "module": "accelerator",
    "cpu_package": "host",
    "dram": "host",
    "soc": "host",
    "node": "wall",
    "wall": "wall",
}
"""What each scope is counted towards. A module (GPU with its CPU) counts as accelerator."""


class MeterInfo(msgspec.Struct, frozen=True):
    """What a meter measures, and how well its maker says it does.

    Attributes
    ----------
    id : str
        Unique on the machine: ``nvml:0``, ``rapl:package-0``.
    source : str
        Name of the adapter, as in `wattshed.measure.meter.METERS`.
    kind : {"counter", "power", "log", "model"}
        An energy counter; power that is to be integrated; a record of earlier readings; an
        estimate.
    scope : Scope
    covers : tuple of str
        Components it counts, by an id that other meters share (a GPU's UUID, ``package-0``): two
        meters that cover the same component must not be added.
    vendor, model : str
        Of the hardware.
    provenance : {"measured", "derived", "modelled", "published"}
    resolution_j : float or None
        Smallest step of the counter.
    update_period_s : float or None
        Documented time between new values; None if it is not documented.
    averaging_s : float
        Over which power is averaged by the hardware; 0 for instantaneous power.
    rel_error : float
        Largest relative error that the maker or a study states; 0 if none is stated.
    rel_error_source : str
    range_j : float or None
        The counter begins anew at this value.
    lag_s : float
        Longest time that a value takes to be published, beyond the time between new values; 0 if
        none is stated.
    note : str
    limit_w : float or None
        No power above it is believed; None for what hardware of its scope may draw.
    """

    id: str
    source: str
    kind: MeterKind
    scope: Scope
    covers: tuple[str, ...]
    vendor: str = ""
    model: str = ""
    provenance: Kind = "measured"
    resolution_j: float | None = None
    update_period_s: float | None = None
    averaging_s: float = 0.0
    rel_error: float = 0.0
    rel_error_source: str = ""
    range_j: float | None = None
    lag_s: float = 0.0
    note: str = ""
    limit_w: float | None = None

    @property
    def boundary(self) -> Boundary:
        """What the scope is counted towards."""
        return BOUNDARIES[self.scope]


class Reading(msgspec.Struct, frozen=True):
    """What a meter said at one moment; what it did not say is None, never 0.

    Attributes
    ----------
    t_ns : int
        Monotonic clock, in the middle of the read.
    t_wall_s : float
        Since the epoch.
    energy_j : float or None
        Counter, from an arbitrary zero, as the hardware gives it: wrap-around is not corrected.
    power_w : float or None
    read_s : float
        How long the read took: the value is of some moment within it.
    flags : tuple of str
        What went wrong: ``no_data``, ``not_permitted``, ``stale``, ``scope_widened``.
    """

    t_ns: int
    t_wall_s: float
    energy_j: float | None = None
    power_w: float | None = None
    read_s: float = 0.0
    flags: tuple[str, ...] = ()


class Health(msgspec.Struct, frozen=True):
    """Certificate of a meter: what a short look at its readings shows.

    Attributes
    ----------
    meter : str
        Its id.
    status : {"ok", "missing", "not_permitted", "not_trusted"}
    reason : str
        In one sentence; empty if it is ok.
    cure : str
    readings : int
    seconds : float
        How long it was looked at.
    tick_s, tick_sd_s : float or None
        Time between new values of the counter, as seen; None if it was not seen to change twice.
    resolution_j : float or None
        Smallest step seen.
    mean_power_w : float or None
        From the counter, or of the power readings.
    counter_over_power : float or None
        Energy by the counter over the integral of power; None if it gives only one of them.
    read_s : float or None
        Mean time of a read.
    flags : tuple of str
        ``frozen``, ``zero``, ``backwards``, ``reset``, ``disagrees``, ``spike``, ``duplicate``,
        ``stale``, ``gap``, ``part_time``, ``wrong_unit``, ``clock_step``, ``wrap`` (it may
        have begun anew unseen), ``scope_widened``, ``not_permitted``, ``no_data``.
    """

    meter: str
    status: MeterStatus
    reason: str = ""
    cure: str = ""
    readings: int = 0
    seconds: float = 0.0
    tick_s: float | None = None
    tick_sd_s: float | None = None
    resolution_j: float | None = None
    mean_power_w: float | None = None
    counter_over_power: float | None = None
    read_s: float | None = None
    flags: tuple[str, ...] = ()


class WindowEnergy(msgspec.Struct, frozen=True):
    """Energy between two moments, by one meter.

    Attributes
    ----------
    meter : str
    value_j : float or None
        None where nothing can be said; then `flags` says why.
    low_j, high_j : float or None
        Without a value there may still be a lower bound: what was counted before a break and after.
    method : str
        ``tick-interpolated``, ``counter-difference``, ``power-trapezoid``, ...; and ``between
        rests`` where what the machine draws at rest helped to tell what a query used.
    coverage : float
        Part of the window between readings, from 0 to 1.
    flags : tuple of str
        There is a value in spite of ``gap``, ``wrap``, ``averaged``, ``short``, ``edge`` (no change
        was seen after it: the upper bound is a guess), ``scope_widened``, ``modelled``,
        ``clock_step``, ``spike``, ``stale``, ``disagrees``, ``part_time``, ``duplicate``; none with
        ``no_data``, ``frozen``, ``zero``, ``reset``, ``backwards``, ``jump``, ``unseen_wrap``,
        ``wrong_unit``, ``scope_changed``.
    scope : Scope
    kind : {"measured", "derived", "modelled", "published"}
    """

    meter: str
    value_j: float | None
    low_j: float | None
    high_j: float | None
    method: str
    coverage: float
    flags: tuple[str, ...]
    scope: Scope
    kind: Kind


class DriverInfo(msgspec.Struct, frozen=True):
    """The deployment that an engine driver drives: the settings columns of the runs format.

    Attributes
    ----------
    system, model, engine : str
    accelerator : str
    n_accelerators, tensor_parallel : int
    kv_cache : bool
    clock_mhz : float or None
        None if nobody set one.
    note : str
        For example that weights are random.
    devices : tuple of str
        Its accelerators as meters name them; empty where the driver does not know.
    """

    system: str
    model: str
    engine: str
    accelerator: str = ""
    n_accelerators: int = 1
    tensor_parallel: int = 1
    kv_cache: bool = True
    clock_mhz: float | None = None
    note: str = ""
    devices: tuple[str, ...] = ()


class Generation(msgspec.Struct, frozen=True):
    """A query, or a batch of equal queries, that an engine served.

    Attributes
    ----------
    input_tokens, output_tokens : int
        Of each query, as counted by the engine, or by us where `flags` has ``counted_here``.
    batch_size : int
    begun_ns, ended_ns : int
        Monotonic clock: first byte sent, last token received.
    first_token_ns : int or None
        None where tokens come all at once.
    token_ns : tuple of int
        When each later token came, of the first query of the batch.
    flags : tuple of str
        ``counted_here``, ``fewer_tokens``, ``simulated``, ...
    """

    input_tokens: int
    output_tokens: int
    batch_size: int
    begun_ns: int
    ended_ns: int
    first_token_ns: int | None = None
    token_ns: tuple[int, ...] = ()
    flags: tuple[str, ...] = ()

    @property
    def runtime_s(self) -> float:
        """From the first byte sent to the last token."""
        return (self.ended_ns - self.begun_ns) * 1e-9

    @property
    def ttft_s(self) -> float | None:
        """Time to the first token."""
        if self.first_token_ns is None:
            return None
        return (self.first_token_ns - self.begun_ns) * 1e-9


class MeterFinding(msgspec.Struct, frozen=True):
    """What `doctor` found of one meter, or of a kind of meter of which there is none.

    Attributes
    ----------
    name : str
        Id of the meter, or name of the kind.
    source : str
        Name of the kind, as ``--meter`` takes it.
    kind : {"counter", "power", "log", "model"}
    status : {"ok", "missing", "not_permitted", "not_trusted"}
    reason, cure : str
        Empty if it is ok.
    info : MeterInfo or None
        None if there is no such meter here.
    health : Health or None
    """

    name: str
    source: str
    kind: MeterKind
    status: MeterStatus
    reason: str = ""
    cure: str = ""
    info: MeterInfo | None = None
    health: Health | None = None


class EngineFinding(msgspec.Struct, frozen=True):
    """What `doctor` found of an engine.

    Attributes
    ----------
    name : str
        As ``--engine`` takes it.
    status : {"ok", "missing"}
    reason, cure : str
        Empty if it is ok.
    detail : str
        Versions and devices.
    """

    name: str
    status: Literal["ok", "missing"]
    reason: str = ""
    cure: str = ""
    detail: str = ""


class KnobFinding(msgspec.Struct, frozen=True):
    """What `doctor` found of clock and power limit of one component, or of a kind that is not here.

    Attributes
    ----------
    name : str
        Id of the component, or name of the kind.
    status : {"ok", "missing", "not_permitted"}
        Whether they may be set.
    reason, cure : str
        Empty if it is ok.
    power_limit_w : float or None
        As it is.
    """

    name: str
    status: MeterStatus
    reason: str = ""
    cure: str = ""
    power_limit_w: float | None = None


class Certificate(msgspec.Struct, frozen=True):
    """What a machine can measure, as found at one time; goes with every measurement.

    Attributes
    ----------
    schema, created_by : str
    created : str
        UTC, ISO 8601.
    host, system, boot_id : str
    meters : list of MeterFinding
    engines : list of EngineFinding
    knobs : list of KnobFinding
    """

    created_by: str
    created: str
    host: str
    system: str
    boot_id: str
    meters: list[MeterFinding]
    engines: list[EngineFinding] = []
    knobs: list[KnobFinding] = []
    schema: str = "wattshed/certificate/1"
