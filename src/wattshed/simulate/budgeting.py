"""Budgets of a simulation: what requests may use on average, as virtual queues of `frugal`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from msgspec import structs

from wattshed.engines.model import Array
from wattshed.errors import ParameterError
from wattshed.fleet import Deployment, Fleet
from wattshed.impact import impact_of
from wattshed.plan.problem import predict_problem
from wattshed.records import Profile
from wattshed.route.frugal_rule import Budgets
from wattshed.simulate.model import Requests
from wattshed.simulate.policies import Promises
from wattshed.units import JOULES_PER_KWH
from wattshed.workload.table import Queries

PERIOD_S = 3600.0
PATIENCE = 10.0
"""Requests whose whole use may be owed before a budget weighs as much as a request's energy."""
FORMS = "accuracy=PART, carbon=GRAMS, energy=JOULES or energy:CLASS=JOULES, means per request"


@dataclass(frozen=True)
class _Budget:
    """Use per joule (K, H) and per request (K,), and what is allowed.

    Attributes
    ----------
    tenant : int
        SLO class whose requests it is about; -1 for all.
    scale : float
        Use of a request that matters: the queue is priced by it.
    """

    unit: Array
    fixed: Array
    allowance: float
    scale: float
    tenant: int = -1


def with_budgets(
    promises: Promises, texts: Sequence[str], fleet: Fleet, requests: Requests
) -> Promises:
    """Promises with budgets, which the policy ``frugal`` keeps on average.

    Parameters
    ----------
    promises : Promises
    texts : sequence of str
        ``accuracy=PART`` is to be reached; ``carbon=GRAMS``, ``energy=JOULES`` and, for the
        requests of an SLO class, ``energy:CLASS=JOULES`` are not to be exceeded. All are means
        per request, of the energy that requests add.
    fleet : Fleet
    requests : Requests

    Raises
    ------
    ParameterError
        If a budget is not known, or the fleet does not say what it takes.
    """
    if not texts:
        return promises
    hours = int(requests.arrival_s[-1] // PERIOD_S) + 2
    made = [_budget(text, fleet, requests, hours) for text in texts]
    typical_j = _typical_j(fleet, promises, requests)
    budgets = Budgets(
        np.stack([each.unit for each in made]),
        np.stack([each.fixed for each in made]),
        np.array([each.allowance for each in made]),
        np.array([typical_j / (PATIENCE * each.scale**2) for each in made]),
        np.array([each.tenant for each in made]),
        np.zeros(len(made)),
        PERIOD_S,
    )
    assert requests.group is not None
    return replace(promises, budgets=budgets, tenant=requests.group)


def _budget(text: str, fleet: Fleet, requests: Requests, hours: int) -> _Budget:
    name, _, value = text.partition("=")
    kind, _, group = name.partition(":")
    try:
        amount = float(value)
    except ValueError:
        amount = np.nan
    none = np.zeros((len(fleet.deployments), hours))
    if not 0 < amount < np.inf:
        raise ParameterError("budget", repr(text), f"give {FORMS}")
    if kind == "accuracy" and not group:
        accuracy = np.array([accuracy_of(each) for each in fleet.deployments])
        if amount > accuracy.max():
            cure = f"give at most {accuracy.max():g}, the accuracy of the best deployment"
            raise ParameterError("budget", repr(text), cure)
        spread = max(float(np.ptp(accuracy)), 1e-9)
        return _Budget(none, amount - accuracy, 0.0, spread)
    if kind == "carbon" and not group:
        unit = np.stack([_grams_per_joule(fleet, d, hours) for d in fleet.deployments])
        return _Budget(unit, none[:, 0], amount, amount)
    if kind == "energy" and (not group or group in requests.classes):
        tenant = requests.classes.index(group) if group else -1
        return _Budget(none + 1, none[:, 0], amount, amount, tenant)
    known = ", ".join(each for each in requests.classes if each) or "none"
    cure = f"give {FORMS}; SLO classes of the workload: {known}"
    raise ParameterError("budget", repr(text), cure)


def accuracy_of(deployment: Deployment) -> float:
    """Of a deployment, or of its profile.

    Raises
    ------
    ParameterError
        If neither says.
    """
    found = stated_accuracy(deployment)
    if found is None:
        where = f"{deployment.name}.accuracy"
        raise ParameterError(where, "is not stated", "give it in the fleet, from 0 to 1")
    return found


def stated_accuracy(deployment: Deployment) -> float | None:
    """Of a deployment, or of its profile; None if neither says."""
    if deployment.accuracy is not None or not isinstance(deployment.profile, Profile):
        return deployment.accuracy
    return deployment.profile.accuracy


def _grams_per_joule(fleet: Fleet, deployment: Deployment, hours: int) -> Array:
    """Carbon of a joule in each hour (H,), with what the building adds."""
    site = fleet.sites.get(deployment.site or "")
    edges = np.arange(hours + 1) * PERIOD_S
    grams = []
    for begin, end in pairwise(edges.tolist()):
        impact = None if site is None else impact_of([JOULES_PER_KWH], [begin, end], site)
        if impact is None or impact.carbon_g is None:
            where = f"{deployment.name}.site"
            cure = "give it a site with carbon_g_per_kwh or carbon_signal"
            raise ParameterError(where, "has no carbon intensity", cure)
        grams.append(impact.carbon_g / JOULES_PER_KWH)
    return np.array(grams)


def _typical_j(fleet: Fleet, promises: Promises, requests: Requests) -> float:
    """Energy of a mean request, over the deployments."""
    m, n = np.array([requests.input_tokens.mean()]), np.array([promises.expected.mean()])
    one = np.ones(1, np.int64)
    problem = predict_problem(structs.replace(fleet, slo={}), Queries(m, n, one, 0 * one))
    return float(problem.gross_energy_j.mean())
