"""What an endpoint works on, from the gateway's own account of what it has sent and seen.

It is what a policy is told of the endpoint. Until its first token a request waits, and its prompt
is still to be processed; from then on it runs, and its context grows with its answer. Of an answer
that is not streamed nothing is seen before its end: it is taken to run when its prompt was likely
processed, and to hold half the answer that is expected.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from heapq import heappop, heappush

import msgspec

from wattshed.records import Endpoint


class Flight(msgspec.Struct, eq=False, gc=False):
    """A request that an endpoint works on.

    Attributes
    ----------
    context_tokens : int
        That it holds once its prompt is processed.
    joined : bool
        Others were decoding when its prompt was processed.
    steps, shares : float
        Tokens that came of it, and the sum of its parts of the steps that made them.
    """

    input_tokens: int
    run_s: float = 0.0
    part_s: float = 0.0
    context_tokens: int = 0
    running: bool = False
    ended: bool = False
    joined: bool = False
    steps: float = 0.0
    shares: float = 0.0


@dataclass(slots=True, eq=False)
class Account:
    """What one endpoint works on.

    Attributes
    ----------
    alone : bool
        It serves one query at a time, whichever; the others wait.
    running, waiting, context_tokens, prompt_tokens : int
        As of `Endpoint`.
    most, most_waiting : int
        Requests at a time since `take_most`.
    """

    alone: bool = False
    running: int = 0
    waiting: int = 0
    context_tokens: int = 0
    prompt_tokens: int = 0
    most: int = 0
    most_waiting: int = 0
    _part_s: float = 0.0
    _changed_s: float = -math.inf
    _unseen: list[tuple[float, int, Flight]] = field(default_factory=list)
    _number: int = 0

    @property
    def in_flight(self) -> int:
        """Requests that it has."""
        return self.running + self.waiting

    def begin(self, input_tokens: int, now_s: float) -> Flight:
        """A request is sent."""
        self._integrate(now_s)
        flight = Flight(input_tokens)
        waiting = self.waiting = self.waiting + 1
        if waiting > self.most_waiting:  # noqa: PLR1730 - `max` takes as long as all the rest
            self.most_waiting = waiting
        if waiting + self.running > self.most:  # noqa: PLR1730 - as above
            self.most = waiting + self.running
        self.prompt_tokens += input_tokens
        return flight

    def take_most(self) -> tuple[int, int]:
        """The most requests at a time since this was asked last, and the most that waited."""
        found = self.most, self.most_waiting
        self.most, self.most_waiting = self.in_flight, self.waiting
        return found

    def expect(self, flight: Flight, first_s: float, half_answer: int) -> None:
        """Nothing will be seen of it: take its prompt as processed at a time."""
        self._number += 1
        flight.context_tokens = half_answer
        heappush(self._unseen, (first_s, self._number, flight))

    def run(self, flight: Flight, now_s: float) -> None:
        """Its first token is there, or is taken to be."""
        if flight.running or flight.ended:
            return
        self._integrate(now_s)
        flight.running, flight.joined = True, self.running > 0
        flight.run_s, flight.part_s = now_s, self._part_s
        flight.context_tokens += flight.input_tokens
        self.waiting -= 1
        self.running += 1
        self.prompt_tokens -= flight.input_tokens
        self.context_tokens += flight.context_tokens

    def grow(self, flight: Flight, tokens: int) -> None:
        """Its answer has grown."""
        if flight.running:
            flight.steps += tokens
            flight.shares += tokens / self.running
        flight.context_tokens += tokens
        self.context_tokens += tokens

    def end(self, flight: Flight, now_s: float) -> None:
        """It has ended, however. Ending twice is no matter."""
        if flight.ended:
            return
        if self._unseen:
            self.advance(now_s)
        self._integrate(now_s)
        flight.ended = True
        if flight.running:
            self.running -= 1
            self.context_tokens -= flight.context_tokens
        else:
            self.waiting -= 1
            self.prompt_tokens -= flight.input_tokens

    def beside(self, flight: Flight, now_s: float) -> float:
        """How many requests ran since it does, it included: the harmonic mean over its tokens.

        Whatever a replica takes for itself in a step, shared equally by those who are in it, is
        the part of one in so many. Over time it would be too many: fuller steps take longer. Of an
        answer whose tokens were not seen it is the mean over time all the same.
        """
        if flight.shares:
            return max(1.0, flight.steps / flight.shares)
        self._integrate(now_s)
        part_s = self._part_s - flight.part_s
        return max(1.0, (now_s - flight.run_s) / part_s) if flight.running and part_s > 0 else 1.0

    def advance(self, now_s: float) -> None:
        """Take prompts of which nothing is seen as processed when they are due."""
        unseen = self._unseen
        while unseen and unseen[0][0] <= now_s:
            due_s, _, flight = heappop(unseen)
            self.run(flight, due_s)

    def state(
        self, name: str, deployment: str, healthy: bool, now_s: float = -math.inf
    ) -> Endpoint:
        """As a policy is told of it, once prompts that are due by a time are processed."""
        if self._unseen:
            self.advance(now_s)
        running, waiting = self.running, self.waiting
        if self.alone:
            running, waiting = min(1, running + waiting), max(0, running + waiting - 1)
        held, backlog = self.context_tokens, self.prompt_tokens
        return Endpoint(name, deployment, running, waiting, healthy, held, backlog)

    def _integrate(self, now_s: float) -> None:
        """The time that falls to each of those that run."""
        if now_s > self._changed_s:
            if self.running:
                self._part_s += (now_s - self._changed_s) / self.running
            self._changed_s = now_s
