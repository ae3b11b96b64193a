"""The addresses of engines in a fleet, and the keys that engines are sent: no file holds these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import structs

from wattshed.errors import FleetError
from wattshed.records import Fleet, Upstream

URL = re.compile(r"https?://(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[^\s?#]*)?")
"""Address of an engine; ``/v1`` and what follows is added."""
PATH = re.compile(r"/[^\s?#]*")
VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
KEY = re.compile(r"[\x21-\x7e]+")
"""What the header that a key is sent in can hold."""


def check_upstream(place: str, upstream: Upstream, replicas: int) -> None:
    """Refuse what cannot be meant: one address for each replica, and each an address.

    Raises
    ------
    FleetError
    """
    if len(upstream.urls) != replicas:
        found = f"{len(upstream.urls)} for {replicas} replicas"
        raise FleetError(f"{place}.urls", found, "give one URL for each replica")
    for index, url in enumerate(upstream.urls):
        if not _is_address(url):
            cure = "give http://HOST:PORT or https://HOST:PORT, without user and query"
            found = "holds a user or a password" if "@" in url else repr(url)  # the log has it
            raise FleetError(f"{place}.urls[{index}]", found, cure)
    _check_key(place, upstream)
    if len(upstream.meters) not in (0, 1, replicas):
        found = f"{len(upstream.meters)} for {replicas} replicas"
        raise FleetError(f"{place}.meters", found, "give one for each URL, or one for all")
    if upstream.metrics is not None and not _near(upstream.metrics, upstream.urls):
        cure = 'give a path such as "/metrics", or for one replica a URL on the host of its url'
        raise FleetError(f"{place}.metrics", repr(upstream.metrics), cure)


def _is_address(url: str) -> bool:
    found = URL.fullmatch(url)
    return found is not None and int((found[2] or ":0")[1:]) < 2**16


def _check_key(place: str, upstream: Upstream) -> None:
    if upstream.key_env is not None and upstream.key_file is not None:
        raise FleetError(place, "has key_env and key_file", "leave one of them out")
    if upstream.key_env is not None and not VARIABLE.fullmatch(upstream.key_env):
        # It may be the key itself: it is not repeated.
        cure = 'give its name, as in key_env = "ENGINE_KEY"; the key itself never stands here'
        raise FleetError(f"{place}.key_env", "is not the name of a variable", cure)


def _near(place: str, urls: list[str]) -> bool:
    if PATH.fullmatch(place):
        return True
    there, url = URL.fullmatch(place), URL.fullmatch(urls[0])
    return len(urls) == 1 and there is not None and url is not None and there[1] == url[1]


def placed_upstream(upstream: Upstream | None, folder: Path) -> Upstream | None:
    """The same with its files where they are, seen from anywhere."""
    if upstream is None or upstream.key_file is None:
        return upstream
    return structs.replace(upstream, key_file=str(folder / upstream.key_file))


def keys_of(fleet: Fleet, environment: Mapping[str, str]) -> dict[str, str]:
    """The keys that engines are sent, by deployment; see `wattshed.fleet.engine_keys`."""
    found = {}
    for index, deployment in enumerate(fleet.deployments):
        if deployment.upstream is not None:
            place = f"{fleet.name}: deployments[{index}].upstream"
            key = _key(place, deployment.upstream, environment)
            if key is not None:
                found[deployment.name] = key
    return found


def _key(place: str, upstream: Upstream, environment: Mapping[str, str]) -> str | None:
    if upstream.key_env is not None:
        where, cure = f"{place}.key_env", f"export {upstream.key_env} before wattshed serve"
        key = environment.get(upstream.key_env)
        if not key:
            state = "is not set" if key is None else "is empty"
            raise FleetError(where, f"the variable {upstream.key_env} {state}", cure)
    elif upstream.key_file is not None:
        where, cure = f"{place}.key_file", "give a file that holds the key and nothing else"
        key = _read(where, upstream.key_file, cure)
    else:
        return None
    if not KEY.fullmatch(key):
        raise FleetError(where, "the key has characters that no key has, or none at all", cure)
    return key


def _read(where: str, path: str, cure: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FleetError(where, f"{path} cannot be read: {error.strerror}", cure) from None
    except ValueError:  # what it holds, or its name
        raise FleetError(where, f"{path!r} is not text", cure) from None
