"""Policies that are called for each request, with endpoints as a gateway would see them.

This is far slower than the compiled policies, and decides alike: tests hold the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from wattshed.engines.model import Deployment
from wattshed.errors import ParameterError
from wattshed.records import Endpoint, Request, Served
from wattshed.route.policy import Attentive, Policy
from wattshed.simulate.layout import IDLE, PREFILL, SERVED, UP, WAITING, World
from wattshed.simulate.model import Requests
from wattshed.simulate.policies import Promises

Decide = Callable[[World, int, float], int]


class Counted(Protocol):
    """A deployment, as a fleet or an engine has it."""

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def replicas(self) -> int: ...  # noqa: D102


def endpoint_names(deployments: Sequence[Counted]) -> list[str]:
    """Names of all replicas, ``deployment/00``; in their order where names are compared."""
    return [
        f"{d.name}/{i:0{len(str(d.replicas - 1))}}" for d in deployments for i in range(d.replicas)
    ]


class Asked:
    """Asks a policy for each request.

    Parameters
    ----------
    policy : Policy
    deployments : sequence of Deployment
    requests : Requests
    promises : Promises
    """

    def __init__(
        self,
        policy: Policy,
        deployments: Sequence[Deployment],
        requests: Requests,
        promises: Promises,
    ) -> None:
        self.policy, self.requests, self.promises = policy, requests, promises
        self.names = endpoint_names(deployments)
        self.number = {name: i for i, name in enumerate(self.names)}
        self.deployment = [d.name for d in deployments for _ in range(d.replicas)]
        self.under_way: set[int] = set()

    def __call__(self, world: World, q: int, now_s: float) -> int:
        """Replica of a request, or -1.

        Raises
        ------
        ParameterError
            If the policy names an endpoint that there is not, or that takes no requests.
        """
        self._tell(world)
        endpoints = [self._endpoint(world, r, now_s) for r in range(len(self.names))]
        decision = self.policy.decide(self._request(q), endpoints, now_s)
        if decision.endpoint is None:
            return -1
        chosen = self.number.get(decision.endpoint)
        if chosen is None or not endpoints[chosen].healthy:
            found = "an unknown endpoint" if chosen is None else "an endpoint that is down"
            raise ParameterError(
                f"policy {type(self.policy).__name__}",
                f"sent request {q} to {decision.endpoint!r}, {found}",
                f"return one of the endpoints that it is given, such as {self.names[0]!r}, or None",
            )
        self.under_way.add(q)
        return chosen

    def _tell(self, world: World) -> None:
        """What became of requests since the last one, in order of their ends."""
        if not isinstance(self.policy, Attentive):
            return
        rows = world.requests
        gone = [q for q in self.under_way if rows["fate"][q] != WAITING]
        self.under_way.difference_update(gone)
        ended = [q for q in gone if rows["fate"][q] == SERVED]
        for q in sorted(ended, key=lambda q: rows["finish_s"][q]):
            row = rows[q]
            name = self.names[row["replica"]]
            alone = world.kinds["row"][world.replicas["kind"][row["replica"]]] >= 0
            kept = self._kept(row, q, each=self.promises.every_token and not alone)
            joules = float(row["prefill_j"] + row["decode_j"])
            self.policy.finished(Served(str(q), name, float(row["finish_s"]), kept, joules))

    def _kept(self, row: Any, q: int, *, each: bool) -> bool | None:
        """Whether limits were kept; that between tokens by `each` of them, or by their mean."""
        if np.isnan(row["first_s"]):
            return None
        p, e2e = self.promises, self.promises.e2e_s
        assert e2e is not None
        in_time = row["first_s"] - row["arrival_s"] <= p.ttft_s[q]
        later = int(row["outputs"]) - 1
        steady = later == 0 or row["finish_s"] - row["first_s"] <= p.tbt_s[q] * later
        if each:
            steady = row["longest_s"] <= p.tbt_s[q]
        return bool(in_time and steady and row["finish_s"] - row["arrival_s"] <= e2e[q])

    def _request(self, q: int) -> Request:
        r, p = self.requests, self.promises
        assert r.group is not None
        return Request(
            str(q),
            int(r.input_tokens[q]),
            float(p.expected[q]),
            r.classes[r.group[q]],
            float(r.arrival_s[q]),
            late_output_tokens=float(p.late[q]),
        )

    def _endpoint(self, world: World, r: int, now_s: float) -> Endpoint:
        replica = world.replicas[r]
        kind = world.kinds[replica["kind"]]
        waiting, backlog = int(replica["queued"]), int(replica["queued_tokens"])
        if replica["activity"] == PREFILL:
            waiting += int(replica["prompts"])
            backlog += int(replica["prompt_tokens"])
        if replica["partial"] >= 0 and kind["row"] < 0:
            request = world.requests[replica["partial"]]
            need = request["inputs"] + request["produced"]
            backlog += int(need - replica["partial_done"])
        idle_s = now_s - replica["begun_s"]
        asleep = replica["activity"] == IDLE and idle_s > kind["sleep_after_s"]
        alone = kind["row"] >= 0 and replica["partial"] >= 0
        return Endpoint(
            self.names[r],
            self.deployment[r],
            int(replica["batch"]) + int(alone),
            waiting,
            bool(replica["up"] == UP),
            int(replica["held"]),
            backlog,
            bool(asleep),
        )
