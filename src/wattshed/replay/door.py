"""The gateway that a replay sends to, and connections to it."""

from __future__ import annotations

from dataclasses import dataclass, field

import aiohttp
import httpx
import numpy as np

from wattshed.errors import ParameterError

PROMPTS = ("ids", "text")
KEPT_S = 3.0
"""Idle connections are closed before servers do it: uvicorn does after 5 s."""
MAX_READ = 2**20
"""Bytes of an answer that wait to be read."""


@dataclass(frozen=True)
class Door:
    """Where requests go.

    Attributes
    ----------
    url : str
        Without ``/v1``.
    model : str
    key : str
    timeout_s : float
        Longest silence.
    prompt : str
        One of `PROMPTS`: token ids, of which a server knows how many they are, or words.
    exact : bool
        Ask for answers of exactly as many tokens (``ignore_eos``, ``min_tokens``).
    engine_speed : float
        Seconds of the engines in one of ours.
    max_error : float
        Part of the requests that may fail before no more are sent.
    """

    url: str
    model: str = "auto"
    key: str = field(default="", repr=False)
    timeout_s: float = 600.0
    prompt: str = "ids"
    exact: bool = True
    engine_speed: float = 1.0
    max_error: float = 0.05

    def __post_init__(self) -> None:
        for name in ("timeout_s", "engine_speed"):
            if not 0 < getattr(self, name) < np.inf:
                raise ParameterError(name, f"{getattr(self, name):g}", "give a number above 0")
        if not 0 <= self.max_error <= 1:
            raise ParameterError("max_error", f"{self.max_error:g}", "give a part, from 0 to 1")


def check_url(text: str) -> str:
    """An address without its ``/v1``.

    Raises
    ------
    ParameterError
    """
    cure = "give the address of a gateway, such as http://127.0.0.1:8080; a key by --key-env"
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise ParameterError("--url", f"{text!r}: {error}", cure) from None
    if url.userinfo:  # reports would repeat it
        raise ParameterError("--url", "holds a user or a password", cure)
    if url.scheme not in ("http", "https") or not url.host or url.query or url.fragment:
        raise ParameterError("--url", repr(text), cure)
    if url.port is not None and not 0 < url.port < 2**16:
        raise ParameterError("--url", f"{text!r} names no port", cure)
    return text.rstrip("/").removesuffix("/v1")


def session_of(door: Door) -> aiohttp.ClientSession:
    """Connections to a gateway, as many as requests are open."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEPT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Authorization": f"Bearer {door.key}"} if door.key else {},
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=min(10.0, door.timeout_s), sock_read=door.timeout_s
        ),
        read_bufsize=MAX_READ,
        trust_env=False,
    )


async def get(session: aiohttp.ClientSession, url: str) -> tuple[int, bytes]:
    """Status and body of a page."""
    async with session.get(url) as answer:
        return answer.status, await answer.read()


def reason_of(error: Exception, timeout_s: float) -> str:
    """Why a gateway did not answer."""
    if isinstance(error, TimeoutError):
        return f"said nothing for {timeout_s:g} s"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"cannot be reached: {error.strerror or error}"
    return f"broke off: {type(error).__name__}"
