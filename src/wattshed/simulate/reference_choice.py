"""Which replica gets a request: the simple policies, the plain way."""

from __future__ import annotations

import math
from collections.abc import Sequence

from wattshed.engines.model import (
    Array,
    Deployment,
    OneQueryDeployment,
)
from wattshed.simulate.model import Requests
from wattshed.simulate.reference_parts import Replica
from wattshed.simulate.routing import DRAW, LEAST_OUTSTANDING, RANKED, ROUND_ROBIN, Routing


class Choice:
    """A policy, and whose turn it is."""

    def __init__(
        self, deployments: Sequence[Deployment], requests: Requests, routing: Routing, weight: Array
    ) -> None:
        self.deployments, self.requests = deployments, requests
        self.routing, self.weight = routing, weight
        self.count = sum(d.replicas for d in deployments)
        self.turn = self.count - 1

    def serves(self, deployment: Deployment, q: int) -> bool:
        """Whether a request fits."""
        k = next(i for i, d in enumerate(self.deployments) if d is deployment)
        if len(self.routing.cost) and self.routing.cost[q, k] == math.inf:
            return False
        if isinstance(deployment, OneQueryDeployment):
            return math.isfinite(deployment.runtime_s[q])
        length = self.requests.input_tokens[q] + self.requests.output_tokens[q]
        in_cache = length - 1 <= deployment.kv_tokens
        return bool(in_cache and length <= deployment.max_context_tokens)

    def choose(self, able: list[Replica], q: int) -> Replica | None:
        """Apply the policy to the replicas that can serve a request."""
        code, draws = self.routing.code, self.routing.draws
        if code == ROUND_ROBIN:
            chosen = min(able, key=lambda r: (r.number - self.turn - 1) % self.count)
            self.turn = chosen.number
            return chosen
        if code == LEAST_OUTSTANDING:
            return min(able, key=lambda r: r.outstanding)
        if code == RANKED:
            return min(able, key=lambda r: (self.cost(r, q), r.outstanding))
        if code == DRAW:
            return self.draw(able, q)
        one = int(draws[q, 0] * len(able))
        first = able.pop(one)
        if not able:
            return first
        second = able[int(draws[q, 1] * len(able))]
        return second if second.outstanding < first.outstanding else first

    def cost(self, replica: Replica, q: int) -> tuple[float, int]:
        """Of a deployment; the first of equal ones."""
        k = next(i for i, d in enumerate(self.deployments) if d is replica.deployment)
        return float(self.routing.cost[q, k]), k

    def draw(self, able: list[Replica], q: int) -> Replica | None:
        """Draw a deployment by weight and any of its replicas."""
        groups = [[r for r in able if r.deployment is d] for d in self.deployments]
        total = sum(w for w, group in zip(self.weight, groups, strict=True) if group)
        left = self.routing.draws[q, 0] * total
        for weight, group in zip(self.weight, groups, strict=True):
            if group and left < weight:
                return group[int(left / weight * len(group))]
            left -= weight if group else 0.0
        return None
