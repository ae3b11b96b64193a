"""What a router sees and says: a request, the endpoints, and where the request goes."""

from __future__ import annotations

import msgspec


class Request(msgspec.Struct, frozen=True, gc=False):
    """A request as it is when it must be sent somewhere: how long its answer is, is not known.

    Attributes
    ----------
    id : str
    input_tokens : int
    expected_output_tokens : float
        Forecast, 1 or more; fractional where it is a mean.
    slo_class : str
        Empty for none.
    arrival_s : float
        On the clock of the `now_s` that a policy is told.
    deadline_s : float or None
        From arrival to the last token.
    max_output_tokens : int or None
        At which the engine will cut the answer off: no forecast is longer.
    late_output_tokens : float or None
        Quantile of the forecast for which latency is promised; the forecast itself if None.
    tenant : str
        Whose budget it is charged to.
    energy_weight : float or None
        λ that it wishes to be decided with, from 0 to 1; None for none.
    greenest : bool
        Whether it wishes to go where it needs least energy, or carbon, however late.
    """

    id: str
    input_tokens: int
    expected_output_tokens: float
    slo_class: str = ""
    arrival_s: float = 0.0
    deadline_s: float | None = None
    max_output_tokens: int | None = None
    late_output_tokens: float | None = None
    tenant: str = ""
    energy_weight: float | None = None
    greenest: bool = False


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """A replica as a router sees it.

    Attributes
    ----------
    name : str
        Unique among the endpoints.
    deployment : str
        Of the fleet.
    running, waiting : int
        Requests that it works on, and that wait for it. An engine that batches works on those
        that decode; those whose prompts are not processed yet wait.
    context_tokens : int
        Tokens in the KV cache of those that decode.
    prompt_tokens : int
        That are still to be processed.
    asleep : bool
    healthy : bool
        Whether it may be sent anything.
    """

    name: str
    deployment: str
    running: int = 0
    waiting: int = 0
    healthy: bool = True
    context_tokens: int = 0
    prompt_tokens: int = 0
    asleep: bool = False


class Decision(msgspec.Struct, frozen=True, gc=False):
    """Where a request goes, and why.

    Attributes
    ----------
    endpoint : str or None
        None where no endpoint may serve the request.
    reason : str
        Why there is no endpoint; empty where there is one.
    costs : dict
        What the policy weighed, by candidate, least is best: joules or J-equivalents by
        deployment where it weighs energy, requests by endpoint where it weighs load; empty
        where it weighs nothing.
    """

    endpoint: str | None
    reason: str = ""
    costs: dict[str, float] = {}


class Weighed(msgspec.Struct, frozen=True):
    """What a policy predicted of an endpoint that it could have chosen.

    Attributes
    ----------
    joules : float
        That the request would add.
    price_j : float
        What it would pay for the budgets that it uses, as joules.
    ttft_s, tbt_s : float
        Of the request; TBT also of those who are there.
    binding : str
        ``ttft``, ``tbt`` or ``e2e``: which promise is nearest to being broken; empty where nothing
        is promised.
    used : float
        What this promise would use of what may be used of its limit: at most 1 if it is kept.
    """

    joules: float
    price_j: float
    ttft_s: float
    tbt_s: float
    binding: str
    used: float


class Told(msgspec.Struct, frozen=True, gc=False):
    """What a policy predicted when it decided: by endpoint, and what was promised.

    Attributes
    ----------
    endpoints : list of str
    joules, price_j, ttft_s, tbt_s : list of float
        Of each endpoint; see `Weighed`.
    limits_s : dict
        Of ``ttft``, ``tbt`` and ``e2e``, those that are promised.
    usable : float
        Part of the limits that may be used.
    output_tokens : float
        For which promises are kept.
    """

    endpoints: list[str]
    joules: list[float]
    price_j: list[float]
    ttft_s: list[float]
    tbt_s: list[float]
    limits_s: dict[str, float]
    usable: float
    output_tokens: float


class Served(msgspec.Struct, frozen=True, gc=False):
    """What became of a request that was sent.

    Attributes
    ----------
    id : str
        Of the request.
    endpoint : str
    finished_s : float
    kept : bool or None
        Whether the latency that its class was promised was kept; None if nothing was promised, or
        it is not known.
    energy_j : float or None
        What it added (dynamic energy); None if it is not known.
    """

    id: str
    endpoint: str
    finished_s: float
    kept: bool | None = None
    energy_j: float | None = None
