"""An endpoint as the gateway holds it: its address, its account, and whether it can be used."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from wattshed.engines.model import UNLIMITED
from wattshed.errors import FleetError
from wattshed.fleet import Fleet, engine_keys
from wattshed.plan.service import latencies
from wattshed.records import Deployment, Endpoint, IterationProfile, Upstream
from wattshed.serve.account import Account, Flight
from wattshed.serve.breaker import Breaker
from wattshed.serve.engine_load import Scraped, merged
from wattshed.serve.receipt import Receipts
from wattshed.serve.tokens import on_grid
from wattshed.serving import engine_settings
from wattshed.simulate.external import endpoint_names

if TYPE_CHECKING:
    from wattshed.serve.metering import Watch

ANY = ("auto", "wattshed")
"""Names of a model that leave the choice to the gateway."""


class Target:
    """One replica behind the gateway.

    Parameters
    ----------
    name : str
        ``deployment/number``, as in simulations.
    deployment : Deployment
    upstream : Upstream
    url : str
    key : str, optional
        API key that the engine is sent.

    Attributes
    ----------
    authorization : dict
        The header that holds it; empty where there is none.
    up : bool
        What the last look at its health found; True before the first.
    scraped : Scraped
        What the engine itself tells of its load, where it is asked.
    kv_tokens : int or None
        Tokens that its KV cache holds, where that is known.
    watch : Watch or None
        What meters it.
    """

    def __init__(
        self,
        name: str,
        deployment: Deployment,
        upstream: Upstream,
        url: str,
        key: str | None = None,
    ) -> None:
        self.name, self.deployment, self.upstream = name, deployment, upstream
        self._of = deployment.name
        self.url = url.rstrip("/")
        self.authorization = {} if key is None else {"authorization": f"Bearer {key}"}
        self.alone = not isinstance(deployment.profile, IterationProfile)
        self.account = Account(self.alone)
        self.breaker = Breaker()
        self.up = True
        self.scraped, self.kv_tokens = Scraped(), kv_tokens_of(deployment)
        self.watch: Watch | None = None
        self._prefill_s = lru_cache(maxsize=4096)(self._predict_prefill_s)

    @property
    def full(self) -> bool:
        """Whether it has as many requests as it may have."""
        return self.account.in_flight >= self.upstream.max_in_flight

    def usable(self, now_s: float) -> bool:
        """Whether it is there, as far as is known."""
        return self.up and self.breaker.allows(now_s)

    def open(self, now_s: float) -> bool:
        """Whether a request may be sent to it now: it can be used, and has room."""
        account = self.account
        has_room = account.running + account.waiting < self.upstream.max_in_flight
        return has_room and self.up and self.breaker.allows(now_s)

    def own(self, now_s: float, healthy: bool = True) -> Endpoint:
        """As far as it is known from what was sent and seen here."""
        return self.account.state(self.name, self._of, healthy, now_s)

    def state(self, now_s: float, healthy: bool) -> Endpoint:
        """As a policy is told of it."""
        own, others = self.own(now_s, healthy), self.scraped.others
        if others is None:
            return own
        return merged(own, others, now_s, self.upstream.metrics_age_s, alone=self.alone)

    def begin(self, input_tokens: int, now_s: float) -> Flight:
        """Account for a request that is sent to it."""
        self.breaker.sent()
        return self.account.begin(input_tokens, now_s)

    def expect(self, flight: Flight, expected_tokens: float, now_s: float) -> None:
        """Account for a request of which nothing is seen before its end."""
        if not self.alone:
            account = self.account
            due_s = now_s + self._prefill_s(on_grid(account.prompt_tokens))
            account.expect(flight, due_s, int(expected_tokens / 2))

    def inherit(self, old: Target | None) -> None:
        """Go on with the account of the same endpoint in the fleet as it was."""
        if old is not None and (old.url, old.alone) == (self.url, self.alone):
            self.account, self.breaker, self.up = old.account, old.breaker, old.up
            if old.upstream.metrics == self.upstream.metrics:
                self.scraped = old.scraped

    def engine_model(self) -> str:
        """Name of the model that the engine is told."""
        return self.upstream.engine_model or models_of(self.deployment, self.upstream)[0]

    def _predict_prefill_s(self, tokens: int) -> float:
        found = latencies(self.deployment, np.array([float(tokens)]), np.ones(1))
        return float(found.ttft_s[0])


class Targets:
    """All endpoints of a fleet that have an address.

    Parameters
    ----------
    fleet : Fleet
    before : Targets, optional
        Endpoints of it that stay where they are keep their accounts.

    Raises
    ------
    FleetError
        If none has one, or the key of an engine is not there.
    """

    def __init__(self, fleet: Fleet, before: Targets | None = None) -> None:
        named = [d for d in fleet.deployments if d.upstream]
        if not named:
            raise FleetError(
                f"{fleet.name}: deployments",
                "none has an address",
                "add [deployments.upstream] with urls below one of them",
            )
        self.by_name: dict[str, Target] = {}
        self.by_model: dict[str, list[Target]] = {}
        self.receipts = {d.name: Receipts(d) for d in named}
        keys = engine_keys(fleet)
        for deployment in named:
            assert deployment.upstream is not None
            self._add(deployment, deployment.upstream, keys.get(deployment.name))
        if before is not None:
            for target in self:
                target.inherit(before.by_name.get(target.name))
        for name in ANY:
            self.by_model.setdefault(name, list(self.by_name.values()))

    def __iter__(self) -> Iterator[Target]:
        return iter(self.by_name.values())

    @property
    def models(self) -> list[str]:
        """Names that clients may ask for."""
        return sorted(self.by_model)

    def _add(self, deployment: Deployment, upstream: Upstream, key: str | None) -> None:
        for name, url in zip(endpoint_names([deployment]), upstream.urls, strict=True):
            target = Target(name, deployment, upstream, url, key)
            self.by_name[name] = target
            for model in models_of(deployment, upstream):
                self.by_model.setdefault(model, []).append(target)


def kv_tokens_of(deployment: Deployment) -> int | None:
    """Tokens that the KV cache of a deployment holds; None where nothing says so."""
    if not isinstance(deployment.profile, IterationProfile):
        return None
    held = engine_settings(deployment).kv_tokens
    return held if held < UNLIMITED else None


def models_of(deployment: Deployment, upstream: Upstream) -> list[str]:
    """Names under which clients ask for a deployment."""
    return upstream.models or [deployment.profile.model]
