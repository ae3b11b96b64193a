"""What a single request may ask for, whatever policy decides for the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import groupby

from msgspec import structs

from wattshed.fleet import Fleet
from wattshed.records import Decision, Endpoint, Request
from wattshed.route.frugal import Frugal
from wattshed.route.outlook import Outlook
from wattshed.route.policy import FilteredPolicy, send_to_first
from wattshed.signals import intensity_at
from wattshed.units import JOULES_PER_KWH

Factors = Callable[[float], Mapping[str, float]]
"""From a time, what a joule of each deployment counts."""


def weighted(fleet: Fleet) -> FilteredPolicy:
    """Where U = λ E/E0 + (1 - λ) R/R0 is least, with the λ of each request.

    E and R are the energy and the runtime that plans predict for the request, alone; E0 and R0 are
    the least of them where it may go, as plans that normalise by the ideal do. λ = 1 is least
    energy, 0 least runtime.

    Parameters
    ----------
    fleet : Fleet
    """

    def least(request: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        names = {endpoint.deployment for endpoint in found}
        energy_j = {name: outlook.cost_j[name] for name in names}
        runtime_s = {name: outlook.runtime_s[name] for name in names}
        weight = 1.0 if request.energy_weight is None else request.energy_weight
        utility = {
            name: _weigh(weight, energy_j[name], min(energy_j.values()))
            + _weigh(1.0 - weight, runtime_s[name], min(runtime_s.values()))
            for name in sorted(names)
        }
        decision = send_to_first(sorted(utility, key=utility.__getitem__), outlook, found)
        return structs.replace(decision, costs=utility)

    return FilteredPolicy(fleet, least)


def _weigh(weight: float, value: float, least: float) -> float:
    """A part of U; where the least is nothing there is nothing to compare with."""
    return weight * (value / least if least > 0 else value)


class Greenest(Frugal):
    """Where a request adds least to the energy of the fleet, or to its carbon, however late it is.

    Promises play no part; what cannot be over by the deadline of the request is left out, as by
    all policies. Of the endpoints of a deployment the rule of `Frugal` takes the cheapest.

    Parameters
    ----------
    fleet : Fleet
    factors : Factors, optional
        Joules count alike unless told.
    """

    def __init__(self, fleet: Fleet, factors: Factors | None = None) -> None:
        super().__init__(fleet, promises={})
        self._factors = factors

    def _best(self, request: Request, outlook: Outlook, found: list[Endpoint]) -> Decision:
        order = sorted(found, key=lambda e: (e.deployment, e.name))
        self._want(structs.replace(request, slo_class="", deadline_s=None), outlook)
        factors = self._factors(request.arrival_s) if self._factors else {}
        costs, best = {}, {}
        for name, those in groupby(order, key=lambda e: e.deployment):
            mine = list(those)
            index, joules = self._desk.choose(mine, self._kind, 1.0, packs=False)
            costs[name], best[name] = joules * factors.get(name, 1.0), mine[index].name
        return Decision(best[min(costs, key=costs.__getitem__)], "", costs)


def carbon_factors(fleet: Fleet, at_s: float) -> dict[str, float] | None:
    """Grams of CO2e that a joule of each deployment causes at a time, with the building's part.

    Parameters
    ----------
    fleet : Fleet
    at_s : float
        Since 1970.

    Returns
    -------
    dict or None
        None unless it is known of every deployment that has engines: what is known of some
        cannot be compared.
    """
    found: dict[str, float] = {}
    for deployment in [d for d in fleet.deployments if d.upstream] or fleet.deployments:
        site = fleet.sites.get(deployment.site or "")
        intensity = None if site is None else intensity_at(site, at_s)
        if site is None or intensity is None:
            return None
        found[deployment.name] = site.pue * intensity / JOULES_PER_KWH
    return found
