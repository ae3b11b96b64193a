"""What is sent on connections: that of many leaves together, at the end of a turn of the loop.

A peer that sleeps has to be woken by what it is sent, on another core by an interrupt, and that
costs the sender as much as all else of the call. What is sent in a row to one peer finds it awake,
but for the first. So clients have their turn, and engines theirs. Where few send anything, there is
nothing to win, and nobody waits.
"""

from __future__ import annotations

import asyncio
import logging

log = logging.getLogger("wattshed.serve")
MOST_WAITING = 64 * 1024
"""Bytes that may wait for the end of the turn; more than that is not worth copying either."""
FEW = 2
"""Connections that sent something in the last turn, up to which each sends at once."""


class Departures:
    """What leaves at the end of a turn, in the order in which connections first had something.

    Parameters
    ----------
    loop : AbstractEventLoop

    Attributes
    ----------
    few : bool
        Whether nobody waits for the end of the turn.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._those: list[Outgoing] = []
        self.few = True

    def add(self, outgoing: Outgoing) -> None:
        """Have a connection send, at the latest at the end of the turn."""
        if not self._those:
            self._loop.call_soon(self._leave)
        self._those.append(outgoing)

    def _leave(self) -> None:
        those, self._those = self._those, []
        self.few = len(set(those)) <= FEW  # some may have sent twice
        for outgoing in those:
            try:
                outgoing.flush()
            except Exception:  # whatever it is: what others sent leaves all the same
                log.exception("a connection failed")
                outgoing.abort()


class Outgoing:
    """The way out of one connection: what is written leaves in this order, soon.

    Parameters
    ----------
    transport : Transport
        Whoever writes to it besides breaks the order.
    departures : Departures
    """

    __slots__ = ("_departures", "_transport", "_waiting")

    def __init__(self, transport: asyncio.Transport, departures: Departures) -> None:
        self._transport, self._departures = transport, departures
        self._waiting = b""
        # What is written is to leave then and there. Above 0, because a transport with TLS takes 0
        # for: stop, though nothing waits.
        transport.set_write_buffer_limits(1)

    def write(self, data: bytes) -> None:
        """Send something, at the latest at the end of the turn."""
        if len(self._waiting) + len(data) > MOST_WAITING:
            self.flush()
            self._transport.write(data)
        elif data:
            if not self._waiting:
                self._departures.add(self)
            self._waiting += data
            if self._departures.few:
                self.flush()

    def flush(self) -> None:
        """Send now what waits."""
        if self._waiting:
            data, self._waiting = self._waiting, b""
            self._transport.write(data)

    @property
    def unsent(self) -> bool:
        """Whether the system has not taken all of it."""
        return bool(self._waiting) or self._transport.get_write_buffer_size() > 0

    def close(self) -> None:
        """Close the connection behind what waits."""
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.drop()
        self._transport.abort()

    def drop(self) -> None:
        """Send nothing more: there is nobody to take it, or nobody shall."""
        self._waiting = b""
