"""Send requests when they are due, and note when each of their tokens comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol

import aiohttp
import msgspec
import numpy as np

from wattshed.errors import EngineError
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.drivers.openai_dialect import (
    WORDS,
    IdPrompts,
    Prompt,
    TextPrompts,
    request_body,
)
from wattshed.measure.drivers.openai_stream import error_message, read_chunk
from wattshed.replay.door import Door, get, reason_of, session_of
from wattshed.replay.outcome import Replay, Trip, conclude
from wattshed.simulate.model import Requests
from wattshed.simulate.scenario import first_of

AHEAD_S = 0.2
"""Before the first request is due: time to begin."""
LOOK_S = 0.1
"""Time between two looks at how it goes."""
CLASS, DEADLINE = "X-Wattshed-Class", "X-Wattshed-Deadline"
ENDPOINT, REQUEST = "X-Wattshed-Endpoint", "X-Wattshed-Request"
IDS = (1000, 30000)

Report = Callable[[int, int], None]


class Prompts(Protocol):
    """Makes prompts."""

    def prompt(self, tokens: int) -> Prompt:
        """A prompt of as many tokens."""
        ...


def replay(
    requests: Requests, door: Door, *, seed: int = 0, report: Report | None = None
) -> Replay:
    """Send requests at their times, and wait for all answers.

    Parameters
    ----------
    requests : Requests
    door : Door
    seed : int
        Of the prompts.
    report : callable, optional
        Told how many have ended, and of how many. A KeyboardInterrupt that it raises ends the
        replay with what there is so far.
    """
    return asyncio.run(replaying(requests, door, seed, report))


async def replaying(
    requests: Requests, door: Door, seed: int = 0, report: Report | None = None
) -> Replay:
    """See `replay`; on the clock of the event loop that runs."""
    async with Sender(requests, door, seed) as sender:
        partial = await sender.run(report)
        sent = first_of(requests, sender.sent) if partial else requests
        trips = sender.trips[: len(sent)]
        return conclude(sent, trips, sender.begun_ns, door.engine_speed, partial=partial)


def now_ns() -> int:
    """On the clock of the event loop, which is a monotonic one."""
    return round(asyncio.get_running_loop().time() * NS_PER_S)


@dataclass
class Sender:
    """All requests of one replay."""

    requests: Requests
    door: Door
    seed: int
    trips: list[Trip] = field(default_factory=list)
    sent: int = 0
    ended: int = 0
    failed: int = 0
    begun_ns: int = 0

    def __post_init__(self) -> None:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed).spawn(3)[2])
        self._prompts: Prompts = IdPrompts(*IDS, rng)
        if self.door.prompt == "text":
            self._prompts = TextPrompts(WORDS, 1, rng)
        self._features = frozenset({"ids", "usage", *(("lengths",) if self.door.exact else ())})
        self.trips = [Trip() for _ in range(len(self.requests))]

    async def __aenter__(self) -> Sender:
        self._session = session_of(self.door)
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            # What is read and opened for the first request must not make it late.
            await get(self._session, f"{self.door.url}/v1/models")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._session.close()

    async def run(self, report: Report | None) -> bool:
        """Send all; whether it ended before all was done."""
        sending = asyncio.create_task(self._send_all())
        watching = asyncio.create_task(self._watch(report))
        try:
            await asyncio.wait({sending, watching}, return_when=asyncio.FIRST_COMPLETED)
            stopped = not sending.done()
        finally:
            for task in (sending, watching):
                task.cancel()
            await asyncio.wait({sending, watching})
        if not sending.cancelled():
            sending.result()
        return stopped

    async def _watch(self, report: Report | None) -> None:
        """End when somebody wants to, or too many have failed."""
        allowed = self.door.max_error * len(self.requests)
        while self.failed <= allowed:
            try:
                if report is not None:
                    report(self.ended, len(self.requests))
            except KeyboardInterrupt:
                return
            await asyncio.sleep(LOOK_S)

    async def _send_all(self) -> None:
        """Send each when it is due; ends when all have ended."""
        speed = self.door.engine_speed
        self.begun_ns = now_ns() + round(AHEAD_S * NS_PER_S)
        async with asyncio.TaskGroup() as group:
            for q, due_s in enumerate((self.requests.arrival_s / speed).tolist()):
                content = self._content(q)  # made while there is time
                left_ns = self.begun_ns + due_s * NS_PER_S - now_ns()
                await asyncio.sleep(max(0.0, left_ns / NS_PER_S))
                group.create_task(self._send(q, content))
                self.sent = q + 1

    def _content(self, q: int) -> bytes:
        m, n = int(self.requests.input_tokens[q]), int(self.requests.output_tokens[q])
        if self.door.prompt == "text":
            m = max(m, 2)  # words of which the first is always the same
        return msgspec.json.encode(
            request_body(self.door.model, self._prompts.prompt(m), n, self._features)
        )

    def _headers(self, q: int) -> dict[str, str]:
        requests = self.requests
        assert requests.group is not None
        found = {"Content-Type": "application/json"}
        if name := requests.classes[requests.group[q]]:
            found[CLASS] = name
        if requests.deadline_s is not None and 0 < requests.deadline_s[q] < np.inf:
            found[DEADLINE] = f"{requests.deadline_s[q] / self.door.engine_speed:.6g}"
        return found

    async def _send(self, q: int, content: bytes) -> None:
        trip = self.trips[q]
        trip.sent_ns = now_ns()
        try:
            await self._tell(trip, content, self._headers(q))
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            trip.error = trip.error or reason_of(error, self.door.timeout_s)
        except EngineError as error:
            trip.error = error.found
        trip.ended = True
        self.ended += 1
        self.failed += bool(trip.error)

    async def _tell(self, trip: Trip, content: bytes, headers: dict[str, str]) -> None:
        """One request, and all of its answer."""
        url = f"{self.door.url}/v1/completions"
        async with self._session.post(url, data=content, headers=headers) as answer:
            trip.status = answer.status
            trip.endpoint, trip.id = answer.headers.get(ENDPOINT), answer.headers.get(REQUEST)
            if answer.status != 200:
                trip.error = f"answers {answer.status}: {self._hidden(await answer.read())}"
            elif answer.content_type == "application/json":
                trip.tally.add(read_chunk(await answer.read(), url), now_ns())
                trip.tally.whole = trip.tally.finished = True
            else:
                await _listen(trip, answer, url)
        if not trip.error and not (trip.tally.finished and trip.tally.counted):
            trip.error = "ended its answer before it was complete"

    def _hidden(self, body: bytes) -> str:
        """What a server says went wrong, without the key."""
        key = self.door.key.encode()
        return error_message(body.replace(key, b"***") if key else body)


async def _listen(trip: Trip, answer: aiohttp.ClientResponse, where: str) -> None:
    """Read a stream line by line; all that came together came at one time."""
    rest = b""
    async for data in answer.content.iter_any():
        at_ns = now_ns()
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            trip.tally.add_line(line.decode("utf-8", "replace"), at_ns, where)
    trip.tally.add_line(rest.decode("utf-8", "replace"), now_ns(), where)
