"""`wattshed.simulate_requests`: requests through replicas, exactly, step by step in effect."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from wattshed.errors import ParameterError
from wattshed.simulate.gaps import Gaps, gather
from wattshed.simulate.layout import (
    DRAW,
    LEAST_OUTSTANDING,
    POWER_OF_TWO,
    ROUND_ROBIN,
    RUN,
    RUNS,
    World,
    lay_out,
)
from wattshed.simulate.model import Array, Deployment, Requests, check_fleet
from wattshed.simulate.result import Simulation, conclude

POLICIES = {
    "round-robin": ROUND_ROBIN,
    "random": DRAW,
    "share": DRAW,
    "least-outstanding": LEAST_OUTSTANDING,
    "power-of-two": POWER_OF_TWO,
}
"""Names of the policies that are compiled into the simulator."""
DRAWS = {DRAW: 1, POWER_OF_TWO: 2}
ROOM = 1 << 20
"""Runs of times between tokens that are collected at once."""


def simulate_requests(
    deployments: Sequence[Deployment],
    requests: Requests,
    *,
    policy: str = "least-outstanding",
    share: ArrayLike | None = None,
    seed: int = 0,
    gaps: bool = True,
) -> Simulation:
    """Serve requests with the replicas of some deployments.

    Parameters
    ----------
    deployments : sequence of BatchingDeployment or OneQueryDeployment
        Replicas are numbered in this order.
    requests : Requests
    policy : str
        Which replica gets a request, among those that can serve it: ``round-robin`` the next;
        ``random`` any, with equal chances; ``share`` any of a deployment drawn by `share`;
        ``least-outstanding`` the first of those with the fewest requests waiting or served;
        ``power-of-two`` the better of two drawn at random.
    share : array-like (K,), optional
        Weight of each deployment for the policy ``share``: how often it is drawn.
    seed : int
        For the policies that draw; echoed in the result.
    gaps : bool
        Keep all times between tokens. Without them less memory is needed; the longest time and
        the mean of each request are there in any case.

    Returns
    -------
    Simulation

    Raises
    ------
    ParameterError
    """
    fleet = list(deployments)
    check_fleet(fleet, requests)
    weight, draws = draw_for(policy, share, fleet, len(requests), seed)
    world = lay_out(fleet, requests, weight, draws)
    # About four blocks for each request, rarely more.
    kept = run_world(world, POLICIES[policy], min(4 * len(requests) + 1, ROOM) if gaps else 0)
    return conclude(fleet, requests, world, kept if gaps else None, policy, seed)


def draw_for(
    policy: str, share: ArrayLike | None, deployments: Sequence[Deployment], queries: int, seed: int
) -> tuple[Array, Array]:
    """Weights of deployments (K,) and uniform numbers (Q, 2), as a policy needs them."""
    if policy not in POLICIES:
        raise ParameterError("policy", repr(policy), f"use one of {', '.join(POLICIES)}")
    if (share is None) == (policy == "share"):
        found = "none" if share is None else f"given for policy {policy!r}"
        raise ParameterError("share", found, "give it for the policy 'share', and only there")
    weight = np.array([d.replicas for d in deployments], float)
    if share is not None:
        given = np.asarray(share, float)
        if given.shape != weight.shape or not (given >= 0).all() or not 0 < given.sum() < np.inf:
            cure = f"give {len(weight)} numbers from 0 on, not all 0"
            raise ParameterError("share", f"{given.tolist()}", cure)
        weight = given
    stream = np.random.default_rng(np.random.SeedSequence(seed).spawn(1)[0])
    wide = np.zeros((queries, 2))
    width = DRAWS.get(POLICIES[policy], 0)
    if not width:
        return weight, wide[:0]
    wide[:, :width] = stream.random((queries, width))
    return weight, wide


def run_world(world: World, policy: int, room: int) -> Gaps:
    """Run a world to its end; times between tokens are collected `room` runs at a time.

    With a `room` of 0 none are collected.
    """
    from wattshed.simulate.kernel import advance

    # In any case room for what one event can add.
    size = room + int(world.kinds["max_batch"].max()) + 1 if room else 0
    chunks = []
    served = False
    while not served:
        runs = np.empty(size, RUN)
        served = advance(world, runs, policy)
        chunks.append(runs[: world.cursor[RUNS]].copy())
    return gather(chunks)
