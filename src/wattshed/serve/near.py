"""Whether somebody who asks is on this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping

PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
"""Headers of a proxy: who asks through one on this machine is somewhere else."""


def is_loopback(host: str) -> bool:
    """Whether a name or address is this machine's own, for itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def asked_from_here(headers: Mapping[str, str]) -> bool:
    """Whether a request that came over loopback was made on this machine, for itself.

    Not so if a proxy passed it on, or if it names another host: the page of a foreign site, which a
    browser here shows, can have its name point to this machine, and then read what it finds.
    """
    host = headers.get("host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return is_loopback(name) and not any(header in headers for header in PASSED_ON)
