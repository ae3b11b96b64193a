"""Usage in answers of engines, and how energy is put beside it without touching another byte."""

from __future__ import annotations

import re
from typing import Any

import msgspec

NAMED = {name: re.compile(rb'"%s"\s*:\s*' % name.encode()) for name in ("usage", "response")}
MOST_TOKENS = 2**53
"""That a usage may tell; JSON has longer numbers, which neither a ledger nor a float holds."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens of a request.

    Attributes
    ----------
    counted : bool
        By the gateway, because the engine did not say.
    """

    input_tokens: int
    output_tokens: int
    counted: bool = False


class _Tokens(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    total_tokens: int | None = None


class _Document(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"")


_TOKENS = msgspec.json.Decoder(_Tokens)
_DOCUMENT = msgspec.json.Decoder(_Document)
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read_usage(raw: bytes) -> Usage | None:
    """Usage in the words of chat completions or of responses; None where it says nothing."""
    if not raw.startswith(b"{"):
        return None
    try:
        found = _TOKENS.decode(raw)
    except msgspec.ValidationError:
        return None
    m = found.prompt_tokens if found.prompt_tokens is not None else found.input_tokens
    n = found.completion_tokens if found.completion_tokens is not None else found.output_tokens
    if m is None:
        return None
    n = n or 0
    return Usage(m, n) if 0 <= min(m, n) <= max(m, n) < MOST_TOKENS else None


def usage_of(document: bytes) -> bytes:
    """The usage of a JSON object as it was sent; empty where there is none, also for null.

    Raises
    ------
    msgspec.DecodeError
        If it is not a JSON object.
    """
    raw = bytes(_DOCUMENT.decode(document).usage)
    return b"" if raw == b"null" else raw


def put_energy(document: bytes, energy: bytes, usage: bytes | None = None) -> bytes:
    """Add ``energy`` to the usage of a JSON object that has one, which `usage_of` may have told.

    Parameters
    ----------
    document, energy, usage : bytes
        JSON.
    """
    raw = usage_of(document) if usage is None else usage
    return _replace(document, "usage", raw, _with_energy(raw, energy))


def put_energy_inside(document: bytes, energy: bytes) -> bytes:
    """The same for an event whose ``response`` has a usage, as streams of responses end."""
    raw = bytes(_OBJECT.decode(document)["response"])
    return _replace(document, "response", raw, put_energy(raw, energy))


def put_usage(document: bytes, usage: dict[str, Any]) -> bytes:
    """Give a usage to a JSON object that has none, or null."""
    new = msgspec.json.encode(usage)
    if bytes(_DOCUMENT.decode(document).usage) == b"null":
        return _replace(document, "usage", b"null", new)
    end = document.rindex(b"}")
    comma = b"," if _OBJECT.decode(document) else b""
    return document[:end] + comma + b'"usage":' + new + document[end:]


def _with_energy(raw: bytes, energy: bytes) -> bytes:
    if b"energy" in raw or b"\\" in raw:  # of a gateway behind this one: ours covers it
        fields = _OBJECT.decode(raw)
        if "energy" in fields:
            return msgspec.json.encode({**fields, "energy": msgspec.Raw(energy)})
    end = raw.rindex(b"}")
    comma = b"," if raw[1:end].strip() else b""
    return b'%b%b"energy":%b%b' % (raw[:end], comma, energy, raw[end:])


def _replace(document: bytes, name: str, old: bytes, new: bytes) -> bytes:
    """Another value for a top-level name: the only one, or the one whose change shows there."""
    place = document.rfind(old)
    if document.find(old) == place:
        return document[:place] + new + document[place + len(old) :]
    found = NAMED[name].finditer(document)
    for place in [m.end() for m in found if document.startswith(old, m.end())]:
        changed = document[:place] + new + document[place + len(old) :]
        if bytes(_OBJECT.decode(changed)[name]) == new:
            return changed
    # The name is spelled with escapes: legal, and never seen.
    return msgspec.json.encode({**_OBJECT.decode(document), name: msgspec.Raw(new)})
