"""Ask a server over HTTP for what a meter reads, and say what was wrong with its answer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

import httpx
import msgspec

from wattshed.errors import ParameterError

TIMEOUT_S = 1.0
"""Who takes longer gives no data: the other meters of the round wait meanwhile."""

LOCAL = ("localhost", "127.0.0.1", "::1")
UNAUTHORIZED = (401, 403)


class _Body(msgspec.Struct):
    error: str


def take_options(url: str, known: Collection[str]) -> tuple[str, dict[str, str]]:
    """Split ``http://ADDRESS?option=value&...``; options that are not known stay in the address.

    Raises
    ------
    ParameterError
        If it is no address.
    """
    try:
        parts = urlsplit(url)
        httpx.URL(url)  # each of the two refuses what the other takes
        is_http = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except (httpx.InvalidURL, ValueError) as error:
        raise _no_address(url, str(error)) from None
    if not is_http:
        raise _no_address(url, "it has no host")
    if "@" in parts.netloc:  # not repeated: what names a meter is kept in files
        raise ParameterError("meter", "an address with a user", "give http://HOST:PORT without")
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    rest = urlencode([pair for pair in pairs if pair[0] not in known])
    return urlunsplit((*parts[:3], rest, "")), {k: v for k, v in pairs if k in known}


def _no_address(url: str, reason: str) -> ParameterError:
    return ParameterError("meter", f"{url!r} is no address: {reason}", "give http://HOST:PORT")


def open_client(url: str, socket: str | None = None, token: str = "") -> httpx.Client:
    """Client of a server, or of a Unix socket. It asks no proxy: meters are near."""
    verify = url.startswith("https")  # without, certificates need not be read, which takes a while
    return httpx.Client(
        base_url=url,
        verify=verify,
        transport=None if socket is None else httpx.HTTPTransport(verify=verify, uds=socket),
        headers={"Authorization": f"Bearer {token}"} if token else {},
        timeout=TIMEOUT_S,
        trust_env=False,
    )


def place_of(url: str) -> str:
    """What tells a server's components from those of this machine: ``HOST/``, or nothing."""
    host = urlsplit(url).hostname or ""
    return "" if host in LOCAL else f"{host}/"


def get(client: httpx.Client, path: str, query: Mapping[str, str] | None = None) -> bytes:
    """What a server answers.

    Raises
    ------
    httpx.HTTPError
        If there is no answer, or one that is no success.
    """
    response = client.get(path, params=query)
    response.raise_for_status()
    return response.content


def status_of(error: Exception | None) -> int | None:
    """Status of an answer that is no success; None if there is no answer."""
    return error.response.status_code if isinstance(error, httpx.HTTPStatusError) else None


def is_silent(error: Exception) -> bool:
    """Whether there is no answer at all."""
    return isinstance(error, httpx.TransportError)


def is_refusal(error: Exception) -> bool:
    """Whether it is a matter of permission: of a token, or of a socket's file."""
    if status_of(error) in UNAUTHORIZED:
        return True
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PermissionError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def reason_of(error: Exception) -> str:
    """Why a server gave no data, in a few words: its own where it has any."""
    if isinstance(error, httpx.HTTPStatusError):
        answer = error.response
        try:
            said = msgspec.json.decode(answer.content, type=_Body).error
        except (msgspec.DecodeError, UnicodeDecodeError):
            said = answer.reason_phrase
        return f"answers {answer.status_code}: {said}"
    if isinstance(error, httpx.HTTPError):
        return f"does not answer: {str(error) or type(error).__name__}"
    return f"answers something else: {error}"
