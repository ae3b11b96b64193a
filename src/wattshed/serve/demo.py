"""Two simulated engines of unlike machines, for a gateway that needs no GPU."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from msgspec import structs

from wattshed.errors import ParameterError
from wattshed.fleet import Fleet, load_fleet
from wattshed.records import Upstream
from wattshed.serve.background import background
from wattshed.serve.simulated import POWER, simulated_app

FLEET = "demo-70b"
MODELS = ["llama-2-70b"]


@contextmanager
def demo_fleet(speed: float = 1.0) -> Iterator[Fleet]:
    """The fleet of two engines that run on loopback until the end of the block.

    Parameters
    ----------
    speed : float
        How many times faster than their profiles say. Energies stay those of the profiles.

    Raises
    ------
    ParameterError
        If that is no number above 0.
    """
    if not 0 < speed < math.inf:
        raise ParameterError("--speed", f"{speed:g}", "give a number above 0")
    fleet = load_fleet(FLEET)
    with ExitStack() as stack:
        urls = [stack.enter_context(background(simulated_app(d, speed))) for d in fleet.deployments]
        live = [
            structs.replace(
                d, upstream=Upstream([url], MODELS, metrics="/metrics", meters=[meter_of(url)])
            )
            for d, url in zip(fleet.deployments, urls, strict=True)
        ]
        yield structs.replace(fleet, deployments=live)


def meter_of(url: str) -> str:
    """The meter of a simulated engine, as a fleet names it."""
    return f"prometheus:{url}{POWER}"
