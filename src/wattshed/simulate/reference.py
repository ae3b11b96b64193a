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

from wattshed.control.clocks import PinnedMaximum
from wattshed.control.controller import Controller, Observation, Setting
from wattshed.engines.model import (
    Array,
    BatchingDeployment,
    ClockedSteps,
    Deployment,
    OneQueryDeployment,
    StepModel,
)
from wattshed.learning import TRUST_GAIN, part_after
from wattshed.simulate.clocking import LOOK_AHEAD
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
    SLEEP,
    STATES,
    WAKE,
)
from wattshed.simulate.model import Outage, Requests
from wattshed.simulate.policies import Promises
from wattshed.simulate.routing import DRAW, LEAST_OUTSTANDING, RANKED, ROUND_ROBIN, Routing
from wattshed.simulate.steps import MEMORY_STEPS


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
    """As in `Simulation`; every time between tokens in `gaps`."""

    def __init__(self, replicas: int, queries: int) -> None:
        self.replica = np.full(queries, -1)
        self.fate = np.zeros(queries, int)
        self.start, self.first, self.finish = np.full((3, queries), np.nan)
        self.prefill, self.decode, self.static, self.longest = np.zeros((4, queries))
        self.preemptions, self.retries = np.zeros((2, queries), int)
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
    begun_s: float = 0.0
    ends_s: float = math.inf
    outstanding: int = 0
    state: int = IDLE
    up: bool = True
    leaving: bool = False
    clock: int = -1
    cap: int = 0
    raised_s: float = -math.inf
    trust: float = 1.0
    usual_there: float = 0.0
    excess_s: float = 0.0
    asked: bool = False  # since the last change of who is there

    @property
    def decoding(self) -> list[Query]:
        """Who gets a token in this step without processing a prompt."""
        return [s for s in self.running if s.decoding]


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
        self.deployments, self.requests = deployments, requests
        self.routing, self.weight = routing, weight
        self.controller = controller or PinnedMaximum()
        self.promises = promises
        each = [d for d in deployments for _ in range(d.replicas)]
        self.replicas = [Replica(i, d) for i, d in enumerate(each)]
        for r in self.replicas:
            if isinstance(r.deployment, BatchingDeployment):
                r.clock, r.cap = len(r.deployment.slower), r.deployment.max_batch
        self.events = deque(sorted(self.list_events(outages), key=lambda e: e[:3]))
        self.again: list[int] = []
        self.turn = len(each) - 1
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
            self.rest(r, end)

    def book(self, replica: Replica, state: int, now: float, joules: float) -> None:
        """What a replica drew since its step began."""
        self.found.time[replica.number, state] += now - replica.begun_s
        self.found.energy[replica.number, state] += joules
        replica.begun_s = now

    def rest(self, r: Replica, now: float) -> None:
        """What a replica that serves nothing drew until now."""
        since, d = now - r.begun_s, r.deployment
        sleep = d.sleep if isinstance(d, BatchingDeployment) else None
        if r.state == IDLE and sleep and since > sleep.after_s:
            self.book(r, IDLE, r.begun_s + sleep.after_s, d.idle_power_w * sleep.after_s)
            self.book(r, SLEEP, now, sleep.power_w * (since - sleep.after_s))
        elif r.state == IDLE:
            self.book(r, IDLE, now, d.idle_power_w * since)
        elif r.state == WAKE:
            assert sleep is not None
            part = since / sleep.ready_s if sleep.ready_s else 1.0
            self.book(r, WAKE, now, sleep.ready_energy_j * part)
        elif r.state == BOOT:
            part = since / d.boot.ready_s if d.boot.ready_s else 1.0
            self.book(r, BOOT, now, d.boot.ready_energy_j * part)
        else:
            self.book(r, OFF, now, 0.0)

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
                self.rest(r, now)
                r.state = OFF
        elif what == "end" and r.state == OFF:
            self.rest(r, now)
            r.state = BOOT
        elif what == "end":
            r.up, r.leaving = True, False
        elif not r.up:
            self.rest(r, now)
            r.state, r.up, r.leaving = IDLE, True, False

    def fail(self, r: Replica, now: float) -> None:
        """Everything stops, a part of a step included."""
        part = (now - r.begun_s) / (r.ends_s - r.begun_s) if r.ends_s > r.begun_s else 0.0
        if r.state in (PREFILL, DECODE) and part > 0:
            self.account(r, r.ends_s - r.begun_s, part)
        elif r.state == QUERY:
            self.account_query(r, part)
            if self.found.first[r.running[0].q] > now:
                self.found.first[r.running[0].q] = np.nan
        else:
            self.rest(r, now)
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
        able = [r for r in self.replicas if r.up and self.serves(r.deployment, q)]
        chosen = self.choose(able, q) if able else None
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
            self.rest(chosen, now)
            chosen.state, chosen.ends_s = WAKE, now + sleep.ready_s
        elif first and chosen.state == IDLE:
            chosen.ends_s = now
        elif first and chosen.state == DECODE and len(chosen.decoding) < chosen.cap:
            chosen.asked = False  # the next step may admit it

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
            chosen = min(able, key=lambda r: (r.number - self.turn - 1) % len(self.replicas))
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
        replica.ends_s = now + self.seconds(replica, deployment.clocks[replica.clock])

    def be_idle(self, replica: Replica) -> None:
        """Nothing to do."""
        replica.state = OFF if replica.leaving else IDLE
        replica.ends_s, replica.asked = math.inf, False

    def ask(self, r: Replica, deployment: BatchingDeployment, now: float) -> Setting:
        """What the controller sets a replica to, given the step that is planned."""
        decoding, clocks = r.decoding, deployment.clocks
        if not decoding and not r.chunks:
            steps = 0
        elif r.chunks:
            steps = 1
        else:
            steps = self.block(r, deployment)
        held = sum(s.context for s in decoding) + (steps - 1) * len(decoding)
        entered = len(decoding) + len(r.chunks)
        waits = bool(r.waiting) and (not r.chunks or entered >= r.cap)
        tbt = math.inf if self.promises is None else float(self.promises.tbt_s.min(initial=np.inf))
        seen = Observation(
            tuple(c.clock for c in clocks),
            r.clock,
            r.raised_s,
            bool(r.chunks),
            len(decoding),
            waits,
            tuple(
                float(c.time.by_batch[len(decoding)]) + c.time.per_context_token * held
                for c in clocks
            ),
            tuple(self.seconds(r, c) for c in clocks),
            self.promises is not None and self.promises.every_token,
            r.excess_s,
            tuple(self.ttft_part(r, deployment, c, now) for c in clocks),
            tbt,
            r.trust,
            r.usual_there,
            deployment.max_batch,
        )
        return self.controller.step(seen, now)

    def block(self, r: Replica, deployment: BatchingDeployment) -> int:
        """Decoding steps until somebody is finished or the KV cache is full."""
        left = min(s.outputs - s.tokens for s in r.decoding)
        held = sum(s.context for s in r.decoding)
        return int(min(left, (deployment.kv_tokens - held) // len(r.decoding) + 1))

    def ttft_part(
        self, r: Replica, deployment: BatchingDeployment, clock: ClockedSteps, now: float
    ) -> float:
        """Largest predicted TTFT of prompts that wait or are processed, over its limit."""
        if not r.chunks or self.promises is None:
            return 0.0
        ready = now + self.seconds(r, clock)
        parts = [0.0]
        ending = [s for s, take in r.chunks if s.prompt_done + take == s.context]
        ahead = 0

        def add(s: Query, at: float) -> None:
            if s.tokens == 0:
                assert self.promises is not None
                since = at - self.requests.arrival_s[s.q]
                parts.append(since / self.promises.ttft_s[s.q])

        for s in ending:
            add(s, ready)
        batch = min(len(r.decoding) + len(ending), deployment.max_batch)
        for s, take in r.chunks:
            if s not in ending:
                ahead = s.context - s.prompt_done - take
                add(s, ready + self.more(r, deployment, clock, batch, ahead))
        for s in list(r.waiting)[:LOOK_AHEAD]:
            ahead += s.context
            at = ready + self.more(r, deployment, clock, batch, ahead)
            since = at - self.requests.arrival_s[s.q]
            parts.append(since / self.promises.ttft_s[s.q])
        return max(parts)

    @staticmethod
    def more(
        r: Replica, deployment: BatchingDeployment, clock: ClockedSteps, batch: int, tokens: int
    ) -> float:
        """Duration of further steps that process so many prompt tokens."""
        time, room = clock.time, max(deployment.chunk_tokens - batch, 1)
        each = time.by_batch[batch] + time.per_context_token * sum(s.context for s in r.decoding)
        each -= time.saved if batch else 0.0
        whole, left = divmod(tokens, room)
        seconds = whole * (each + prompts(time, room))
        return float(seconds + (each + prompts(time, left) if left else 0.0))

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

    def seconds(self, r: Replica, clock: ClockedSteps) -> float:
        """Duration of the planned step at a clock."""
        return step_cost(clock.time, r.decoding, r.chunks)

    def account(self, r: Replica, seconds: float, part: float) -> None:
        """Share the energy of a step, or of a part of it, among those in it."""
        deployment = r.deployment
        assert isinstance(deployment, BatchingDeployment)
        static = float(deployment.static_power_w or 0.0)
        clock, decoding = deployment.clocks[r.clock], r.decoding
        time, energy, b = clock.time, clock.energy, len(decoding)
        gross = step_cost(energy, decoding, r.chunks)
        for s in [*decoding, *(s for s, _ in r.chunks)]:
            self.found.static[s.q] += part * static * seconds / (b + len(r.chunks))
        for s in decoding:
            batch = (energy.by_batch[b] - static * time.by_batch[b]) / b
            rate = energy.per_context_token - static * time.per_context_token
            self.found.decode[s.q] += part * (batch + rate * s.context)
        # All that prompts add is theirs: by token, but for what they attend to.
        pair = energy.per_prompt_pair - static * time.per_prompt_pair
        added = gross - static * seconds
        if b:
            added -= step_cost(energy, decoding, []) - static * step_cost(time, decoding, [])
        added -= pair * sum(pairs(s, take) for s, take in r.chunks)
        tokens = sum(take for _, take in r.chunks)
        for s, take in r.chunks:
            self.found.prefill[s.q] += part * (added * take / tokens + pair * pairs(s, take))
        self.book(r, r.state, r.begun_s + part * seconds, part * gross)

    def account_query(self, r: Replica, part: float) -> None:
        """The energy of a query alone."""
        d, q = r.deployment, r.running[0].q
        assert isinstance(d, OneQueryDeployment)
        static = min(d.idle_power_w * d.runtime_s[q], d.energy_j[q])
        self.found.static[q] += part * static
        self.found.decode[q] += part * (d.energy_j[q] - static)
        self.book(r, QUERY, r.begun_s + part * d.runtime_s[q], part * d.energy_j[q])

    def end_step(self, replica: Replica, now: float) -> None:
        """Hand out tokens; who has all of them leaves."""
        if replica.state == QUERY:
            self.account_query(replica, 1.0)
            self.finish(replica, replica.running[0], now)
            return
        if replica.state not in (PREFILL, DECODE):
            self.rest(replica, now)
            return
        assert isinstance(replica.deployment, BatchingDeployment)
        self.remember_excess(replica, now)
        self.account(replica, now - replica.begun_s, 1.0)
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


def pairs(s: Query, take: int) -> float:
    """Pairs of prompt tokens of this step and tokens that they attend to."""
    return take * (s.prompt_done + take / 2)


def prompts(model: StepModel, tokens: int) -> float:
    """Seconds or joules of the prompt tokens of a step, without what they attend to."""
    curve = 0.0 if model.prompt is None else float(model.prompt.of(np.array([tokens]))[0])
    return curve + model.per_prompt_token * tokens


def step_cost(model: StepModel, decoding: list[Query], chunks: list[tuple[Query, int]]) -> float:
    """Seconds or joules of a step."""
    total = float(model.by_batch[len(decoding)])
    total += model.per_context_token * sum(s.context for s in decoding)
    if chunks:
        total += prompts(model, sum(take for _, take in chunks))
        total += sum(model.per_prompt_pair * pairs(s, take) for s, take in chunks)
        total -= model.saved if decoding else 0.0
    return total
