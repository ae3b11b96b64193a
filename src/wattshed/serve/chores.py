"""What runs beside the requests as long as a gateway does, whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

log = logging.getLogger("wattshed.serve")
PAUSE_S = 5.0
"""Before a chore that failed begins again: one that fails at once must not fill the log."""

Chore = Callable[[], Coroutine[None, None, None]]


async def keep_up(name: str, chore: Chore) -> None:
    """Run a chore until cancelled. What it does not expect is logged, and it begins again."""
    while True:
        try:
            await chore()
        except Exception:  # a task keeps its own to itself, and the gateway would go on without
            log.exception("%s failed; it begins again in %g s", name, PAUSE_S)
        await asyncio.sleep(PAUSE_S)
