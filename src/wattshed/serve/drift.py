"""Whether profiles still tell what meters say: the ratio of both, with its interval."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock

from wattshed.records import LedgerDrift

log = logging.getLogger("wattshed.serve")
TOLERATED = 0.1
"""Part by which metered energy may differ from modelled before it is an alarm."""
FEWEST = 20
"""Requests before which no interval is told."""
LATELY = 5_000
"""Requests of an endpoint, after which those that came first count half."""
SURE = 1.96
"""Standard errors on either side of a ratio: 95 %."""


@dataclass
class Drift:
    """Metered against modelled energy of requests, as sums."""

    requests: int = 0
    modelled_j: float = 0.0
    metered_j: float = 0.0
    _xx: float = 0.0
    _xy: float = 0.0
    _yy: float = 0.0

    def add(self, modelled_j: float, metered_j: float) -> None:
        """One request more."""
        self.requests += 1
        self.modelled_j += modelled_j
        self.metered_j += metered_j
        self._xx += modelled_j**2
        self._xy += modelled_j * metered_j
        self._yy += metered_j**2

    def fade(self) -> None:
        """Let all that came so far count half."""
        self.requests //= 2
        for name in ("modelled_j", "metered_j", "_xx", "_xy", "_yy"):
            setattr(self, name, getattr(self, name) / 2)

    def found(self, endpoint: str, tolerated: float = TOLERATED) -> LedgerDrift | None:
        """The ratio; None where nothing was modelled.

        Its interval is that of a ratio of means over requests, drawn at random. It is an alarm when
        all of the interval is further from 1 than is tolerated.
        """
        if self.modelled_j <= 0:
            return None
        ratio, low, high = self.metered_j / self.modelled_j, None, None
        if self.requests >= FEWEST:
            squares = self._yy - 2 * ratio * self._xy + ratio**2 * self._xx
            n = self.requests
            error = math.sqrt(max(0.0, squares) * n / (n - 1)) / self.modelled_j
            low, high = ratio - SURE * error, ratio + SURE * error
        alarm = low is not None and high is not None and not _meets(low, high, tolerated)
        return LedgerDrift(
            endpoint, self.requests, self.modelled_j, self.metered_j, ratio, low, high, alarm
        )


def _meets(low: float, high: float, tolerated: float) -> bool:
    return low <= 1 + tolerated and high >= 1 - tolerated


class Drifts:
    """The drift of each endpoint lately. An alarm is logged when it begins.

    Meters are read by threads of their own, and each of them tells.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._known: dict[str, Drift] = {}
        self._alarmed: set[str] = set()

    def take(self, requests: Iterable[tuple[str, float | None, float]]) -> None:
        """Take in endpoint, modelled and metered energy of requests."""
        with self._lock:
            for endpoint, modelled_j, metered_j in requests:
                if modelled_j is not None:
                    self._add(endpoint, modelled_j, metered_j)
            drifts = self._found()
            begun = [d for d in drifts if d.alarm and d.endpoint not in self._alarmed]
            self._alarmed = {d.endpoint for d in drifts if d.alarm}
        for each in begun:
            log.warning(
                "%s is metered at %.3g times the energy that is modelled (95 %%: %.3g to %.3g)",
                each.endpoint,
                each.ratio,
                each.low,
                each.high,
            )

    def _add(self, endpoint: str, modelled_j: float, metered_j: float) -> None:
        known = self._known.setdefault(endpoint, Drift())
        known.add(modelled_j, metered_j)
        if known.requests >= LATELY:
            known.fade()

    def forget(self, endpoints: Iterable[str]) -> None:
        """Begin anew: what was known is of a profile, or a meter, that was replaced."""
        with self._lock:
            for endpoint in endpoints:
                self._known.pop(endpoint, None)
                self._alarmed.discard(endpoint)

    def found(self) -> list[LedgerDrift]:
        """Of each endpoint that has any."""
        with self._lock:
            return self._found()

    def _found(self) -> list[LedgerDrift]:
        drifts = (drift.found(name) for name, drift in self._known.items())
        return [drift for drift in drifts if drift is not None]
