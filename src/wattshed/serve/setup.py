"""What follows from a fleet: swapped whole, while requests under way keep what they began with."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wattshed.fleet import Fleet
from wattshed.route.outlook import Outlooks
from wattshed.serve.canary import Canary
from wattshed.serve.decide import Decider
from wattshed.serve.metering import Watch, open_watches
from wattshed.serve.target import Targets


@dataclass(frozen=True)
class Setup:
    """A fleet, its endpoints, and what decides between them."""

    fleet: Fleet
    decider: Decider
    targets: Targets
    outlooks: Outlooks
    watches: list[Watch]


def deciding(
    policy: str,
    default: str,
    *,
    shadow: str | None = None,
    plan: str | Path | None = None,
    canary: Canary | None = None,
) -> Callable[[Fleet], Decider]:
    """Makes the decider of a fleet, and of each that takes its place, on the gateway's clock."""
    epoch_s = time.time() - time.monotonic()
    return partial(
        Decider,
        policy=policy,
        default=default,
        shadow=shadow,
        plan=plan,
        canary=canary,
        epoch_s=epoch_s,
    )


def make_setup(fleet: Fleet, decider: Decider, before: Setup | None = None) -> Setup:
    """The setup of a fleet; endpoints that stay keep their accounts.

    Raises
    ------
    FleetError, ParameterError
        If no deployment has an address, or a meter that covers one cannot be opened.
    """
    targets = Targets(fleet, before.targets if before else None)
    watches = open_watches(targets, before.watches if before else ())
    return Setup(fleet, decider, targets, decider.outlooks, watches)
