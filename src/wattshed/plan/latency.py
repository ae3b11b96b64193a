"""Latency of a query that is served alone, and which deployments keep an SLO.

A plan has no queues, so these are the least latencies a deployment can have: a deployment
that breaks an SLO here breaks it at any load. What queueing adds is for simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.errors import ProfileError
from wattshed.fit.forms import Array
from wattshed.fleet import DEFAULT_CLASS, Deployment, Slo
from wattshed.profiles import predict
from wattshed.records import Profile
from wattshed.workload.table import Queries


def query_profile(deployment: Deployment) -> Profile:
    """The profile of a deployment, which must be of single queries.

    Raises
    ------
    ProfileError
    """
    if isinstance(deployment.profile, Profile):
        return deployment.profile
    raise ProfileError(
        f"{deployment.name}.profile",
        f"{deployment.profile.name} is an iteration profile, which cannot be planned yet",
        "name a profile of single queries",
    )


@dataclass(frozen=True)
class Latency:
    """Modelled latencies of queries served alone, arrays (Q,) in seconds.

    Attributes
    ----------
    ttft_s : array
        r(m, 1): the time to an answer of one token.
    tbt_s : array
        r(m, n) - r(m, n - 1): the last step, the longest one as the context grows; 0 for
        answers of one token.
    e2e_s : array
        r(m, n).
    """

    ttft_s: Array
    tbt_s: Array
    e2e_s: Array


def latency_alone(profile: Profile, m: Array, n: Array) -> Latency:
    """Latencies of queries served alone, from a profile's runtime model r(m, n).

    Parameters
    ----------
    profile : Profile
    m, n : arrays (Q,)
        Input and output tokens.
    """
    first, before, last = (
        predict(profile, m, length).runtime_s
        for length in (np.ones_like(n), np.maximum(n - 1, 1), n)
    )
    return Latency(first, np.where(n > 1, last - before, 0.0), last)


def keeps_slo(profile: Profile, queries: Queries, slo: dict[str, Slo]) -> NDArray[np.bool_]:
    """Whether a deployment keeps the SLO of each query's class, bool array (Q,)."""
    kept = np.ones(len(queries.m), bool)
    if not slo:
        return kept
    latency = latency_alone(profile, queries.m, queries.n)
    for group, name in enumerate(queries.classes):
        promise = slo.get(name, slo.get(DEFAULT_CLASS))
        if promise is None:
            continue
        broken = np.zeros(len(kept), bool)
        for limit, value in (
            (promise.ttft_s, latency.ttft_s),
            (promise.tbt_s, latency.tbt_s),
            (promise.e2e_s, latency.e2e_s),
        ):
            if limit is not None:
                broken |= value > limit
        kept &= ~(broken & (queries.group == group))
    return kept
