"""Policies by name, with all that the event loop needs to apply them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from wattshed.engines.model import Array, BatchingDeployment, Deployment, OneQueryDeployment
from wattshed.errors import ParameterError
from wattshed.route.frugal_rule import Budgets, no_budgets
from wattshed.simulate.layout import ALONE
from wattshed.simulate.model import Requests
from wattshed.simulate.routing import (
    DRAW,
    EXTERNAL,
    FRUGAL,
    LEAST_OUTSTANDING,
    POWER_OF_TWO,
    RANKED,
    ROUND_ROBIN,
    Routing,
)

POLICIES = {
    "round-robin": ROUND_ROBIN,
    "random": DRAW,
    "share": DRAW,
    "least-outstanding": LEAST_OUTSTANDING,
    "power-of-two": POWER_OF_TWO,
    "ranked": RANKED,
    "frugal": FRUGAL,
    "packed": FRUGAL,
    "external": EXTERNAL,
}
"""Names of the policies that are compiled into the simulator."""
DRAWS = {DRAW: 1, POWER_OF_TWO: 2}


@dataclass(frozen=True)
class Promises:
    """What requests (Q) were promised, and what is expected of them.

    Attributes
    ----------
    ttft_s, tbt_s : arrays (Q,)
        Limits; inf where nothing was promised.
    e2e_s : array (Q,), optional
        Likewise; none unless told.
    expected, late : arrays (Q,)
        Output tokens: the mean of the forecast, and the quantile for which promises are kept.
    headroom : float
        Part of the limits that a policy does not use at first; it learns from there.
    target : float
        Part of the promises that is to be kept.
    every_token : bool
        The limit between tokens holds for each of them, and not for their mean.
    clock : int array (K,), optional
        At which a policy predicts steps, as a place in the clocks of each deployment; the
        highest unless told.
    alone : ALONE (rows, Q), optional
        Predictions by the forecast for deployments that serve one query at a time.
    tenant : int array (Q,), optional
    budgets : Budgets, optional
    """

    ttft_s: Array
    tbt_s: Array
    expected: Array
    late: Array
    e2e_s: Array | None = None
    headroom: float = 0.1
    target: float = 0.99
    every_token: bool = False
    clock: NDArray[np.int64] | None = None
    alone: NDArray[np.void] | None = None
    tenant: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    budgets: Budgets | None = None

    def __post_init__(self) -> None:
        if self.e2e_s is None:
            object.__setattr__(self, "e2e_s", np.full_like(self.ttft_s, np.inf))
        for name in ("ttft_s", "tbt_s", "e2e_s", "expected", "late"):
            values = np.ascontiguousarray(getattr(self, name), float)
            object.__setattr__(self, name, values)
            if not (values > 0).all():
                raise ParameterError(name, f"{values.min():g}", "give figures above 0")
        if not 0 <= self.headroom < 1:
            raise ParameterError("headroom", f"{self.headroom:g}", "give a part, from 0 to below 1")


def weights(deployments: Sequence[Deployment], share: ArrayLike | None) -> Array:
    """How often each deployment (K,) is drawn."""
    weight = np.array([d.replicas for d in deployments], float)
    if share is None:
        return weight
    given = np.asarray(share, float)
    if given.shape != weight.shape or not (given >= 0).all() or not 0 < given.sum() < np.inf:
        cure = f"give {len(weight)} numbers from 0 on, not all 0"
        raise ParameterError("share", f"{given.tolist()}", cure)
    return given


def make_routing(  # noqa: PLR0913 - each is one thing that may be chosen
    policy: str,
    deployments: Sequence[Deployment],
    requests: Requests,
    *,
    share: ArrayLike | None = None,
    cost: ArrayLike | None = None,
    promises: Promises | None = None,
    retry: bool = True,
    seed: int = 0,
) -> Routing:
    """All that the event loop needs to apply a policy; see `simulate_requests`.

    Raises
    ------
    ParameterError
    """
    if policy not in POLICIES:
        raise ParameterError("policy", repr(policy), f"use one of {', '.join(POLICIES)}")
    code, queries, kinds = POLICIES[policy], len(requests), len(deployments)
    _demand("share", share, policy, "share")
    if policy == "ranked":
        _demand("cost", cost, policy, "ranked")
    if code == FRUGAL and promises is None:
        raise ParameterError(
            "promises", "none", f"the policy {policy!r} needs limits and forecasts"
        )
    known = promises or Promises(*np.ones((4, 0)))
    return Routing(
        code,
        retry,
        _draws(code, queries, seed),
        _costs(cost, queries, kinds),
        known.expected,
        known.late,
        known.ttft_s,
        known.tbt_s,
        np.full_like(known.ttft_s, np.inf) if known.e2e_s is None else known.e2e_s,
        known.every_token,
        known.target,
        np.array([1.0 - known.headroom]),
        policy == "packed",
        _clocks(deployments, known.clock),
        _alone(deployments, known.alone, queries, code == FRUGAL),
        known.tenant,
        _fresh(known.budgets, kinds),
        _usual(requests, known.expected),
    )


def _fresh(budgets: Budgets | None, kinds: int) -> Budgets:
    """Budgets of which nothing is used yet: the event loop writes into them."""
    given = budgets or no_budgets(kinds)
    return given._replace(queue=np.zeros(len(given.queue)))


def _demand(name: str, value: ArrayLike | None, policy: str, owner: str) -> None:
    if (value is None) == (policy == owner):
        found = "none" if value is None else f"given for policy {policy!r}"
        raise ParameterError(name, found, f"give it for the policy {owner!r}, and only there")


def _draws(code: int, queries: int, seed: int) -> Array:
    """Uniform numbers (Q, 2), as a policy needs them."""
    width = DRAWS.get(code, 0)
    if not width:
        return np.zeros((0, 2))
    wide = np.zeros((queries, 2))
    stream = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    wide[:, :width] = stream.random((queries, width))
    return wide


def _costs(cost: ArrayLike | None, queries: int, kinds: int) -> Array:
    if cost is None:
        return np.zeros((0, kinds))
    given = np.ascontiguousarray(cost, float)
    if given.shape != (queries, kinds) or np.isnan(given).any():
        cure = f"give shape {(queries, kinds)}, inf where a request may not go"
        raise ParameterError("cost", f"shape {given.shape}", cure)
    return given


def _clocks(
    deployments: Sequence[Deployment], chosen: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    """Places (K,) among all clocks."""
    many = [len(d.clocks) if isinstance(d, BatchingDeployment) else 1 for d in deployments]
    ends = np.cumsum(many)
    return np.asarray(ends - 1 if chosen is None else ends - many + chosen, np.int64)


def _alone(
    deployments: Sequence[Deployment], forecast: NDArray[np.void] | None, queries: int, used: bool
) -> NDArray[np.void]:
    if not used:
        return np.zeros((0, queries), ALONE)
    rows = sum(isinstance(d, OneQueryDeployment) for d in deployments)
    given = np.zeros((0, queries), ALONE) if forecast is None else forecast
    if given.shape != (rows, queries):
        found = f"shape {given.shape} for {rows} deployments that serve one query at a time"
        raise ParameterError("promises.alone", found, "give a forecast for each")
    return given


def _usual(requests: Requests, expected: Array) -> Array:
    """Where the means of requests lately begin: with the first request."""
    if not len(requests) or not len(expected):
        return np.ones(2)
    return np.array([float(requests.input_tokens[0]), float(expected[0])])
