"""The connections to engines, and what can go wrong on them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp

from wattshed.serve.connections import Connections, Place, place_of
from wattshed.serve.target import Target
from wattshed.serve.upstream_error import UpstreamError
from wattshed.serve.wire import Connection

LONGEST_PAGE = 4 * 2**20
"""Bytes of a page of metrics."""
BUSY = (429, 503)
"""Statuses that say: not now."""
FAULTS = (401, 403, 408)
"""Statuses that are the fault of gateway or engine, besides redirections and those from 500 on."""


class Pool:
    """Connections to all engines, kept open between requests. Made inside an event loop."""

    def __init__(self) -> None:
        self.connections = Connections()
        self._places: dict[str, Place] = {}
        # Of their own: a connection that is left idle must not be one that engines close.
        self._looks = aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True))

    async def close(self) -> None:
        """Close them."""
        await self.connections.close()
        await self._looks.close()

    async def post(
        self, target: Target, path: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> Connection:
        """Send a request; the answer has begun, and is to be closed by who asked.

        Raises
        ------
        UpstreamError
            If there is no answer in time.
        RefusedError
            If a header cannot be sent.
        """
        place = self._places.get(target.url) or self._place(target.url)
        if target.authorization:
            headers = {**headers, **target.authorization}
        head = place.head(path, headers, len(body))
        connection = self.connections.idle(place.address)
        if connection is None:
            loop = asyncio.get_running_loop()
            end_s = loop.time() + seconds
            patience_s = min(seconds, target.upstream.connect_s)
            connection = await self.connections.open(place.address, patience_s)
            seconds = end_s - loop.time()
        try:
            await connection.ask(head, body, seconds)
        except BaseException:
            connection.drop()
            raise
        return connection

    def _place(self, url: str) -> Place:
        try:
            found = self._places[url] = place_of(url)
        except ValueError as error:
            raise UpstreamError("cannot be reached", detail=str(error)) from None
        return found

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


def check_status(response: Connection) -> None:
    """Let pass what is an answer to the client, errors of its own making included.

    Raises
    ------
    UpstreamError
    """
    status = response.status
    if status in BUSY:
        after = response.header(b"retry-after").strip()
        seconds = float(after) if after.isdigit() else None
        raise UpstreamError(f"is busy (status {status})", busy=True, retry_after_s=seconds)
    if status >= 500 or status in FAULTS or not (status == 200 or status >= 400):
        raise UpstreamError(f"answered with status {status}")


def _failure(error: Exception) -> UpstreamError:
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return UpstreamError("cannot be reached in time")
    if isinstance(error, TimeoutError):
        return UpstreamError("did not answer in time", late=True)
    there = not isinstance(error, aiohttp.ClientConnectorError)
    reason = "broke off" if there else "cannot be reached"
    return UpstreamError(reason, detail=f"{type(error).__name__}: {error}")
