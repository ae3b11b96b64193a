"""What simulations of a fleet found: latency, energy by whom and by state, and savings."""

from __future__ import annotations

import msgspec

from wattshed.records.common import Interval
from wattshed.records.site import Impact


class Latency(msgspec.Struct, frozen=True):
    """Distribution of a latency, in seconds; None where nothing is known of it.

    Attributes
    ----------
    mean, p50, p90, p99, max : float or None
    """

    mean: float | None
    p50: float | None
    p90: float | None
    p99: float | None
    max: float | None


class SimulatedEnergy(msgspec.Struct, frozen=True):
    """Energy of a simulation, in joules, by whom it is charged to; `total` is the sum.

    Attributes
    ----------
    total : float
        Integral of the power of all replicas from 0 to the end.
    requests_dynamic : float
        What requests add to the steps they are in.
    requests_static : float
        Static power of these steps, shared equally among those in them.
    idle : float
        Of replicas with nothing to do: idle, asleep or off.
    transitions : float
        Of replicas that wake up or boot.
    """

    total: float
    requests_dynamic: float
    requests_static: float
    idle: float
    transitions: float


class ClassResult(msgspec.Struct, frozen=True):
    """Requests of one SLO class.

    Attributes
    ----------
    name : str
    requests, completed : int
    attainment : float or None
        Part of its requests that were served with TTFT, TPOT and E2E within their limits; None
        if the class has none.
    ttft_limit_s, tbt_limit_s, e2e_limit_s : float or None
    ttft_s, tpot_s, e2e_s : Latency
    dynamic_energy_per_request_j : float or None
        What those that were served added, without static energy; None if none was.
    """

    name: str
    requests: int
    completed: int
    attainment: float | None
    ttft_limit_s: float | None
    tbt_limit_s: float | None
    e2e_limit_s: float | None
    ttft_s: Latency
    tpot_s: Latency
    e2e_s: Latency
    dynamic_energy_per_request_j: float | None = None


class DeploymentResult(msgspec.Struct, frozen=True):
    """One deployment of the fleet.

    Attributes
    ----------
    name : str
    replicas : int
    requests : int
        That it was sent.
    output_tokens : int
        Of the requests that it served.
    energy_j : float
    busy : float
        Part of the time in which its replicas serve.
    power_w : float
        Mean of one replica.
    """

    name: str
    replicas: int
    requests: int
    output_tokens: int
    energy_j: float
    busy: float
    power_w: float


class Stack(msgspec.Struct, frozen=True):
    """Power over time, of one replication.

    Attributes
    ----------
    edges_s : list of float (B + 1)
    by_state_w : dict
        Mean power of the fleet in each bin (B), by state.
    by_replica_w : dict
        The same by replica, named ``deployment/number``.
    """

    edges_s: list[float]
    by_state_w: dict[str, list[float]]
    by_replica_w: dict[str, list[float]]


class Distribution(msgspec.Struct, frozen=True):
    """A cumulative distribution of one replication, thinned for a picture.

    Attributes
    ----------
    value : list of float
    part : list of float
        Of the requests, or tokens, with at most that value.
    """

    value: list[float]
    part: list[float]


class SimulatedPolicy(msgspec.Struct, frozen=True):
    """How a policy with a controller did; means over the replications.

    Attributes
    ----------
    name : str
        Of the policy.
    controller : str
        E.g. ``pinned``, ``static:0.7``, ``phases``.
    settings : dict
        Of both, as text.
    replications : int
    requests, completed, failed : int
        Per replication, rounded; failed ones were rejected, lost or not finished in time.
    rejected, lost, unfinished, retries, preemptions : int
    duration_s : float
    throughput_per_s, goodput_per_s : float
        Requests served; requests served within their limits.
    output_tokens_per_s : float
    ttft_s, tbt_s, tpot_s, e2e_s : Latency
        `tbt_s` is of all times between two tokens, none left out; tpot of each request's mean.
    attainment : float or None
        Part of all requests that were served with TTFT, TBT and E2E within the limits of
        their class; TBT is the mean of the request (TPOT), or each of its times between tokens,
        as was asked for. None without SLO.
    attainment_every_token : float or None
        With each of the times between tokens.
    classes : list of ClassResult
    energy_j : SimulatedEnergy
    energy_by_state_j : dict
    energy_per_request_j, energy_per_output_token_j : float
        Gross: all energy over what was served.
    net_energy_per_request_j, net_energy_per_output_token_j : float
        Without idling and transitions, and without the static part of steps.
    balance_error : float
        Largest of the replications: energy by request and state less the integral of power,
        relative to it.
    deployments : list of DeploymentResult
    impacts : dict
        Carbon, water and cost by site.
    modelled : list of str
        What rests on assumptions, with their sources.
    intervals : dict
        95 % intervals over the replications, by field: ``attainment``, ``energy_per_request_j``,
        ``energy_per_output_token_j``, ``ttft_p99_s``, ``tbt_p99_s``, ``goodput_per_s``; empty
        with one replication.
    bound_j : float or None
        Energy that no schedule of the same requests on these replicas can undercut.
    gap : float or None
        Energy above it, relative to it.
    accuracy : float or None
        Mean over the requests that were served; None if a deployment that served some does not say.
    partial : bool
        The simulation was stopped before its end.
    stack : Stack or None
    cdf : dict
        ``ttft_s``, ``tbt_s``, ``e2e_s`` to Distribution.
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
    retries: int
    preemptions: int
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
    energy_j: SimulatedEnergy
    energy_by_state_j: dict[str, float]
    energy_per_request_j: float
    energy_per_output_token_j: float
    net_energy_per_request_j: float
    net_energy_per_output_token_j: float
    balance_error: float
    deployments: list[DeploymentResult]
    impacts: dict[str, Impact]
    modelled: list[str]
    intervals: dict[str, Interval]
    bound_j: float | None = None
    gap: float | None = None
    accuracy: float | None = None
    partial: bool = False
    stack: Stack | None = None
    cdf: dict[str, Distribution] = {}

    @property
    def label(self) -> str:
        """Policy and controller."""
        return f"{self.name} + {self.controller}"


class Saving(msgspec.Struct, frozen=True):
    """Energy of one contender against another, paired by replication.

    Attributes
    ----------
    contender, baseline : str
        Labels.
    saving : float
        1 - energy of the contender over that of the baseline.
    interval : Interval or None
        95 %, over the replications; None with fewer than two.
    attainment_difference : float
        Contender less baseline; 0 without SLO.
    equal_attainment : bool
        Both reach the target, or they differ by at most half a point: only then the saving is one.
    sentence : str
        The same in words, e.g. why it is no saving.
    """

    contender: str
    baseline: str
    saving: float
    interval: Interval | None
    attainment_difference: float
    equal_attainment: bool
    sentence: str


class SimulationResults(msgspec.Struct, frozen=True):
    """All contenders of one simulation.

    Attributes
    ----------
    fleet, workload : str
    arrivals : str
        In words.
    requests : int
    rate_per_s : float
        Mean rate of arrivals.
    replications : int
    seeds : list of int
    policies : list of SimulatedPolicy
    savings : list of Saving
        Of each contender against the first of them, and against the baselines that are there.
    notes : list of str
        What a reader has to know.
    partial : bool
    """

    fleet: str
    workload: str
    arrivals: str
    requests: int
    rate_per_s: float
    replications: int
    seeds: list[int]
    policies: list[SimulatedPolicy]
    savings: list[Saving]
    notes: list[str]
    partial: bool = False
