"""Limits of the gateway."""

from __future__ import annotations

from dataclasses import dataclass

from wattshed.errors import ParameterError


@dataclass(frozen=True)
class Settings:
    """Limits of the gateway.

    Attributes
    ----------
    max_body_bytes : int
    seats : int
        Requests that may wait while all endpoints are full.
    queue_s : float
        How long each of them may.
    tries : int
        Most endpoints that a request is sent to.
    retry_share : float
        Most repeated sendings, as a part of the requests; the first ten are free, and
        `retries.RESERVE` may be saved up: an engine that dies fails all that it had at once.
    probe_s : float
        Time between two looks at the health of an endpoint.
    scrape_s : float
        Time between two looks at what an engine tells of its load.
    stall_s : float
        How long a client may take to send its request, or take nothing of its answer.
    loopback : bool
        Whether only this machine can reach it: then its state is nobody else's business.
    names : frozenset of str or None
        Where there are no keys, refuse who asks by another name than these and this machine's own;
        see `near.Names`. None takes all.
    """

    max_body_bytes: int = 32 * 2**20
    seats: int = 1024
    queue_s: float = 30.0
    tries: int = 3
    retry_share: float = 0.2
    probe_s: float = 5.0
    stall_s: float = 60.0
    loopback: bool = True
    scrape_s: float = 1.0
    names: frozenset[str] | None = None

    def __post_init__(self) -> None:
        for name in ("max_body_bytes", "queue_s", "tries", "probe_s", "scrape_s", "stall_s"):
            if not getattr(self, name) > 0:
                raise ParameterError(name, f"{getattr(self, name):g}", "give more than 0")
