"""The offline energy bound: what no schedule of some queries on some replicas can undercut.

What each query costs at least on each deployment, above the least power of its replicas, is in
`wattshed.plan.least`. The cheapest assignment within the seconds that the replicas are on is an
ordinary plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed.errors import InfeasibleError, ParameterError, UnservableError
from wattshed.fit.forms import Array
from wattshed.fleet import Deployment, Fleet
from wattshed.plan.assign import spread
from wattshed.plan.least import least_costs, rests_on_assumptions
from wattshed.plan.problem import keeps_token_limits
from wattshed.records import BoundPart, EnergyBound
from wattshed.transport.model import Constraint, make_model
from wattshed.transport.solve import solve
from wattshed.workload.table import Queries

ROUNDING = 1e-9
"""Relative room in the seconds, so that replicas that are never idle are not infeasible."""


def energy_bound(
    fleet: Fleet,
    queries: Queries | tuple[ArrayLike, ArrayLike],
    on_s: float | Mapping[str, float],
    *,
    clocks: Sequence[float] | None = None,
) -> EnergyBound:
    """Bound the energy of serving queries on the replicas of a fleet from below.

    Parameters
    ----------
    fleet : Fleet
        Token limits are kept; SLOs, shares and other limits of a plan are not, and so
        the bound also holds for schedules that break them. An idle replica draws its idle power,
        or sleeps where the deployment may; ``host_power_w`` is drawn while a replica works.
    queries : Queries or (input_tokens, output_tokens)
        Arrays (Q,) of whole tokens, one row each, in any order.
    on_s : float or dict
        How long each replica is on, in seconds: for a simulation, its whole duration. Where
        replicas boot, fail or are switched off: by deployment, its replicas together.
    clocks : sequence of float, optional
        Fractions of the highest clock from which every step may choose; those of the fleet
        unless told. Deployments with a profile of single queries have none.

    Returns
    -------
    EnergyBound

    Raises
    ------
    ParameterError
        On a time or a clock out of its range, or tokens that are not whole and positive.
    UnservableError
        If no deployment admits some query: leave out what a simulation rejected.
    InfeasibleError
        If no schedule serves the queries in that time.

    Notes
    -----
    Where a profile's steps contain the prefill, its energy is in the decode steps: a query is
    then bounded by its n - 1 decode tokens, or, if the cache may overflow so that prompts are
    computed again, by n places in the fullest, shortest step.
    """
    queries = queries if isinstance(queries, Queries) else _distinct(*queries)
    deployments = sorted(fleet.deployments, key=lambda d: d.name)
    room_s = np.array([_replica_seconds(d, on_s) for d in deployments])
    least = [least_costs(d, queries, clocks) for d in deployments]
    energy, time = (
        np.stack([getattr(each, name) for each in least], axis=1) for name in ("energy_j", "time_s")
    )
    allowed = np.stack([keeps_token_limits(d, queries) for d in deployments], axis=1)
    _refuse_unservable(fleet, queries, allowed)
    dynamic_j, sent = _assign(deployments, (energy, time, allowed), queries.count, room_s)
    parts = [
        BoundPart(
            deployment=d.name,
            on_s=float(room_s[k]),
            floor_power_w=each.floor_power_w,
            idle_floor_j=float(each.floor_power_w * room_s[k]),
            dynamic_j=float(sent[:, k] @ energy[:, k]),
            busy_s=float(sent[:, k] @ time[:, k]),
            queries=round(float(sent[:, k].sum())),
        )
        for k, (d, each) in enumerate(zip(deployments, least, strict=True))
    ]
    floor_j = sum(part.idle_floor_j for part in parts)
    return EnergyBound(
        bound_j=floor_j + dynamic_j,
        idle_floor_j=floor_j,
        dynamic_j=dynamic_j,
        on_s=float(room_s.sum()) / sum(d.replicas for d in deployments),
        clocks=None if clocks is None else [float(clock) for clock in clocks],
        parts=parts,
        kind="modelled"
        if any(rests_on_assumptions(d, clocks) for d in fleet.deployments)
        else "derived",
    )


def _replica_seconds(deployment: Deployment, on_s: float | Mapping[str, float]) -> float:
    """How long the replicas of a deployment are on together."""
    where = "on_s"
    if isinstance(on_s, Mapping):
        where = f"on_s[{deployment.name!r}]"
        if deployment.name not in on_s:
            raise ParameterError(where, "missing", "give seconds for each deployment")
        found = on_s[deployment.name]
    else:
        found = deployment.replicas * on_s
    if not 0 < found < np.inf:
        raise ParameterError(where, f"{found:g} s", "give seconds, more than 0")
    return float(found)


# ---------------------------------------------------------------- queries


def _distinct(input_tokens: ArrayLike, output_tokens: ArrayLike) -> Queries:
    """Collapse rows to distinct sizes with their count."""
    m, n = (np.atleast_1d(np.asarray(tokens, float)) for tokens in (input_tokens, output_tokens))
    if m.shape != n.shape or m.ndim != 1 or not len(m):
        raise ParameterError(
            "queries", f"shapes {m.shape} and {n.shape}", "give as many input as output tokens"
        )
    sizes = np.stack([m, n], axis=1)
    if not ((sizes >= 1) & (sizes == np.round(sizes))).all():
        raise ParameterError("queries", "tokens that are not whole and positive", "count tokens")
    found, count = np.unique(sizes, axis=0, return_counts=True)
    group = np.zeros(len(found), np.int64)
    return Queries(found[:, 0], found[:, 1], count.astype(np.int64), group, ("",))


def _refuse_unservable(fleet: Fleet, queries: Queries, allowed: NDArray[np.bool_]) -> None:
    nowhere = np.flatnonzero(~allowed.any(axis=1))
    if len(nowhere):
        m, n = int(queries.m[nowhere[0]]), int(queries.n[nowhere[0]])
        raise UnservableError(
            f"query with input_tokens={m}, output_tokens={n}",
            f"no deployment of {fleet.name} may serve it",
            "leave it out, or raise the token limits of a deployment",
        )


# ---------------------------------------------------------------- assignment


def _assign(
    deployments: list[Deployment],
    costs: tuple[Array, Array, NDArray[np.bool_]],
    count: NDArray[np.int64],
    room_s: Array,
) -> tuple[float, Array]:
    """Least energy in J within the seconds, and how many queries go where (Q, K)."""
    energy, time, allowed = costs
    k = len(deployments)
    choice = np.where(allowed, energy, np.inf).argmin(axis=1)
    sent = np.eye(k)[choice] * count[:, None]
    if ((sent * time).sum(axis=0) <= room_s).all():
        return float((sent * energy).sum()), sent
    constraints = []
    for index, deployment in enumerate(deployments):
        usage = np.zeros((k, 2))
        usage[index, 1] = 1.0
        bound = float(room_s[index]) * (1 + ROUNDING)
        constraints.append(Constraint(f"busy time of {deployment.name}", "s", usage, bound))
    model = make_model(energy, time[None], allowed, count.astype(float), tuple(constraints))
    solution = solve(model)
    if not solution.feasible:
        raise InfeasibleError(
            "on_s",
            "no schedule serves these queries in the seconds of the replicas:"
            f" {', '.join(f'{d.name} {s:g} s' for d, s in zip(deployments, room_s, strict=True))}",
            "leave the replicas on for longer, or give more of them",
        )
    return solution.bound, spread(solution.choice, solution.splits, count, k) * count[:, None]
