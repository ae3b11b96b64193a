"""The simulator as plainly as it can be said: one step after another, in plain Python.

This is the specification. The compiled simulator must agree with it request by request; it is
what one reads to know what is modelled, and far too slow for anything but tests.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from wattshed.simulate.layout import (
    DECODE,
    DRAW,
    LEAST_OUTSTANDING,
    PREFILL,
    QUERY,
    ROUND_ROBIN,
    STATES,
)
from wattshed.simulate.model import (
    Array,
    BatchingDeployment,
    Deployment,
    OneQueryDeployment,
    Requests,
    StepModel,
)


@dataclass
class Query:
    """A request under way."""

    q: int
    inputs: int
    outputs: int
    tokens: int = 0
    prompt_done: int = 0
    decoding: bool = False
    last_token_s: float = math.nan

    @property
    def context(self) -> int:
        """Tokens that it holds in its next step; while it waits, what must be computed first."""
        return self.inputs + self.tokens


class Found:
    """As in `Simulation`, before idling is added; every time between tokens in `gaps`."""

    def __init__(self, replicas: int, queries: int) -> None:
        self.replica = np.full(queries, -1)
        self.start, self.first, self.finish = np.full((3, queries), np.nan)
        self.own, self.shared, self.longest = np.zeros((3, queries))
        self.preemptions = np.zeros(queries, int)
        self.time, self.energy = np.zeros((2, replicas, len(STATES)))
        self.gaps: list[float] = []


@dataclass
class Replica:
    """One replica: who waits, who is served, and when its step ends."""

    number: int
    deployment: Deployment
    waiting: deque[Query] = field(default_factory=deque)
    running: list[Query] = field(default_factory=list)  # in order of admission
    chunks: list[tuple[Query, int]] = field(default_factory=list)
    ends_s: float = math.inf
    outstanding: int = 0
    working: bool = False


class StepByStep:
    """Everything by step; see `found` once it has run."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        requests: Requests,
        policy: int,
        weight: Array,
        draws: Array,
    ) -> None:
        self.deployments, self.requests = deployments, requests
        self.policy, self.weight, self.draws = policy, weight, draws
        each = [d for d in deployments for _ in range(d.replicas)]
        self.replicas = [Replica(i, d) for i, d in enumerate(each)]
        self.turn = len(each) - 1
        self.found = Found(len(each), len(requests))

    def run(self) -> None:
        """Arrivals and ends of steps in order of time; at equal times arrivals first."""
        arrivals = deque(enumerate(self.requests.arrival_s))
        while True:
            replica = min(self.replicas, key=lambda r: r.ends_s)
            if arrivals and arrivals[0][1] <= replica.ends_s:
                q, now = arrivals.popleft()
                self.arrive(q, float(now))
            elif replica.ends_s < math.inf:
                now = replica.ends_s
                if replica.working:
                    self.end_step(replica, now)
                self.begin_step(replica, now)
            else:
                return

    def arrive(self, q: int, now: float) -> None:
        """Send a request to a replica; one without work begins once all of this instant are in."""
        able = [r for r in self.replicas if self.serves(r.deployment, q)]
        chosen = self.choose(able, q) if able else None
        if chosen is None:
            return
        inputs, outputs = self.requests.input_tokens[q], self.requests.output_tokens[q]
        chosen.waiting.append(Query(q, int(inputs), int(outputs)))
        chosen.outstanding += 1
        self.found.replica[q] = chosen.number
        if not chosen.working:
            chosen.ends_s = now

    def serves(self, deployment: Deployment, q: int) -> bool:
        """Whether a request fits."""
        if isinstance(deployment, OneQueryDeployment):
            return math.isfinite(deployment.runtime_s[q])
        length = self.requests.input_tokens[q] + self.requests.output_tokens[q]
        in_cache = length - 1 <= deployment.kv_tokens
        return bool(in_cache and length <= deployment.max_context_tokens)

    def choose(self, able: list[Replica], q: int) -> Replica | None:
        """Apply the policy to the replicas that can serve a request."""
        if self.policy == ROUND_ROBIN:
            chosen = min(able, key=lambda r: (r.number - self.turn - 1) % len(self.replicas))
            self.turn = chosen.number
            return chosen
        if self.policy == LEAST_OUTSTANDING:
            return min(able, key=lambda r: r.outstanding)
        if self.policy == DRAW:
            return self.draw(able, q)
        one = int(self.draws[q, 0] * len(able))
        first = able.pop(one)
        if not able:
            return first
        second = able[int(self.draws[q, 1] * len(able))]
        return second if second.outstanding < first.outstanding else first

    def draw(self, able: list[Replica], q: int) -> Replica | None:
        """Draw a deployment by weight and any of its replicas."""
        groups = [[r for r in able if r.deployment is d] for d in self.deployments]
        total = sum(w for w, group in zip(self.weight, groups, strict=True) if group)
        left = self.draws[q, 0] * total
        for weight, group in zip(self.weight, groups, strict=True):
            if group and left < weight:
                return group[int(left / weight * len(group))]
            left -= weight if group else 0.0
        return None

    def begin_step(self, replica: Replica, now: float) -> None:
        """Decide what the next step holds, and when it ends."""
        deployment = replica.deployment
        if isinstance(deployment, OneQueryDeployment):
            self.begin_query(replica, deployment, now)
            return
        self.make_room(replica, deployment.kv_tokens)
        decoding = [s for s in replica.running if s.decoding]
        replica.chunks = self.fill(replica, deployment, now)
        replica.working = bool(replica.running)
        replica.ends_s = math.inf
        if replica.working:
            seconds = cost(deployment.time, decoding, replica.chunks)
            replica.ends_s = now + seconds
            state = PREFILL if replica.chunks else DECODE
            self.found.time[replica.number, state] += seconds
            joules = cost(deployment.energy, decoding, replica.chunks)
            self.found.energy[replica.number, state] += joules
            self.charge(replica, deployment, decoding)

    def begin_query(self, replica: Replica, deployment: OneQueryDeployment, now: float) -> None:
        """Serve a query alone."""
        replica.working = bool(replica.waiting)
        replica.ends_s = math.inf
        if replica.waiting:
            query = replica.waiting.popleft()
            replica.running = [query]
            seconds, joules = deployment.runtime_s[query.q], deployment.energy_j[query.q]
            replica.ends_s = now + seconds
            self.found.start[query.q] = now
            if deployment.first_token_s is not None:
                self.found.first[query.q] = now + deployment.first_token_s[query.q]
            self.found.own[query.q] = joules
            self.found.time[replica.number, QUERY] += seconds
            self.found.energy[replica.number, QUERY] += joules

    def make_room(self, replica: Replica, kv_tokens: int) -> None:
        """While the next step does not fit into the KV cache, send back who was admitted last."""
        while sum(s.context for s in replica.running) > kv_tokens:
            victim = replica.running.pop()
            victim.prompt_done, victim.decoding = 0, False
            replica.waiting.appendleft(victim)
            self.found.preemptions[victim.q] += 1

    def fill(
        self, replica: Replica, deployment: BatchingDeployment, now: float
    ) -> list[tuple[Query, int]]:
        """Prompt tokens of this step, first come, first served."""
        chunks: list[tuple[Query, int]] = []
        left = deployment.chunk_tokens - sum(s.decoding for s in replica.running)
        for s in replica.running:  # a prompt that the step before could not finish
            if not s.decoding:
                chunks.append((s, min(left, s.context - s.prompt_done)))
                left -= chunks[-1][1]
        while left > 0 and self.admissible(replica, deployment):
            s = replica.waiting.popleft()
            replica.running.append(s)
            if math.isnan(self.found.start[s.q]):
                self.found.start[s.q] = now
            chunks.append((s, min(left, s.context)))
            left -= chunks[-1][1]
        return chunks

    @staticmethod
    def admissible(replica: Replica, deployment: BatchingDeployment) -> bool:
        """Whether batch and KV cache have room for the next one, and for one more token of all."""
        if not replica.waiting or len(replica.running) >= deployment.max_batch:
            return False
        tokens = replica.waiting[0].context + 1 + sum(s.context + 1 for s in replica.running)
        return not replica.running or tokens <= deployment.kv_tokens

    def charge(
        self, replica: Replica, deployment: BatchingDeployment, decoding: list[Query]
    ) -> None:
        """Share the energy of a step among those in it."""
        energy = deployment.energy
        fixed, b = energy.by_batch[0], len(decoding)
        participants = b + len(replica.chunks)
        for s in decoding:
            own = (energy.by_batch[b] - fixed) / b + energy.per_context_token * s.context
            self.found.own[s.q] += own
            self.found.shared[s.q] += fixed / participants
        for s, take in replica.chunks:
            pairs = take * (s.prompt_done + take / 2)
            self.found.own[s.q] += energy.per_prompt_token * take + energy.per_prompt_pair * pairs
            self.found.shared[s.q] += fixed / participants

    def end_step(self, replica: Replica, now: float) -> None:
        """Hand out tokens; who has all of them leaves."""
        if isinstance(replica.deployment, OneQueryDeployment):
            self.finish(replica, replica.running[0], now)
            return
        got = [s for s in replica.running if s.decoding]
        for s, take in replica.chunks:
            s.prompt_done += take
            if s.prompt_done == s.context:
                s.decoding = True
                got.append(s)
        for s in got:
            if s.tokens == 0:
                self.found.first[s.q] = now
            else:
                gap = now - s.last_token_s
                self.found.gaps.append(gap)
                self.found.longest[s.q] = max(self.found.longest[s.q], gap)
            s.tokens += 1
            s.last_token_s = now
            if s.tokens == s.outputs:
                self.finish(replica, s, now)

    def finish(self, replica: Replica, s: Query, now: float) -> None:
        """A request is served."""
        self.found.finish[s.q] = now
        replica.running.remove(s)
        replica.outstanding -= 1


def cost(model: StepModel, decoding: list[Query], chunks: list[tuple[Query, int]]) -> float:
    """Seconds or joules of a step."""
    total = float(model.by_batch[len(decoding)])
    total += model.per_context_token * sum(s.context for s in decoding)
    for s, take in chunks:
        total += model.per_prompt_token * take
        total += model.per_prompt_pair * take * (s.prompt_done + take / 2)
    return total
