"""Whether somebody who asks is on this machine."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Mapping

from wattshed.serve.refused import RefusedError

PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
"""Headers of a proxy: who asks through one on this machine is somewhere else."""

MOST_KNOWN = 64
"""Headers that are remembered: those who ask from here come by a few names and ports."""


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
    name = name_of(headers.get("host", ""))
    return is_loopback(name) and not any(header in headers for header in PASSED_ON)


def name_of(host: str) -> str:
    """The name or address in a header Host, without its port."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]


class Names:
    """The names by which those on this machine may ask a gateway that needs no keys.

    A page of a foreign site can ask from a browser here: as itself, which its Origin says, or with
    its name pointed to this machine, which is then in Host. Programs have no Origin.

    Parameters
    ----------
    names : collection of str
        Besides those of this machine for itself.
    """

    def __init__(self, names: Collection[str] = ()) -> None:
        self._names = frozenset(name.lower() for name in names)
        self._known: set[str] = set()

    def check(self, headers: Mapping[str, str]) -> None:
        """Refuse what may be asked by the page of a foreign site.

        Raises
        ------
        RefusedError
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if host in self._known and (origin is None or origin in self._known):
            return
        self._learn(host, "host", host)
        if origin is not None:
            self._learn(origin, "origin", origin.partition("://")[2])

    def _learn(self, text: str, header: str, host: str) -> None:
        name = name_of(host).lower()
        if is_loopback(name) or name in self._names:
            if len(self._known) < MOST_KNOWN:
                self._known.add(text)
            return
        message = f"{header} {text!r} is not this machine: use 127.0.0.1, keys, or --allow-host"
        raise RefusedError(403, message, "foreign_host", param=header)
