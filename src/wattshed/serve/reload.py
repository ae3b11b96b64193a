"""A fleet file that changes while the gateway serves: read whole, or not at all."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from wattshed.errors import WattshedError
from wattshed.fleet import Fleet, load_fleet
from wattshed.serve.decide import Decider
from wattshed.serve.gateway import Gateway
from wattshed.serve.setup import Setup, make_setup

log = logging.getLogger("wattshed.serve")
LOOK_S = 1.0
"""Time between two looks at the file."""


class Reloader:
    """Knows when a fleet has to be read again, and reads it.

    Parameters
    ----------
    path : Path
    make : callable
        Makes the decider of a fleet.

    Attributes
    ----------
    asked : bool
        Set it to have the file read again whether it has changed or not.
    """

    def __init__(self, path: Path, make: Callable[[Fleet], Decider]) -> None:
        self.path, self._make = path, make
        self.asked = False
        self._seen = self._stamp()

    def due(self) -> bool:
        """Whether the file has changed since the last time, or somebody has asked."""
        before, self._seen = self._seen, self._stamp()
        asked, self.asked = self.asked, False
        return asked or (self._seen is not None and self._seen != before)

    def load(self, before: Setup) -> Setup:
        """The setup of the file as it is now.

        Raises
        ------
        WattshedError
        """
        fleet = load_fleet(self.path)
        return make_setup(fleet, self._make(fleet), before)

    def _stamp(self) -> tuple[int, int, int] | None:
        """What tells one version of the file from another; None while it is not there."""
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino


async def reload_when_due(gateway: Gateway, reloader: Reloader) -> None:
    """Let a gateway follow its fleet file for ever. A file with a fault changes nothing."""
    while True:
        await asyncio.sleep(LOOK_S)
        if reloader.due():
            try:
                setup = await asyncio.to_thread(reloader.load, gateway.setup)
            except WattshedError as error:
                log.warning("the fleet stays as it was: %s", error)
                continue
            if gateway.decider.is_off:  # asked now: the switch may be used while a file is read
                setup.decider.switch_off()
            gateway.adopt(setup)
            log.warning("the fleet was read again: %s", ", ".join(t.name for t in gateway.targets))
