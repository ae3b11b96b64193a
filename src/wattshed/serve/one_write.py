"""An answer's headers leave together with what follows them, in one write to the socket."""

from __future__ import annotations

import asyncio
from typing import Any


class OneWrite:
    """A transport that keeps the head of an answer back until its next part, or for a moment.

    The server writes head and body one after the other, and each write is a call of the system:
    for short answers that is most of what sending costs.

    Parameters
    ----------
    transport : asyncio.Transport
    loop : AbstractEventLoop
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport, self._loop = transport, loop
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Write what there is, but for a head on its own."""
        if not self._head and data.startswith(b"HTTP/"):
            self._head = data
            self._loop.call_soon(self.flush)
            return
        head, self._head = self._head, b""
        self._transport.write(head + data if head else data)

    def flush(self) -> None:
        """Write a head that nothing followed."""
        if self._head:
            head, self._head = self._head, b""
            self._transport.write(head)

    def close(self) -> None:
        """Close, once all is written."""
        self.flush()
        self._transport.close()
