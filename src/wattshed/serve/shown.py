"""What the dashboard shows, as records: the words of ``/ui/state``."""

from __future__ import annotations

import msgspec

from wattshed.serve.savings import Saved


class EndpointNow(msgspec.Struct, frozen=True):
    """An endpoint as it is.

    Attributes
    ----------
    usable : bool
        It can be sent requests: it is up, and its breaker is closed.
    simulated : bool
        Whether its answers say that they are.
    """

    name: str
    deployment: str
    model: str
    up: bool
    usable: bool
    running: int
    waiting: int
    max_in_flight: int
    simulated: bool


class Scene(msgspec.Struct, frozen=True):
    """The gateway as it is.

    Attributes
    ----------
    up_s : float
        Since when it runs.
    switched_off : bool
        The kill switch: the default policy decides.
    shadow : str or None
    queue : int
        Requests that wait for room.
    ledger : str
        ``ok``, or what is wrong with it.
    ledger_backlog : int
        Rows that are not committed.
    """

    version: str
    up_s: float
    ready: bool
    policy: str
    switched_off: bool
    shadow: str | None
    queue: int
    ledger: str
    ledger_backlog: int
    endpoints: list[EndpointNow]


class Latency(msgspec.Struct, frozen=True):
    """Quantiles of a time, s; None where no request has it."""

    requests: int
    p50_s: float | None
    p90_s: float | None
    p99_s: float | None


class Attainment(msgspec.Struct, frozen=True):
    """Promises kept.

    Attributes
    ----------
    promised, kept : int
        Requests that were promised a latency which was seen; those that got it.
    share, low, high : float or None
        kept / promised, and its 95 % interval (Wilson's); None where nothing was promised.
    """

    promised: int
    kept: int
    share: float | None
    low: float | None
    high: float | None


class Figures(msgspec.Struct, frozen=True):
    """Figures of some requests.

    Attributes
    ----------
    name : str
        Endpoint; ``all`` for all of them.
    outcomes : dict
        Requests by outcome.
    dynamic_w, idle_w : float or None
        Energy of the requests that ended in the power window, by its length: what they added, and
        their part of the idle power. None where it is not known of any.
    joules_per_output_token : float or None
        Dynamic and idle energy by output tokens, of requests whose energy is known.
    methods : dict
        Requests whose energy is known, by how: ``attributed`` and ``estimated`` were metered.
    boundaries : list of str
        Of their energies.
    ttft, e2e : Latency
        Time to the first token, where it was streamed; to the end. From arrival, of what was
        served.
    """

    name: str
    requests: int
    outcomes: dict[str, int]
    dynamic_w: float | None
    idle_w: float | None
    joules_per_output_token: float | None
    methods: dict[str, int]
    boundaries: list[str]
    attainment: Attainment
    ttft: Latency
    e2e: Latency


class State(msgspec.Struct, frozen=True):
    """What ``/ui/state`` answers.

    Attributes
    ----------
    gateway : Scene
    span_s : float
        How far back the figures go.
    window_s : float
        Over which powers are means.
    simulated : bool
        Whether any figure comes from a simulated engine.
    total : Figures
    endpoints : list of Figures
    saved : Saved
    bin_s : float
    power : dict
        By endpoint: W in each bin, the oldest first; the last bin ends now.
    points : list
        The latest served requests: input tokens, output tokens, number of the endpoint in
        `endpoints`.
    """

    gateway: Scene
    span_s: float
    window_s: float
    simulated: bool
    total: Figures
    endpoints: list[Figures]
    saved: Saved
    bin_s: float
    power: dict[str, list[float]]
    points: list[tuple[int, int, int]]
