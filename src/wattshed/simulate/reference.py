"""The simulator as plainly as it can be said: one step after another, in plain Python.

This is the specification. The compiled simulator must agree with it request by request; it is
what one reads to know what is modelled, and far too slow for anything but tests. Here is the order
of events; beside it, by the same name, what steps cost (`_parts`), who pays for them (`_account`),
which replica gets a request (`_choice`), and what a controller sees (`_view`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from wattshed.control.clocks import PinnedMaximum
from wattshed.control.controller import Controller, Setting
from wattshed.engines.model import (
    Array,
    BatchingDeployment,
    Deployment,
    OneQueryDeployment,
)
from wattshed.learning import TRUST_GAIN, part_after
from wattshed.simulate.layout import (
    BOOT,
    DECODE,
    IDLE,
    LOST,
    OFF,
    PREFILL,
    QUERY,
    REJECTED,
    SERVED,
    WAKE,
)
from wattshed.simulate.model import Outage, Requests
from wattshed.simulate.policies import Promises
from wattshed.simulate.reference_account import account, account_query, rest
from wattshed.simulate.reference_choice import Choice
from wattshed.simulate.reference_parts import Found, Query, Replica, step_cost
from wattshed.simulate.reference_view import View
from wattshed.simulate.routing import Routing
from wattshed.simulate.steps import MEMORY_STEPS


class StepByStep:
    """Everything by step; see `found` once it has run."""

    def __init__(
        self,
        deployments: Sequence[Deployment],
        requests: Requests,
        routing: Routing,
        weight: Array,
        controller: Controller | None = None,
        promises: Promises | None = None,
        outages: Sequence[Outage] = (),
    ) -> None:
        self.requests, self.routing = requests, routing
        self.choice = Choice(deployments, requests, routing, weight)
        self.view = View(requests, promises)
        self.controller = controller or PinnedMaximum()
        self.promises = promises
        each = [d for d in deployments for _ in range(d.replicas)]
        self.replicas = [Replica(i, d) for i, d in enumerate(each)]
        for r in self.replicas:
            if isinstance(r.deployment, BatchingDeployment):
                r.clock, r.cap = len(r.deployment.slower), r.deployment.max_batch
        self.events = deque(sorted(self.list_events(outages), key=lambda e: e[:3]))
        self.again: list[int] = []
        self.found = Found(len(each), len(requests))

    def list_events(self, outages: Sequence[Outage]) -> list[tuple[float, bool, int, str]]:
        """Begin, end and return of outages; at the same time ends come before beginnings."""
        rows = []
        for o in outages:
            rows.append((o.start_s, True, o.replica, "drain" if o.drains else "fail"))
            if o.end_s < math.inf:
                boot_s = self.replicas[o.replica].deployment.boot.ready_s
                rows.append((o.end_s, False, o.replica, "end"))
                rows.append((o.end_s + boot_s, False, o.replica, "return"))
        return rows

    def run(self) -> None:
        """Outages, arrivals and ends of steps in order of time, and at equal times in this."""
        arrivals = deque(enumerate(self.requests.arrival_s))
        while True:
            replica = min(self.replicas, key=lambda r: r.ends_s)
            arrival = float(arrivals[0][1]) if arrivals else math.inf
            if self.events and self.events[0][0] <= min(arrival, replica.ends_s):
                if arrival == replica.ends_s == math.inf:
                    break
                now, _, number, what = self.events.popleft()
                self.happen(self.replicas[number], what, now)
            elif arrival <= replica.ends_s and arrival < math.inf:
                self.arrive(arrivals.popleft()[0], arrival)
            elif replica.ends_s < math.inf:
                now = replica.ends_s
                self.end_step(replica, now)
                self.begin_step(replica, now)
            else:
                break
        end = max([self.requests.arrival_s.max(initial=0.0)] + [r.begun_s for r in self.replicas])
        for r in self.replicas:
            rest(self.found, r, end)

    def happen(self, r: Replica, what: str, now: float) -> None:
        """An outage begins or ends."""
        if what == "fail":
            r.up = False
            self.fail(r, now)
            while self.again:
                self.arrive(self.again.pop(), now)
        elif what == "drain":
            r.up, r.leaving = False, True
            if r.state == IDLE and not r.waiting:
                rest(self.found, r, now)
                r.state = OFF
        elif what == "end" and r.state == OFF:
            rest(self.found, r, now)
            r.state = BOOT
        elif what == "end":
            r.up, r.leaving = True, False
        elif not r.up:
            rest(self.found, r, now)
            r.state, r.up, r.leaving = IDLE, True, False

    def fail(self, r: Replica, now: float) -> None:
        """Everything stops, a part of a step included."""
        part = (now - r.begun_s) / (r.ends_s - r.begun_s) if r.ends_s > r.begun_s else 0.0
        if r.state in (PREFILL, DECODE) and part > 0:
            account(self.found, r, r.ends_s - r.begun_s, part)
        elif r.state == QUERY:
            account_query(self.found, r, part)
            if self.found.first[r.running[0].q] > now:
                self.found.first[r.running[0].q] = np.nan
        else:
            rest(self.found, r, now)
        r.begun_s = now
        joining = [s for s, _ in r.chunks if s.prompt_done == s.context]
        partial = [s for s in r.running if not s.decoding and s not in joining]
        # The compiled loop gives up sequences by the token after which they would be finished.
        for s in [*joining, *partial, *self.by_heap(r), *r.waiting]:
            self.give_up(s)
        r.running, r.chunks, r.outstanding = [], [], 0
        r.waiting.clear()
        r.state, r.ends_s, r.excess_s = OFF, math.inf, 0.0

    @staticmethod
    def by_heap(r: Replica) -> list[Query]:
        """Decoding sequences; those who have their first token are lost in any order."""
        return [] if isinstance(r.deployment, OneQueryDeployment) else r.decoding

    def give_up(self, s: Query) -> None:
        """Before the first token a request is sent once more, not after."""
        if self.routing.retries and math.isnan(self.found.first[s.q]):
            self.found.start[s.q] = np.nan
            self.found.retries[s.q] += 1
            self.found.replica[s.q] = -1
            self.again.append(s.q)
        else:
            self.found.fate[s.q] = LOST

    def arrive(self, q: int, now: float) -> None:
        """Send a request to a replica; one without work begins once all of this instant are in."""
        able = [r for r in self.replicas if r.up and self.choice.serves(r.deployment, q)]
        chosen = self.choice.choose(able, q) if able else None
        if chosen is None:
            self.found.fate[q] = REJECTED
            return
        first = not chosen.waiting
        inputs, outputs = self.requests.input_tokens[q], self.requests.output_tokens[q]
        chosen.waiting.append(Query(q, int(inputs), int(outputs)))
        chosen.outstanding += 1
        self.found.replica[q] = chosen.number
        d = chosen.deployment
        sleep = d.sleep if isinstance(d, BatchingDeployment) else None
        if first and chosen.state == IDLE and sleep and now - chosen.begun_s > sleep.after_s:
            rest(self.found, chosen, now)
            chosen.state, chosen.ends_s = WAKE, now + sleep.ready_s
        elif first and chosen.state == IDLE:
            chosen.ends_s = now
        elif first and chosen.state == DECODE and len(chosen.decoding) < chosen.cap:
            chosen.asked = False  # the next step may admit it

    def begin_step(self, replica: Replica, now: float) -> None:
        """Decide what the next step holds, how the replica is set, and when it ends."""
        deployment = replica.deployment
        replica.begun_s = now
        if isinstance(deployment, OneQueryDeployment):
            self.begin_query(replica, deployment, now)
            return
        before, replica.chunks = len(replica.running), []
        if not replica.asked:
            there = len(replica.running) + len(replica.waiting)
            replica.usual_there += (there - replica.usual_there) / MEMORY_STEPS
            replica.cap = self.ask(replica, deployment, now).batch_cap
        self.make_room(replica, deployment.kv_tokens)
        replica.chunks = self.fill(replica, deployment, now)
        if not replica.running:
            self.be_idle(replica)
            return
        replica.state = PREFILL if replica.chunks else DECODE
        if replica.chunks or not replica.asked or len(replica.running) != before:
            wanted = self.ask(replica, deployment, now).clock
            if wanted > replica.clock:
                replica.raised_s = now
            replica.clock = wanted
        replica.asked = True
        replica.ends_s = now + step_cost(
            deployment.clocks[replica.clock].time, replica.decoding, replica.chunks
        )

    def ask(self, r: Replica, deployment: BatchingDeployment, now: float) -> Setting:
        """What the controller sets a replica to, given the step that is planned."""
        return self.controller.step(self.view.of(r, deployment, now), now)

    def be_idle(self, replica: Replica) -> None:
        """Nothing to do."""
        replica.state = OFF if replica.leaving else IDLE
        replica.ends_s, replica.asked = math.inf, False

    def begin_query(self, replica: Replica, deployment: OneQueryDeployment, now: float) -> None:
        """Serve a query alone."""
        if not replica.waiting:
            self.be_idle(replica)
            return
        query = replica.waiting.popleft()
        replica.running, replica.state = [query], QUERY
        replica.ends_s = now + deployment.runtime_s[query.q]
        self.found.start[query.q] = now
        if deployment.first_token_s is not None:
            self.found.first[query.q] = now + deployment.first_token_s[query.q]

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
        left = deployment.chunk_tokens - len(replica.decoding)
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
        if not replica.waiting or len(replica.running) >= replica.cap:
            return False
        tokens = replica.waiting[0].context + 1 + sum(s.context + 1 for s in replica.running)
        return not replica.running or tokens <= deployment.kv_tokens

    def end_step(self, replica: Replica, now: float) -> None:
        """Hand out tokens; who has all of them leaves."""
        if replica.state == QUERY:
            account_query(self.found, replica, 1.0)
            self.finish(replica, replica.running[0], now)
            return
        if replica.state not in (PREFILL, DECODE):
            rest(self.found, replica, now)
            return
        assert isinstance(replica.deployment, BatchingDeployment)
        self.remember_excess(replica, now)
        account(self.found, replica, now - replica.begun_s, 1.0)
        got = replica.decoding
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
                replica.asked = False
        if replica.chunks:
            replica.asked = False
        if replica.running and sum(s.context for s in replica.running) > (
            replica.deployment.kv_tokens
        ):
            replica.asked = False

    @staticmethod
    def remember_excess(replica: Replica, now: float) -> None:
        """By how much prompts lengthen steps, averaged over the last ones."""
        if not replica.decoding:
            return
        assert isinstance(replica.deployment, BatchingDeployment)
        time = replica.deployment.clocks[replica.clock].time
        if replica.chunks:
            lengthened = now - replica.begun_s - step_cost(time, replica.decoding, [])
            replica.excess_s += (lengthened - replica.excess_s) / MEMORY_STEPS
        else:
            replica.excess_s *= 1 - 1 / MEMORY_STEPS

    def finish(self, replica: Replica, s: Query, now: float) -> None:
        """A request is served."""
        self.found.finish[s.q] = now
        self.found.fate[s.q] = SERVED
        first = self.found.first[s.q]
        if self.promises is not None and not math.isnan(first):
            in_time = first - self.requests.arrival_s[s.q] <= self.promises.ttft_s[s.q]
            later = s.outputs - 1
            steady = later == 0 or now - first <= self.promises.tbt_s[s.q] * later
            if self.promises.every_token and isinstance(replica.deployment, BatchingDeployment):
                steady = self.found.longest[s.q] <= self.promises.tbt_s[s.q]
            assert self.promises.e2e_s is not None
            in_time = in_time and now - self.requests.arrival_s[s.q] <= self.promises.e2e_s[s.q]
            target = self.promises.target
            replica.trust = part_after(replica.trust, in_time and steady, target, TRUST_GAIN)
        replica.running.remove(s)
        replica.outstanding -= 1
