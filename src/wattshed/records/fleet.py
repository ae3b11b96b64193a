"""What a plan or a simulation may use: deployments with their settings, and SLO classes."""

from __future__ import annotations

from typing import Annotated

import msgspec

from wattshed.records.iteration import IterationProfile
from wattshed.records.profile import Profile
from wattshed.records.site import Site

Positive = Annotated[float, msgspec.Meta(gt=0)]


class Slo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency promise of one class of queries, in seconds.

    Attributes
    ----------
    ttft_s : float or None
        Time to the first token.
    tbt_s : float or None
        Time between tokens.
    e2e_s : float or None
        Time to the last token.
    """

    ttft_s: Positive | None = None
    tbt_s: Positive | None = None
    e2e_s: Positive | None = None


class Upstream(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a gateway finds the replicas of a deployment, and how long it waits for them.

    Attributes
    ----------
    urls : list of str
        One for each replica, such as ``http://10.0.0.5:8000``; ``/v1/...`` is added.
    models : list of str
        Names under which clients ask for it; the model of the profile if empty.
    engine_model : str or None
        Name that the engine is told; the first of `models` if None.
    drops : list of str
        Fields of a request that the engine refuses.
    health_path : str
        Asked for now and then: an answer below 500 means that the engine is there.
    connect_s : float
        Longest time until a connection is there.
    first_byte_s : float
        Longest time until the first token, or the whole answer where it is not streamed.
    idle_s : float
        Longest time between two parts of an answer.
    max_in_flight : int
        Most requests that a replica is sent at once.
    metrics : str or None
        Where an engine tells Prometheus how busy it is: a path at its address, or, for one
        replica, a URL on the same host; not asked if None.
    metrics_age_s : float
        Age from which on what it told counts no more.
    key_env, key_file : str or None
        Environment variable, or file, with the API key that engines are sent.
    meters : list of str
        What meters each replica, as ``wattshed measure --meter`` names it: one for each URL, or
        one for all. Replicas with the same text, here and elsewhere, share one meter.
    """

    urls: Annotated[list[str], msgspec.Meta(min_length=1)]
    models: list[str] = []
    engine_model: str | None = None
    drops: list[str] = []
    health_path: str = "/health"
    connect_s: Positive = 2.0
    first_byte_s: Positive = 120.0
    idle_s: Positive = 60.0
    max_in_flight: Annotated[int, msgspec.Meta(ge=1)] = 256
    metrics: str | None = None
    metrics_age_s: Positive = 5.0
    key_env: str | None = None
    key_file: str | None = None
    meters: list[str] = []

    def meter_of(self, replica: int) -> str | None:
        """What meters a replica; None if nothing does."""
        if not self.meters:
            return None
        return self.meters[replica if len(self.meters) > 1 else 0]


class Deployment(msgspec.Struct, frozen=True):
    """A profile with its settings in this fleet.

    Attributes
    ----------
    profile : Profile or IterationProfile
        Of single queries, or of the steps of an engine that batches them.
    idle_power_w : float or None
        Power of one idle replica that stays on whatever the plan decides: it is inside
        the profile's gross energy, and no plan can save it. None if unknown.
    host_power_w : float
        Power added for the time a query runs, where the profile leaves the host out.
    accuracy : float or None
        Overrides the profile's.
    min_share, max_share : float or None
        Bounds on the part of the queries that it gets.
    max_queries, max_tokens : int or None
        Bounds on its queries, and on their input and output tokens together.
    utilisation : float
        Part of replicas x horizon that it may be busy, where a horizon is given.
    site : str or None
        Where it stands: a key of `Fleet.sites`.
    max_batch, chunk_tokens, kv_tokens : int or None
        Settings of the engine of an iteration profile; what None stands for is in
        `EngineSettings`.
    clock : float or None
        Fraction of the highest clock, of an iteration profile.
    sleep_after_s : float or None
        Time after which an idle replica of an iteration profile sleeps; None if it never does.
    upstream : Upstream or None
        None if no gateway sends it requests.
    """

    name: str
    profile: Profile | IterationProfile
    replicas: int = 1
    max_input_tokens: int | None = None
    max_output_tokens: int | None = None
    max_context_tokens: int | None = None
    idle_power_w: float | None = None
    host_power_w: float = 0.0
    accuracy: float | None = None
    min_share: float | None = None
    max_share: float | None = None
    max_queries: int | None = None
    max_tokens: int | None = None
    utilisation: float = 1.0
    site: str | None = None
    max_batch: int | None = None
    chunk_tokens: int | None = None
    kv_tokens: int | None = None
    clock: float | None = None
    sleep_after_s: float | None = None
    upstream: Upstream | None = None


class Fleet(msgspec.Struct, frozen=True):
    """Deployments with unique names, and the SLO classes.

    Attributes
    ----------
    slo : dict
        By class of query; ``default`` is for the others.
    sites : dict
        By name: factors of carbon, water and cost.
    """

    name: str
    deployments: list[Deployment]
    slo: dict[str, Slo] = {}
    content_hash: str = ""
    sites: dict[str, Site] = {}


class Sleep(msgspec.Struct, frozen=True):
    """How an idle replica sleeps.

    Attributes
    ----------
    after_s : float
        Idle time after which it falls asleep.
    power_w : float
        While it sleeps, all accelerators together.
    ready_s, ready_energy_j : float
        From the request that wakes it to its first step.
    """

    after_s: float
    power_w: float
    ready_s: float
    ready_energy_j: float


class EngineSettings(msgspec.Struct, frozen=True):
    """What the engine of a deployment is set to, defaults included; each replica alike.

    Attributes
    ----------
    max_batch : int
        Most sequences that decode together.
    chunk_tokens : int
        Most tokens of a step, one for each decoding sequence included.
    kv_tokens : int
        Tokens that the KV cache holds; 2**62 where nothing limits them.
    max_context_tokens : int
        Longest input and answer together.
    clock : float
        Fraction of the highest.
    idle_power_w : float
        Model loaded, no request.
    static_power_w : float
        Part of the power that does not follow the clock.
    sleep : Sleep or None
        None if idle replicas stay awake.
    sources : dict
        Where each setting comes from, by its name.
    notes : list of str
        What a reader of a result has to know about them.
    """

    max_batch: int
    chunk_tokens: int
    kv_tokens: int
    max_context_tokens: int
    clock: float
    idle_power_w: float
    static_power_w: float
    sleep: Sleep | None
    sources: dict[str, str]
    notes: list[str]
