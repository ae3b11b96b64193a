"""What a ledger of served requests adds up to, and what it tells of one of them."""

from __future__ import annotations

import msgspec

from wattshed.records.common import Interval
from wattshed.records.route import Weighed
from wattshed.records.site import Impact


class LedgerGroup(msgspec.Struct, frozen=True):
    """Requests that have something in common.

    Attributes
    ----------
    name : str or None
        What they have in common: a tenant, a model, an endpoint, the start of an hour (UTC). None
        where the ledger does not say.
    outcomes : dict
        Requests by outcome.
    input_tokens, output_tokens : int
        Of the requests whose tokens are known.
    with_energy : int
        Requests whose energy is known; all that follows of energy is theirs.
    without_idle : int
        Of these, those whose idle part is not known: their dynamic energy is gross.
    dynamic_j, idle_j : float or None
        None where no energy is known, or no idle part.
    energy_per_request_j, energy_per_output_token_j : float or None
        Gross: dynamic and idle. By output token of the requests that made any.
    net_energy_per_request_j, net_energy_per_output_token_j : float or None
        Dynamic alone; None unless the idle part of each is known.
    extrapolated : int
        Requests outside the sizes that their profile was fitted to.
    methods, boundaries : list of str
        Of their energies.
    promised, kept : int
        Requests that were promised a latency, where it was seen; those that got it.
    attainment : float or None
        kept / promised; None where nothing was promised.
    """

    name: str | None
    requests: int
    outcomes: dict[str, int]
    input_tokens: int
    output_tokens: int
    with_energy: int
    without_idle: int
    dynamic_j: float | None
    idle_j: float | None
    energy_per_request_j: float | None
    energy_per_output_token_j: float | None
    net_energy_per_request_j: float | None
    net_energy_per_output_token_j: float | None
    extrapolated: int
    methods: list[str]
    boundaries: list[str]
    promised: int
    kept: int
    attainment: float | None


class LedgerForecast(msgspec.Struct, frozen=True):
    """What was predicted of the served requests of an endpoint, and what it came to.

    Attributes
    ----------
    requests : int
        Whose energy was predicted before, and is known after.
    predicted_j, final_j : float
        Net of idle power, where that is known. Predictions are for the batches that plans assume,
        receipts for the batch that there was.
    difference : float or None
        final_j / predicted_j - 1; None where nothing was predicted to be needed.
    expected_output_tokens, output_tokens : float, int
        Behind the two.
    """

    endpoint: str
    requests: int
    predicted_j: float
    final_j: float
    difference: float | None
    expected_output_tokens: float
    output_tokens: int


class LedgerImpact(msgspec.Struct, frozen=True):
    """What the energy of requests caused at a site.

    Attributes
    ----------
    requests : int
        Whose energy it is.
    """

    site: str
    requests: int
    impact: Impact


class LedgerDifference(msgspec.Struct, frozen=True):
    """By how much a figure of the canary's requests is above that of the others.

    Attributes
    ----------
    name : str
        Field of `LedgerGroup`.
    value : float or None
    interval : Interval or None
        None where there is no value. A difference is significant if 0 is not inside.
    reason : str
        Why there is none.
    """

    name: str
    value: float | None
    interval: Interval | None
    reason: str = ""


class LedgerComparison(msgspec.Struct, frozen=True):
    """A canary against the policy that decided beside it, for requests drawn by their ids.

    Attributes
    ----------
    policy, canary_policy : str
    control, canary : LedgerGroup
        Requests that each decided for.
    differences : list of LedgerDifference
        canary - control.
    """

    policy: str
    canary_policy: str
    control: LedgerGroup
    canary: LedgerGroup
    differences: list[LedgerDifference]


