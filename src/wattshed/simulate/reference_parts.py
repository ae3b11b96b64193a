"""What the plain simulator is about: requests under way, replicas, and what steps cost."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

import numpy as np

from wattshed.engines.model import (
    Deployment,
    StepModel,
)
from wattshed.simulate.layout import (
    IDLE,
    STATES,
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
