"""The connections to engines, and what can go wrong on them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace

import aiohttp

from wattshed.errors import WattshedError
from wattshed.serve.target import Target
from wattshed.serve.timers import Within

KEPT_S = 3.0
"""Idle connections are closed before engines do it: uvicorn's default is 5 s."""
LONGEST_PAGE = 4 * 2**20
"""Bytes of a page of metrics."""
BUSY = (429, 503)
"""Statuses that say: not now."""
FAULTS = (401, 403, 408)
"""Statuses that are the fault of gateway or engine, besides redirections and those from 500 on."""


class UpstreamError(WattshedError):
    """An engine did not answer, or not as it should.

    Parameters
    ----------
    reason : str
        For the client, without addresses.
    detail : str
        For the log.
    busy : bool
        It said so itself, and is not broken.
    stale : bool
        The connection had been idle, and was likely closed: the same engine may be asked again.
    late : bool
        It did not answer in time.
    retry_after_s : float, optional
        As it said.
    """

    def __init__(
        self,
        reason: str,
        *,
        detail: str = "",
        busy: bool = False,
        stale: bool = False,
        late: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        self.reason, self.busy, self.stale, self.late = reason, busy, stale, late
        self.retry_after_s, self.detail = retry_after_s, detail
        super().__init__(reason)


class Pool:
    """Connections to all engines, kept open between requests. Made inside an event loop."""

    def __init__(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S)
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_remember_reuse)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept-Encoding"),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[tracing],
        )
        # Of their own: a connection that is left idle must not be one that engines close.
        self._looks = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))

    async def close(self) -> None:
        """Close them."""
        await self._session.close()
        await self._looks.close()

    @asynccontextmanager
    async def post(
        self, target: Target, path: str, body: bytes, headers: dict[str, str], seconds: float
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; the answer has begun, and its connection is given back at the end.

        Raises
        ------
        UpstreamError
            If there is no answer in time.
        """
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=target.upstream.connect_s)
        reused: set[str] = set()
        try:
            with Within(seconds):
                response = await self._session.post(
                    target.url + path,
                    data=body,
                    headers={**headers, **target.authorization},
                    allow_redirects=False,
                    timeout=timeout,
                    trace_request_ctx=reused,
                )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _failure(error, stale=bool(reused)) from None
        try:
            yield response
        finally:
            # Closed, not drained, if it was not read to its end: the engine stops working on it.
            response.close()

    async def metrics_page(self, target: Target, seconds: float) -> str:
        """What an engine tells Prometheus.

        Raises
        ------
        UpstreamError
        """
        url, is_own = metrics_url(target), (target.upstream.metrics or "").startswith("/")
        try:
            async with (
                asyncio.timeout(seconds),
                self._looks.get(
                    url,
                    headers=target.authorization if is_own else {},  # never to another port
                    allow_redirects=False,
                ) as response,
            ):
                page = await _bounded(response, LONGEST_PAGE)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _failure(error) from None
        return page.decode("utf-8", "replace")

    async def healthy(self, target: Target, seconds: float) -> bool:
        """Whether an engine answers at all."""
        url = target.url + target.upstream.health_path
        try:
            async with (
                asyncio.timeout(seconds),
                self._looks.get(
                    url, headers=target.authorization, allow_redirects=False
                ) as response,
            ):
                return response.status < 500
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


def metrics_url(target: Target) -> str:
    """Where an engine tells its load."""
    place = target.upstream.metrics or ""
    return target.url + place if place.startswith("/") else place


async def _bounded(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """A body that is no longer than it may be.

    Raises
    ------
    UpstreamError
    """
    if response.status != 200:
        raise UpstreamError(f"answered with status {response.status}")
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > limit:
            raise UpstreamError(f"sent more than {limit} bytes")
    return bytes(body)


def check_status(response: aiohttp.ClientResponse) -> None:
    """Let pass what is an answer to the client, errors of its own making included.

    Raises
    ------
    UpstreamError
    """
    status = response.status
    if status in BUSY:
        after = response.headers.get("Retry-After", "")
        seconds = float(after) if after.isdigit() else None
        raise UpstreamError(f"is busy (status {status})", busy=True, retry_after_s=seconds)
    if status >= 500 or status in FAULTS or not (status == 200 or status >= 400):
        raise UpstreamError(f"answered with status {status}")


async def parts(
    response: aiohttp.ClientResponse, seconds: Callable[[], float]
) -> AsyncIterator[bytes]:
    """The body as it comes.

    Parameters
    ----------
    response : ClientResponse
    seconds : callable
        Longest time until the next part.

    Raises
    ------
    UpstreamError
        If it breaks off, or nothing comes in time.
    """
    content = response.content
    while True:
        try:
            data = content.read_nowait()
            if not data:
                with Within(seconds()):
                    data = await content.readany()
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise _failure(error) from None
        if not data:
            return
        yield data


async def _remember_reuse(_session: object, context: SimpleNamespace, _params: object) -> None:
    """A request goes out on a connection that was idle, and which its engine may have closed."""
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.add("reused")


def _failure(error: Exception, *, stale: bool = False) -> UpstreamError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamError("cannot be reached in time", stale=stale)
    if isinstance(error, TimeoutError):
        return UpstreamError("did not answer in time", late=True)
    there = not isinstance(error, aiohttp.ClientConnectorError)
    reason = "broke off" if there else "cannot be reached"
    return UpstreamError(reason, detail=f"{type(error).__name__}: {error}", stale=stale)
