"""The connections to all engines: opened where none is idle, and closed when they were for long."""

from __future__ import annotations

import asyncio
import ipaddress
import math
import socket
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from urllib.parse import quote, urlsplit

from aiohappyeyeballs import AddrInfoType, start_connection

from wattshed.serve.outgoing import Departures
from wattshed.serve.refused import RefusedError
from wattshed.serve.timers import timers
from wattshed.serve.upstream_error import UpstreamError
from wattshed.serve.wire import Connection

KEPT_S = 3.0
"""Idle connections are closed before engines do it: uvicorn's default is 5 s."""
NAMES_S = 10.0
"""How long the addresses of a name are remembered."""
NEXT_ADDRESS_S = 0.25
"""When another address of a name is tried beside one that does not answer (RFC 8305)."""
PORTS = {"http": 80, "https": 443}
VISIBLE = "".join(map(chr, range(0x21, 0x7F)))
"""Characters that a path may have as they are."""


@dataclass(frozen=True)
class Address:
    """Where connections lead: those to the same can carry each other's requests."""

    host: str
    port: int
    secure: bool


@dataclass(frozen=True)
class Place:
    """The URL of an engine.

    Attributes
    ----------
    host : str
        As the header says it.
    prefix : str
        Of all paths.
    """

    address: Address
    host: str
    prefix: str
    _first: dict[str, bytes] = field(default_factory=dict, compare=False, repr=False)

    def head(self, path: str, headers: Mapping[str, str], length: int) -> bytes:
        """Request line and headers of a request with so many bytes of body.

        Raises
        ------
        RefusedError
            If a header would become two, or cannot be written.
        """
        first = self._first.get(path) or self._first_lines(path)
        others = _encoded(map(": ".join, headers.items()))
        return b"%b%bcontent-length: %d\r\n\r\n" % (first, others, length)

    def _first_lines(self, path: str) -> bytes:
        """Request line and host, which are the same for all requests."""
        lines = f"POST {self.prefix}{path} HTTP/1.1", f"host: {self.host}"
        found = self._first[path] = _encoded(lines)
        return found


def _encoded(lines: Iterable[str]) -> bytes:
    """Lines of a head, each with its end.

    Raises
    ------
    RefusedError
    """
    ended = [*lines, ""]
    try:
        found = "\r\n".join(ended).encode("latin-1")
    except UnicodeEncodeError:
        raise RefusedError(400, "a header is not in Latin-1", "invalid_http") from None
    if len(found) - len(found.translate(None, b"\r\n\0")) != 2 * (len(ended) - 1):
        raise RefusedError(400, "a header holds a line break", "invalid_http")
    return found


def place_of(url: str) -> Place:
    """Read the URL of an engine.

    Raises
    ------
    ValueError
        If there is no such port.
    """
    parts = urlsplit(url)
    name, usual = parts.hostname or "", PORTS[parts.scheme]
    port = usual if parts.port is None else parts.port
    host = f"[{name}]" if ":" in name else name
    if port != usual:
        host = f"{host}:{port}"
    address = Address(name, port, parts.scheme == "https")
    return Place(address, host, quote(parts.path.rstrip("/"), safe=VISIBLE))


class Connections:
    """Those that are open. Made inside an event loop."""

    def __init__(self) -> None:
        self._loop, self._timers = asyncio.get_running_loop(), timers()
        self._departures = Departures(self._loop)
        self._idle: dict[Address, list[Connection]] = {}
        self._open: set[Connection] = set()
        self._found: dict[Address, tuple[float, Sequence[AddrInfoType]]] = {}
        self._bell: asyncio.TimerHandle | None = None
        self._all_gone: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        """How many are open."""
        return len(self._open)

    def idle(self, address: Address) -> Connection | None:
        """The one that was used last of those that can be used."""
        those = self._idle.get(address)
        while those:
            found = those.pop()
            if not found.closed and self._loop.time() - found.idle_since_s < KEPT_S:
                found.reused = True
                return found
            found.drop()
        return None

    async def open(self, address: Address, seconds: float) -> Connection:
        """A new one.

        Raises
        ------
        UpstreamError
        """
        those = self._idle.setdefault(address, [])
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                connection = await self._connect(address, partial(self._keep, those))
        except TimeoutError:
            self._found.pop(address, None)
            raise UpstreamError("cannot be reached in time") from None
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be one
            self._found.pop(address, None)
            detail = f"{type(error).__name__}: {error}"
            raise UpstreamError("cannot be reached", detail=detail) from None
        if self._all_gone is not None:
            connection.drop()
        elif not connection.closed:
            self._open.add(connection)
        return connection

    async def _connect(self, address: Address, keep: Callable[[Connection], None]) -> Connection:
        found = await start_connection(
            await self._look_up(address),
            happy_eyeballs_delay=NEXT_ADDRESS_S,
            interleave=1,
            loop=self._loop,
        )
        _, connection = await self._loop.create_connection(
            lambda: Connection(self._timers, self._departures, keep, self._forget),
            sock=found,
            ssl=self._trusted if address.secure else None,
            server_hostname=address.host if address.secure else None,
        )
        return connection

    async def _look_up(self, address: Address) -> Sequence[AddrInfoType]:
        """What a socket needs to know of an address: of a number at once, of a name for a while."""
        kind, protocol = socket.SOCK_STREAM, socket.IPPROTO_TCP
        try:
            version = ipaddress.ip_address(address.host).version
        except ValueError:
            return await self._look_up_name(address, kind, protocol)
        family = socket.AF_INET6 if version == 6 else socket.AF_INET
        return [(family, kind, protocol, "", (address.host, address.port))]

    async def _look_up_name(
        self, address: Address, kind: int, protocol: int
    ) -> Sequence[AddrInfoType]:
        until_s, known = self._found.get(address, (0.0, ()))
        if self._loop.time() >= until_s:
            known = await self._loop.getaddrinfo(
                address.host, address.port, type=kind, proto=protocol
            )
            self._found[address] = self._loop.time() + NAMES_S, known
        return known

    @cached_property
    def _trusted(self) -> ssl.SSLContext:
        """Certificates that the system trusts, read when an engine needs them."""
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _keep(self, those: list[Connection], connection: Connection) -> None:
        if self._all_gone is not None:
            connection.drop()
            return
        connection.idle_since_s = self._loop.time()
        those.append(connection)
        if self._bell is None:
            self._bell = self._loop.call_later(KEPT_S, self._sweep)

    def _forget(self, connection: Connection) -> None:
        self._open.discard(connection)
        if self._all_gone is not None and not self._open and not self._all_gone.done():
            self._all_gone.set_result(None)

    def _sweep(self) -> None:
        """Close those that were idle for long; the others have their turn."""
        self._bell = None
        now_s, next_s = self._loop.time(), math.inf
        for those in self._idle.values():
            # Due by the very sum that the bell is set to: else it could ring for ever in a moment.
            while those and (those[0].closed or those[0].idle_since_s + KEPT_S <= now_s):
                those.pop(0).drop()
            if those:
                next_s = min(next_s, those[0].idle_since_s + KEPT_S)
        if next_s < math.inf:
            self._bell = self._loop.call_at(next_s, self._sweep)

    async def close(self) -> None:
        """Close all."""
        self._all_gone = self._loop.create_future()
        if self._bell is not None:
            self._bell.cancel()
        if self._open:
            for connection in list(self._open):
                connection.drop()
            await self._all_gone