class LedgerDrift(msgspec.Struct, frozen=True):
    """Metered against modelled energy of the served requests of an endpoint.

    Attributes
    ----------
    requests : int
        Of which both are known.
    modelled_j, metered_j : float
        Dynamic energy.
    ratio : float
        metered_j / modelled_j.
    low, high : float or None
        95 % of the ratio, requests taken as drawn at random; None where they are few.
    alarm : bool
        All of the interval is further from 1 than is tolerated: the profile no longer holds.
    """

    endpoint: str
    requests: int
    modelled_j: float
    metered_j: float
    ratio: float
    low: float | None
    high: float | None
    alarm: bool


class LedgerMeter(msgspec.Struct, frozen=True):
    """What a meter said, and where it went.

    dynamic_j + idle_of_requests_j + idle_j + unattributed_j = metered_j.

    Attributes
    ----------
    meter : str
        As the fleet names it.
    endpoints : str
        JSON list.
    kind : str
        ``modelled`` where its energy was used by no machine.
    seconds, silent_s : float
        With energy, and without.
    metered_j, low_j, high_j : float
        Bounds are sums of those of the windows.
    dynamic_j, idle_of_requests_j : float
        Of requests.
    idle_j : float
        While nobody was there.
    unattributed_j : float
        Above the idle power with nobody who worked, or below it.
    """

    meter: str
    endpoints: str
    boundary: str
    kind: str
    seconds: float
    silent_s: float
    metered_j: float
    low_j: float
    high_j: float
    dynamic_j: float
    idle_of_requests_j: float
    idle_j: float
    unattributed_j: float


class LedgerSummary(msgspec.Struct, frozen=True):
    """What a ledger adds up to.

    Attributes
    ----------
    first_at, last_at : float
        Arrivals, seconds since 1970.
    impacts : list of LedgerImpact or None
        By site and boundary of energy; None without a fleet.
    no_site : int or None
        Requests with energy whose deployment has no site in the fleet, and which `impacts` leaves
        out; None without a fleet.
    comparisons : list of LedgerComparison
        Of canaries; empty where there was none.
    drifts : list of LedgerDrift
    meters : list of LedgerMeter
    """

    first_at: float
    last_at: float
    total: LedgerGroup
    tenants: list[LedgerGroup]
    models: list[LedgerGroup]
    endpoints: list[LedgerGroup]
    hours: list[LedgerGroup]
    forecasts: list[LedgerForecast]
    impacts: list[LedgerImpact] | None = None
    no_site: int | None = None
    comparisons: list[LedgerComparison] = []
    drifts: list[LedgerDrift] = []
    meters: list[LedgerMeter] = []


class WeighedEndpoint(msgspec.Struct, frozen=True):
    """An endpoint that could have taken a request.

    Attributes
    ----------
    running, waiting : int
        Requests that it had.
    cost : float or None
        What the policy weighed, where it weighs endpoints.
    weighed : Weighed or None
        What it predicted, where it tells.
    """

    endpoint: str
    running: int
    waiting: int
    cost: float | None
    weighed: Weighed | None = None


class WeighedDeployment(msgspec.Struct, frozen=True):
    """A deployment that may serve a request.

    Attributes
    ----------
    joules, runtime_s : float or None
        Predicted from the output that was expected: energy in the batches that plans assume, and
        runtime of the request alone.
    cost : float or None
        What the policy weighed, where it weighs deployments.
    endpoints : list of WeighedEndpoint
        That took requests then; empty if all were full, unwell, or had failed the request.
    """

    deployment: str
    joules: float | None
    runtime_s: float | None
    cost: float | None
    endpoints: list[WeighedEndpoint]
    chosen: bool


class Explanation(msgspec.Struct, frozen=True):
    """One request: what was asked, what was weighed, what became of it.

    Attributes
    ----------
    asked, became : dict
        Columns of the ledger.
    tried : dict
        Endpoints that failed it, with the reason.
    why : list of str
        The decision in sentences.
    """

    id: str
    arrived_at: float
    asked: dict[str, str | int | float | None]
    policy: str | None
    deployment: str | None
    endpoint: str | None
    shadow_endpoint: str | None
    candidates: list[WeighedDeployment]
    tried: dict[str, str]
    why: list[str]
    became: dict[str, str | int | float | bool | None]
