"""What a controller sees of a replica that is about to begin a step: the plain way."""

from __future__ import annotations

import math

import numpy as np

from wattshed.control.controller import Observation
from wattshed.engines.model import (
    BatchingDeployment,
    ClockedSteps,
)
from wattshed.simulate.clocking import LOOK_AHEAD
from wattshed.simulate.model import Requests
from wattshed.simulate.policies import Promises
from wattshed.simulate.reference_parts import Replica, prompts, step_cost


class View:
    """How replicas are seen, given what requests were promised."""

    def __init__(self, requests: Requests, promises: Promises | None) -> None:
        self.requests, self.promises = requests, promises

    def of(self, r: Replica, deployment: BatchingDeployment, now: float) -> Observation:
        """A replica with the step that is planned."""
        clocks, b = deployment.clocks, len(r.decoding)
        steps = self.steps_ahead(r, deployment)
        held = sum(s.context for s in r.decoding) + (steps - 1) * b
        entered = b + len(r.chunks)
        promised = self.promises
        return Observation(
            tuple(c.clock for c in clocks),
            r.clock,
            r.raised_s,
            bool(r.chunks),
            b,
            bool(r.waiting) and (not r.chunks or entered >= r.cap),
            tuple(float(c.time.by_batch[b]) + c.time.per_context_token * held for c in clocks),
            tuple(step_cost(c.time, r.decoding, r.chunks) for c in clocks),
            promised is not None and promised.every_token,
            r.excess_s,
            tuple(self.ttft_part(r, deployment, c, now) for c in clocks),
            math.inf if promised is None else float(promised.tbt_s.min(initial=np.inf)),
            r.trust,
            r.usual_there,
            deployment.max_batch,
        )

    @staticmethod
    def steps_ahead(r: Replica, deployment: BatchingDeployment) -> int:
        """Steps until somebody is finished or the KV cache is full; one with prompts in it."""
        if r.chunks or not r.decoding:
            return 1 if r.chunks else 0
        left = min(s.outputs - s.tokens for s in r.decoding)
        held = sum(s.context for s in r.decoding)
        return int(min(left, (deployment.kv_tokens - held) // len(r.decoding) + 1))

    def ttft_part(
        self, r: Replica, deployment: BatchingDeployment, clock: ClockedSteps, now: float
    ) -> float:
        """Largest predicted TTFT of prompts that wait or are processed, over its limit."""
        if not r.chunks or self.promises is None:
            return 0.0
        ready = now + step_cost(clock.time, r.decoding, r.chunks)
        ending = [s for s, take in r.chunks if s.prompt_done + take == s.context]
        batch = min(len(r.decoding) + len(ending), deployment.max_batch)
        due = [(s, ready) for s in ending if s.tokens == 0]
        ahead = 0
        for s, take in r.chunks:
            if s not in ending:
                ahead = s.context - s.prompt_done - take
                if s.tokens == 0:
                    due.append((s, ready + more(r, deployment, clock, batch, ahead)))
        for s in list(r.waiting)[:LOOK_AHEAD]:
            ahead += s.context
            due.append((s, ready + more(r, deployment, clock, batch, ahead)))
        arrival, limit = self.requests.arrival_s, self.promises.ttft_s
        return float(max([0.0, *((at - arrival[s.q]) / limit[s.q] for s, at in due)]))


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
