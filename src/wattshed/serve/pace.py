"""When a simulated engine has its tokens ready: steps of its profile, in real time or faster."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from wattshed.engines.model import UNLIMITED, BatchingDeployment, StepModel
from wattshed.profiles import predict
from wattshed.records import Deployment, IterationProfile, Profile
from wattshed.replicas import batching
from wattshed.serve.power import Power
from wattshed.serving import idle_power_w


@dataclass(eq=False)
class Job:
    """A request of a simulated engine.

    Attributes
    ----------
    tokens : Queue
        The number of each token, from 0, when it is there.
    """

    input_tokens: int
    output_tokens: int
    tokens: asyncio.Queue[int] = field(default_factory=asyncio.Queue)
    prompt_done: int = 0
    made: int = 0
    left: bool = False

    def make(self) -> None:
        """One token more."""
        self.tokens.put_nowait(self.made)
        self.made += 1

    @property
    def finished(self) -> bool:
        """Whether all tokens are there, or nobody waits for them."""
        return self.left or self.made >= self.output_tokens


class Pace:
    """One replica of a deployment, as the simulator would have it.

    Parameters
    ----------
    deployment : Deployment
    speed : float
        How many times faster than the profile says.
    """

    def __init__(self, deployment: Deployment, speed: float = 1.0) -> None:
        self._profile = deployment.profile
        self._engine: BatchingDeployment | None = None
        if isinstance(self._profile, IterationProfile):
            self._engine = batching(deployment, self._profile)
        self._speed = speed
        self._waiting: deque[Job] = deque()
        self._running: list[Job] = []
        self._some = asyncio.Event()
        self._due_s = 0.0
        self.power = Power(idle_power_w(deployment) or 0.0, speed)

    def submit(self, input_tokens: int, output_tokens: int) -> Job:
        """Begin a request."""
        job = Job(input_tokens, output_tokens)
        self._waiting.append(job)
        self._some.set()
        return job

    def load(self) -> dict[str, tuple[str, float]]:
        """How busy it is now, by what vLLM calls it, with a text for people."""
        waiting = [job for job in self._waiting if not job.left]
        running = [job for job in self._running if not job.finished]
        found = {
            "num_requests_running": ("Requests that it works on.", float(len(running))),
            "num_requests_waiting": ("Requests that wait.", float(len(waiting))),
        }
        if self._engine is not None and self._engine.kv_tokens < UNLIMITED:
            held = sum(job.prompt_done + job.made for job in running) / self._engine.kv_tokens
            found["kv_cache_usage_perc"] = ("Part of the KV cache in use.", held)
        return found

    async def run(self) -> None:
        """Serve for ever."""
        while True:
            if not self._waiting and not self._running:
                self._some.clear()
                await self._some.wait()
                self._due_s = asyncio.get_running_loop().time()
            if self._engine is None:
                await self._query()
            else:
                await self._step(self._engine)

    async def _until(self, seconds: float, joules: float) -> None:
        """Let time pass. Late steps are caught up with, so that nothing drifts."""
        begin_s, self._due_s = self._due_s, self._due_s + seconds / self._speed
        self.power.draw(begin_s, self._due_s, joules)
        await asyncio.sleep(max(0.0, self._due_s - asyncio.get_running_loop().time()))

    async def _query(self) -> None:
        """One query alone: its first token after r(m, 1), the others evenly until r(m, n)."""
        job = self._waiting.popleft()
        self._running = [job]
        assert isinstance(self._profile, Profile)
        n = np.array([1.0, job.output_tokens])
        found = predict(self._profile, np.full(2, job.input_tokens), n)
        first_s, last_s = found.runtime_s
        first_s, mean_w = min(first_s, last_s), float(found.energy_j[1] / last_s)
        await self._until(float(first_s), mean_w * float(first_s))
        job.make()
        while not job.finished:
            step_s = float((last_s - first_s) / (job.output_tokens - 1))
            await self._until(step_s, mean_w * step_s)
            job.make()
        self._running = []

    async def _step(self, engine: BatchingDeployment) -> None:
        self._running = [job for job in self._running if not job.finished]
        decoding = [job for job in self._running if job.made]
        chunks = list(self._chunks(engine, len(decoding)))
        if not decoding and not chunks:
            return
        costs = (step_s(model, decoding, chunks) for model in (engine.time, engine.energy))
        await self._until(*costs)
        for job, tokens in chunks:
            job.prompt_done += tokens
            if job.prompt_done == job.input_tokens:
                job.make()
        for job in decoding:
            job.make()

    def _chunks(self, engine: BatchingDeployment, decoding: int) -> Iterator[tuple[Job, int]]:
        """Prompt tokens of the next step: first come, first served, into what decoding leaves."""
        room = engine.chunk_tokens - decoding
        while self._waiting and len(self._running) < engine.max_batch:
            held = sum(job.input_tokens + job.output_tokens for job in self._running)
            new = self._waiting[0]
            if self._running and held + new.input_tokens + new.output_tokens > engine.kv_tokens:
                break
            self._running.append(self._waiting.popleft())
        for job in self._running:
            tokens = min(room, job.input_tokens - job.prompt_done)
            if tokens > 0:
                room -= tokens
                yield job, tokens


def step_s(model: StepModel, decoding: list[Job], chunks: list[tuple[Job, int]]) -> float:
    """Seconds of a step, or joules."""
    found = float(model.by_batch[len(decoding)])
    found += model.per_context_token * sum(job.input_tokens + job.made for job in decoding)
    tokens = sum(count for _, count in chunks)
    if tokens:
        if model.prompt is not None:
            found += float(model.prompt.of(np.array([tokens]))[0])
        found += model.per_prompt_token * tokens
        pairs = sum(count * (job.prompt_done + count / 2) for job, count in chunks)
        found += model.per_prompt_pair * pairs - (model.saved if decoding else 0.0)
    return found
