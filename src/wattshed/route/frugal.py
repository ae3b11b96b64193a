"""Least marginal energy among the endpoints that keep their promises.

`wattshed.route.frugal_rule` is the rule itself, which the simulator applies, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import BatchingDeployment
from wattshed.engines.model import Deployment as Engine
from wattshed.engines.tables import tabulate
from wattshed.errors import ParameterError
from wattshed.fleet import DEFAULT_CLASS, Fleet, Slo
from wattshed.learning import KEEP_GAIN, part_after
from wattshed.profiles import predict
from wattshed.records import Decision, Endpoint, Profile, Request, Served, Told
from wattshed.replicas import engines_of
from wattshed.route.frugal_rule import (
    ENDPOINT,
    USUAL_OF,
    WEIGHED,
    Budgets,
    Wanted,
    choose,
    no_budgets,
    settle_one,
    weigh,
)
from wattshed.route.outlook import Outlook, forecast
from wattshed.route.policy import FilteredPolicy, Tell

ONE = np.ones(1, np.int64)
REMEMBERED = 65_536
"""Costs of queries alone that are kept."""


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


class _Seen(NamedTuple):
    """What a decision is made from."""

    order: list[Endpoint]
    rows: Any
    wanted: Wanted
    keep: float
    budgets: Budgets


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
        self._budgets = budgets or no_budgets(len(fleet.deployments))
        self._tenants = dict(tenants or {})
        self._charged: dict[str, _Charge] = {}
        self._usual: tuple[float, float] | None = None
        engines = engines_of(fleet.deployments, ONE, ONE)
        self._tables, first = tabulate(engines)
        self._blank = _blank(engines, first[1:] - 1)
        self._waking = [_waking(engine) for engine in engines]
        self._kind = {d.name: k for k, d in enumerate(fleet.deployments)}
        self._alone_cost = lru_cache(REMEMBERED)(self._cost_alone)
        self._last: _Seen | None = None

    def remember(self, sizes: int) -> None:
        """See `FilteredPolicy.remember`."""
        super().remember(sizes)
        self._alone_cost = lru_cache(sizes)(self._cost_alone)

    def finished(self, served: Served) -> None:
        """Learn from what became of a request."""
        if served.kept is not None:
            self._keep = part_after(self._keep, served.kept, self._aim.target, KEEP_GAIN)
        charge = self._charged.pop(served.id, None)
        if charge is not None and served.energy_j is not None:
            more = served.energy_j - charge.joules
            settle_one(self._budgets, charge.kind, charge.tenant, more, charge.sent_s)

    def told(self) -> Tell | None:
        """See `Telling`."""
        return None if self._last is None else partial(_told, self._tables, self._last)

    def _best(self, request: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        order = sorted(found, key=attrgetter("name"))
        rows = self._rows(order, request, outlook)
        wanted = self._wanted(request)
        budgets = self._budgets
        if len(budgets.queue):  # as they are before this request
            budgets = budgets._replace(queue=budgets.queue.copy())
        self._last = _Seen(order, rows, wanted, self._keep, budgets)
        index, joules = choose(self._tables, rows, wanted, self._keep, self._packs, self._budgets)
        if len(self._budgets.queue):
            if request.id in self._charged:  # sent once more
                joules += self._charged[request.id].joules
            kind = self._kind[order[index].deployment]
            self._charged[request.id] = _Charge(kind, wanted.tenant, joules, wanted.now_s)
        return Decision(order[index].name)

    def _wanted(self, request: Request) -> Wanted:
        m, n = request.input_tokens, forecast(request)
        late = n if request.late_output_tokens is None else request.late_output_tokens
        before = self._usual or (float(m), n)
        self._usual = (
            before[0] + USUAL_OF * (m - before[0]),
            before[1] + USUAL_OF * (n - before[1]),
        )
        slo = self._promises.get(request.slo_class, self._promises.get(DEFAULT_CLASS, Slo()))
        limits = (slo.ttft_s, slo.tbt_s, slo.e2e_s)
        ttft, tbt, e2e = (np.inf if limit is None else limit for limit in limits)
        due = np.inf if request.deadline_s is None else request.deadline_s
        tenant = self._tenants.get(request.tenant, -1)
        limits = (ttft, tbt, min(e2e, due))
        every = self._aim.every_token
        return Wanted(m, n, late, *limits, every, *self._usual, tenant, request.arrival_s)

    def _rows(self, order: list[Endpoint], request: Request, outlook: Outlook) -> Any:
        """The endpoints as the rule reads them."""
        kinds = [self._kind[e.deployment] for e in order]
        rows = self._blank[kinds]
        rows["batch"] = [e.running for e in order]
        rows["held"] = [e.context_tokens for e in order]
        rows["waiting"] = [e.waiting for e in order]
        rows["backlog"] = [e.prompt_tokens for e in order]
        rows["load"] = rows["batch"] + rows["waiting"]
        for i, endpoint in enumerate(order):
            if endpoint.asleep:
                rows["extra_s"][i], rows["extra_j"][i] = self._waking[kinds[i]]
        for kind in set(kinds):
            if self._blank["alone"][kind]:
                mine = rows["kind"] == kind
                runtime_s = outlook.runtime_s[self.fleet.deployments[kind].name]
                first_s, energy_j = self._alone_cost(kind, request.input_tokens, forecast(request))
                rows["runtime_s"][mine] = runtime_s
                rows["first_s"][mine] = min(first_s, runtime_s)
                rows["energy_j"][mine] = energy_j
        return rows

    def _cost_alone(self, kind: int, m: int, n: float) -> tuple[float, float]:
        """r(m, 1) and gross energy where a query is served alone."""
        deployment = self.fleet.deployments[kind]
        assert isinstance(deployment.profile, Profile)
        found = predict(deployment.profile, m, n)
        first_s = float(predict(deployment.profile, m, 1).runtime_s[0])
        return first_s, float(found.energy_j[0] + deployment.host_power_w * found.runtime_s[0])


def _told(tables: Any, seen: _Seen) -> Told:
    """What a decision predicted of each endpoint."""
    found, wanted = np.zeros(len(seen.rows), WEIGHED), seen.wanted
    weigh(tables, seen.rows, wanted, seen.budgets, found)
    joules, price_j, ttft_s, tbt_s = (
        found[name].tolist() for name in ("joules", "price_j", "ttft_s", "tbt_s")
    )
    limits = {"ttft": wanted.ttft_s, "tbt": wanted.tbt_s, "e2e": wanted.e2e_s}
    return Told(
        [endpoint.name for endpoint in seen.order],
        joules,
        price_j,
        ttft_s,
        tbt_s,
        {name: limit for name, limit in limits.items() if limit < np.inf},
        seen.keep,
        wanted.n_late,
    )


def _blank(engines: Sequence[Engine], clock: NDArray[np.int64]) -> Any:
    """What of the rows of `ENDPOINT` is the same for all endpoints of an engine (K,)."""
    rows = np.zeros(len(engines), ENDPOINT)
    rows["kind"] = np.arange(len(engines))
    rows["idle_w"] = [engine.idle_power_w for engine in engines]
    for row, engine, f in zip(rows, engines, clock, strict=True):
        row["alone"] = not isinstance(engine, BatchingDeployment)
        if isinstance(engine, BatchingDeployment):
            row["f"], row["max_batch"], row["chunk"] = f, engine.max_batch, engine.chunk_tokens
            row["kv"] = engine.kv_tokens
    return rows


def _waking(engine: Engine) -> tuple[float, float]:
    """Seconds and joules until an engine that sleeps can begin; the idling it saved is forgone."""
    if not isinstance(engine, BatchingDeployment) or engine.sleep is None:
        return 0.0, 0.0
    s = engine.sleep
    return s.ready_s, s.ready_energy_j + s.after_s * (engine.idle_power_w - s.power_w)


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
