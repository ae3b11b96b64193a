"""Least marginal energy among the endpoints that keep their promises.

`wattshed.route.frugal_rule` is the rule itself, which the simulator applies, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import msgspec
import numpy as np

from wattshed.engines.model import OneQueryDeployment
from wattshed.errors import ParameterError
from wattshed.fleet import DEFAULT_CLASS, Fleet, Slo
from wattshed.learning import KEEP_GAIN, part_after
from wattshed.profiles import predict
from wattshed.records import Decision, Endpoint, Profile, Request, Served, Told
from wattshed.replicas import engines_of
from wattshed.route.desk import Desk, columns_of
from wattshed.route.frugal_rule import USUAL_OF, Budgets, no_budgets, settle_one
from wattshed.route.outlook import Outlook, forecast
from wattshed.route.policy import FilteredPolicy, Tell

ONE = np.ones(1, np.int64)
REMEMBERED = 65_536
"""Costs of queries alone that are kept."""
INF = math.inf
BY_NAME = attrgetter("name")
PROMISED = "ttft", "tbt", "e2e"
Limits = tuple[float, float, float]
"""On TTFT, TBT and E2E; inf for none."""
NO_LIMITS = (INF, INF, INF)


@dataclass(frozen=True)
class Aim:
    """How closely limits are approached.

    Attributes
    ----------
    headroom : float
        Part of the limits that is not used at first.
    target : float
        Part of the promises that is to be kept.
    every_token : bool
        The limit on TBT holds for each token, and not for their mean.
    """

    headroom: float = 0.1
    target: float = 0.99
    every_token: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.headroom < 1:
            found = f"{self.headroom:g}"
            raise ParameterError("policy headroom", found, "give a part, from 0 to below 1")
        if not 0 < self.target <= 1:
            found = f"{self.target:g}"
            raise ParameterError("policy target", found, "give a part above 0, up to 1")


class _Charge(NamedTuple):
    """What budgets were charged with when a request was sent."""

    kind: int
    tenant: int
    joules: float
    sent_s: float


class _Seen(msgspec.Struct, frozen=True, gc=False):
    """What a decision found; called, it tells it."""

    order: list[Endpoint]
    weighed: tuple[float, ...]
    limits: Limits
    keep: float
    late: float

    def __call__(self) -> Told:
        ttft_s, tbt_s, joules, price_j = columns_of(self.weighed)
        names = [endpoint.name for endpoint in self.order]
        limits_s = {} if self.limits == NO_LIMITS else _stated(self.limits)
        return Told(names, joules, price_j, ttft_s, tbt_s, limits_s, self.keep, self.late)


class Frugal(FilteredPolicy):
    """Where a request adds least to the energy of the fleet, and nobody's promise is broken.

    For each endpoint it predicts the TTFT of the newcomer and the TBT of all who would be there.
    Of those that keep both it takes the one whose energy grows least; where none keeps them, the
    least late. How much of the limits may be used up is learned from what became of requests.

    Parameters
    ----------
    fleet : Fleet
    packs : bool
        Take the fullest of those that keep their promises instead: "highest load feasible", as
        PolyServe does within a class.
    promises : dict, optional
        By SLO class; those of the fleet unless told.
    aim : Aim, optional
    budgets : Budgets, optional
    tenants : dict, optional
        Number of each tenant in the budgets.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        packs: bool = False,
        promises: Mapping[str, Slo] | None = None,
        aim: Aim | None = None,
        budgets: Budgets | None = None,
        tenants: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__(fleet, self._best)
        self._aim = aim or Aim()
        self._packs, self._keep = packs, 1.0 - self._aim.headroom
        self._promises = fleet.slo if promises is None else promises
        self._limits = {name: _limits(slo) for name, slo in self._promises.items()}
        self._usual_limits = self._limits.get(DEFAULT_CLASS, _limits(Slo()))
        self._budgets = budgets or no_budgets(len(fleet.deployments))
        self._charges = len(self._budgets.queue) > 0
        self._tenants = dict(tenants or {})
        self._charged: dict[str, _Charge] = {}
        self._usual: tuple[float, float] | None = None
        engines = engines_of(fleet.deployments, ONE, ONE)
        self._desk = Desk(engines, self._budgets)
        self._kind = {d.name: k for k, d in enumerate(fleet.deployments)}
        self._one_query = [
            (k, engine.name)
            for k, engine in enumerate(engines)
            if isinstance(engine, OneQueryDeployment)
        ]
        self._alone_cost = lru_cache(REMEMBERED)(self._cost_alone)
        self._last: Tell | None = None

    def remember(self, sizes: int) -> None:
        """See `FilteredPolicy.remember`."""
        super().remember(sizes)
        self._alone_cost = lru_cache(sizes)(self._cost_alone)

    def finished(self, served: Served) -> None:
        """Learn from what became of a request."""
        if served.kept is not None:
            self._keep = part_after(self._keep, served.kept, self._aim.target, KEEP_GAIN)
        charge = self._charged.pop(served.id, None) if self._charged else None
        if charge is not None and served.energy_j is not None:
            more = served.energy_j - charge.joules
            settle_one(self._budgets, charge.kind, charge.tenant, more, charge.sent_s)

    def told(self) -> Tell | None:
        """See `Telling`."""
        return self._last

    def _best(self, request: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        order = sorted(found, key=BY_NAME) if len(found) > 1 else found
        limits, late, tenant = self._want(request, outlook)
        desk, keep = self._desk, self._keep
        index, joules = desk.choose(order, self._kind, keep, self._packs)
        self._last = _Seen(order, desk.weighed(len(order)), limits, keep, late)
        chosen = order[index]
        if self._charges:
            if request.id in self._charged:  # sent once more
                joules += self._charged[request.id].joules
            kind = self._kind[chosen.deployment]
            self._charged[request.id] = _Charge(kind, tenant, joules, request.arrival_s)
        return Decision(chosen.name)

    def _want(self, request: Request, outlook: Outlook) -> tuple[Limits, float, int]:
        """Write a request down; its limits, the length that they are kept for, and its tenant."""
        m, n = request.input_tokens, forecast(request)
        late = request.late_output_tokens
        if late is None:
            late = n
        usual_m, usual_n = self._usual or (float(m), n)
        usual_m += USUAL_OF * (m - usual_m)
        usual_n += USUAL_OF * (n - usual_n)
        self._usual = usual_m, usual_n
        ttft_s, tbt_s, e2e_s = limits = self._limits_of(request)
        tenant = self._tenants.get(request.tenant, -1) if self._tenants else -1
        every, now_s = self._aim.every_token, request.arrival_s
        desk = self._desk
        desk.want(m, n, late, ttft_s, tbt_s, e2e_s, every, usual_m, usual_n, tenant, now_s)
        for kind, name in self._one_query:
            if name in outlook.runtime_s:
                runtime_s = outlook.runtime_s[name]
                first_s, energy_j = self._alone_cost(kind, m, n)
                desk.alone(kind, runtime_s, energy_j, min(first_s, runtime_s))
        return limits, late, tenant

    def _limits_of(self, request: Request) -> Limits:
        limits = self._limits.get(request.slo_class, self._usual_limits)
        if request.deadline_s is None:
            return limits
        ttft, tbt, e2e = limits
        return ttft, tbt, min(e2e, request.deadline_s)

    def _cost_alone(self, kind: int, m: int, n: float) -> tuple[float, float]:
        """r(m, 1) and gross energy where a query is served alone."""
        deployment = self.fleet.deployments[kind]
        assert isinstance(deployment.profile, Profile)
        found = predict(deployment.profile, m, n)
        first_s = float(predict(deployment.profile, m, 1).runtime_s[0])
        return first_s, float(found.energy_j[0] + deployment.host_power_w * found.runtime_s[0])


def _stated(limits: Limits) -> dict[str, float]:
    return {name: s for name, s in zip(PROMISED, limits, strict=True) if s < INF}


def _limits(slo: Slo) -> Limits:
    ttft, tbt, e2e = (
        INF if limit is None else limit for limit in (slo.ttft_s, slo.tbt_s, slo.e2e_s)
    )
    return ttft, tbt, e2e


def frugal(
    fleet: Fleet,
    *,
    promises: Mapping[str, Slo] | None = None,
    aim: Aim | None = None,
    budgets: Budgets | None = None,
    tenants: Mapping[str, int] | None = None,
) -> Frugal:
    """Least marginal energy among those that keep their promises; see `Frugal`."""
    return Frugal(fleet, promises=promises, aim=aim, budgets=budgets, tenants=tenants)


def packed(
    fleet: Fleet, *, promises: Mapping[str, Slo] | None = None, aim: Aim | None = None
) -> Frugal:
    """Highest load feasible: the fullest of those that keep their promises; see `Frugal`."""
    return Frugal(fleet, packs=True, promises=promises, aim=aim)
