"""What a replay against live engines found, under the names that simulations use."""

from __future__ import annotations

import msgspec

from wattshed.records.common import Interval
from wattshed.records.simulation import ClassResult, Distribution, Latency, Stack
from wattshed.records.site import Impact


class ReplayedEnergy(msgspec.Struct, frozen=True):
    """As `SimulatedEnergy`; None where a client cannot know it.

    Attributes
    ----------
    total, idle : float or None
        Derived from the receipts and the idle power of a fleet that was named.
    requests_dynamic, requests_static : float or None
        As the receipts say.
    transitions : float or None
    """

    total: float | None
    requests_dynamic: float | None
    requests_static: float | None
    idle: float | None
    transitions: float | None


class ReplayedDeployment(msgspec.Struct, frozen=True):
    """As `DeploymentResult`; None where a client cannot know it."""

    name: str
    replicas: int | None
    requests: int
    output_tokens: int
    energy_j: float | None
    busy: float | None
    power_w: float | None


class ReplayedPolicy(msgspec.Struct, frozen=True):
    """How a gateway did, as its client saw it. Fields are those of `SimulatedPolicy`, and more.

    Attributes
    ----------
    controller : str
        ``live``.
    unknown : dict
        Why a field is None, by its name.
    lag_s : Latency
        How late requests were sent, of those that were; latencies count from when they were due.
    receipts : int
        Requests served whose answer told its energy.
    methods, boundaries : dict
        How many receipts were of each method, and of each boundary.
    energy_low_j, energy_high_j : float or None
        Sums of the ends of the receipts' intervals.
    errors : dict
        How often requests failed, by reason.
    other_lengths : int
        Requests served whose tokens the server counted otherwise than was asked for.
    """

    name: str
    controller: str
    settings: dict[str, str]
    replications: int
    requests: int
    completed: int
    failed: int
    rejected: int
    lost: int
    unfinished: int
    retries: int | None
    preemptions: int | None
    duration_s: float
    throughput_per_s: float
    goodput_per_s: float
    output_tokens_per_s: float
    ttft_s: Latency
    tbt_s: Latency
    tpot_s: Latency
    e2e_s: Latency
    attainment: float | None
    attainment_every_token: float | None
    classes: list[ClassResult]
    energy_j: ReplayedEnergy
    energy_by_state_j: dict[str, float] | None
    energy_per_request_j: float | None
    energy_per_output_token_j: float | None
    net_energy_per_request_j: float | None
    net_energy_per_output_token_j: float | None
    balance_error: float | None
    deployments: list[ReplayedDeployment]
    impacts: dict[str, Impact] | None
    modelled: list[str]
    intervals: dict[str, Interval]
    bound_j: float | None = None
    gap: float | None = None
    accuracy: float | None = None
    partial: bool = False
    stack: Stack | None = None
    cdf: dict[str, Distribution] = {}
    unknown: dict[str, str] = {}
    lag_s: Latency = Latency(None, None, None, None, None)
    receipts: int = 0
    methods: dict[str, int] = {}
    boundaries: dict[str, int] = {}
    energy_low_j: float | None = None
    energy_high_j: float | None = None
    errors: dict[str, int] = {}
    other_lengths: int = 0

    @property
    def label(self) -> str:
        """Policy and controller."""
        return f"{self.name} + {self.controller}"


class ComparedFigure(msgspec.Struct, frozen=True):
    """One figure of two runs.

    Attributes
    ----------
    name : str
        Path of the field, e.g. ``ttft_s.p50``.
    replayed, other : float or None
    difference : float or None
        replayed / other - 1.
    """

    name: str
    replayed: float | None
    other: float | None
    difference: float | None


class PairedSaving(msgspec.Struct, frozen=True):
    """Energy of the same requests in two runs.

    Attributes
    ----------
    energy : str
        ``dynamic`` (what requests add), or ``charged`` (with their share of static power).
    requests : int
        That both served.
    saving : float
        1 - energy replayed / energy of the other.
    interval : Interval
        95 %, from a bootstrap of blocks of requests that came one after another.
    attainment_difference : float or None
        Replayed less other; None where one has none.
    equal_attainment : bool
    sentence : str
    """

    energy: str
    requests: int
    saving: float
    interval: Interval
    attainment_difference: float | None
    equal_attainment: bool
    sentence: str


class Comparison(msgspec.Struct, frozen=True):
    """A replay beside another run, simulated or replayed.

    Attributes
    ----------
    contender, other : str
        Labels.
    source : str
        Where the other is from.
    figures : list of ComparedFigure
    savings : list of PairedSaving
        Empty where the requests of the other are not there, or are not the same.
    notes : list of str
        What makes the two unlike.
    """

    contender: str
    other: str
    source: str
    figures: list[ComparedFigure]
    savings: list[PairedSaving]
    notes: list[str]


class ReplayResults(msgspec.Struct, frozen=True):
    """A replay, in the fields of `SimulationResults`; `policies` has one entry.

    Attributes
    ----------
    comparisons : list of Comparison
    """

    fleet: str
    workload: str
    arrivals: str
    requests: int
    rate_per_s: float
    replications: int
    seeds: list[int]
    policies: list[ReplayedPolicy]
    savings: list[PairedSaving]
    notes: list[str]
    partial: bool = False
    comparisons: list[Comparison] = []
