"""Requests to an OpenAI-compatible server, timed; what goes wrong is said in one line."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import msgspec

from wattshed.errors import EngineError
from wattshed.measure.clock import Clock
from wattshed.measure.drivers.openai_stream import Tally, cure_of, error_message, read_chunk

REFUSED = (400, 422, 500, 501)
"""Answers that ask for another dialect, or other tokens."""
EXAMPLE = "give a base URL such as http://localhost:8000/v1"
CURES = {
    401: "give api_key=, one that the server knows",
    403: "give api_key=, one that may use the model",
    404: "give a base URL that ends like /v1, and model= as its /models lists it",
    413: "ask for fewer tokens",
    429: "let it finish its other work, or raise its limits, then try again",
    503: "wait until it has started or finished its other work, then try again",
}
SERVER_BROKE = "look into the engine's log"


class RefusedError(EngineError):
    """An answer other than 200."""

    def __init__(self, where: str, found: str, cure: str, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(where, found, cure)


class Connection:
    """Requests to one server.

    Parameters
    ----------
    url : httpx.URL
    api_key : str
    timeout_s : float
        Longest silence.
    clock : Clock
    """

    def __init__(self, url: httpx.URL, api_key: str, timeout_s: float, clock: Clock) -> None:
        self.where = str(url.copy_with(userinfo=b"", query=None, fragment=None))
        self.timeout_s, self.clock = timeout_s, clock
        self._key = api_key
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(
            base_url=url,
            headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
            timeout=httpx.Timeout(timeout_s, connect=min(10.0, timeout_s)),
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
            trust_env=False,  # neither proxies nor keys that the user did not name
        )

    def close(self) -> None:
        """Hang up."""
        self._runner.run(self._client.aclose())
        self._runner.close()

    def get(self, path: str) -> bytes:
        """The answer to a GET request."""
        return self._runner.run(self._whole("GET", path, None))

    def post(self, path: str, body: object) -> bytes:
        """The answer to a POST request."""
        return self._runner.run(self._whole("POST", path, body))

    def stream(self, bodies: list[dict[str, object]]) -> tuple[int, list[Tally]]:
        """Send all requests at once; when that was, and what came of each."""
        return self._runner.run(self._streams([msgspec.json.encode(body) for body in bodies]))

    async def _whole(self, method: str, path: str, body: object) -> bytes:
        content = None if body is None else msgspec.json.encode(body)
        async with self._request(method, path, content) as answer:
            return await answer.aread()

    async def _streams(self, contents: list[bytes]) -> tuple[int, list[Tally]]:
        begun_ns = self.clock.mono_ns()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._one(content)) for content in contents]
        except* EngineError as errors:
            # The others were ended because of it, or failed alike.
            raise _first_of(errors) from None
        return begun_ns, [task.result() for task in tasks]

    async def _one(self, content: bytes) -> Tally:
        tally = Tally()
        async with self._request("POST", "completions", content) as answer:
            if answer.headers.get("content-type", "").startswith("application/json"):
                chunk = read_chunk(await answer.aread(), self.where)
                tally.add(chunk, self.clock.mono_ns())
                tally.whole = True
                return tally
            async for line in answer.aiter_lines():
                tally.add_line(line, self.clock.mono_ns(), self.where)
        return tally

    @asynccontextmanager
    async def _request(
        self, method: str, path: str, content: bytes | None
    ) -> AsyncIterator[httpx.Response]:
        headers = {"Content-Type": "application/json"} if content is not None else {}
        try:
            async with self._client.stream(
                method, path, content=content, headers=headers
            ) as answer:
                if answer.status_code != 200:
                    raise self._refusal(answer.status_code, await answer.aread())
                yield answer
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            cure = f"start the engine, or check the address; {EXAMPLE}"
            found = f"cannot be reached: {str(error) or 'it does not answer'}"
            raise EngineError(self.where, found, cure) from None
        except httpx.TimeoutException:
            cure = "raise timeout_s, or ask for less"
            found = f"said nothing for {self.timeout_s:g} s"
            raise EngineError(self.where, found, cure) from None
        except httpx.TransportError as error:
            raise EngineError(self.where, f"broke off: {error}", SERVER_BROKE) from None
        except httpx.RequestError as error:
            raise EngineError(self.where, f"sent what is no answer: {error}", EXAMPLE) from None

    def _refusal(self, status: int, body: bytes) -> RefusedError:
        if self._key:
            body = body.replace(self._key.encode(), b"***")
        message = error_message(body)
        cure = CURES.get(status) or cure_of(message)
        return RefusedError(self.where, f"answers {status}: {message}", cure, status, message)


def _first_of(errors: BaseExceptionGroup[EngineError]) -> EngineError:
    first: BaseException = errors
    while isinstance(first, BaseExceptionGroup):
        first = first.exceptions[0]
    assert isinstance(first, EngineError)
    return first
