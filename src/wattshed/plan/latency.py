"""Which deployments keep an SLO.

A plan has no queues, so these are the latencies of queries that do not wait: a deployment that
breaks an SLO here breaks it under load, too. What queueing adds is for simulation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from wattshed.fleet import DEFAULT_CLASS, Deployment, Slo
from wattshed.plan.service import latencies
from wattshed.workload.table import Queries


def keeps_slo(deployment: Deployment, queries: Queries, slo: dict[str, Slo]) -> NDArray[np.bool_]:
    """Whether a deployment keeps the SLO of each query's class, bool array (Q,)."""
    kept = np.ones(len(queries.m), bool)
    if not slo:
        return kept
    latency = latencies(deployment, queries.m, queries.n)
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
