"""Write files whole or not at all, and tell one content from another."""

from __future__ import annotations

import hashlib
import math
import os
import tempfile
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from wattshed.errors import FileError

T = TypeVar("T")


def read_json(path: Path, kind: type[T], cure: str) -> T:
    """Read a JSON file as a record.

    Raises
    ------
    FileError
        If it cannot be read, or holds something else; `cure` says how to make one.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except OSError as error:
        raise FileError(str(path), f"cannot be read: {error.strerror}", "check the path") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(str(path), str(error), cure) from None


def find_not_finite(found: Any, place: str = "") -> tuple[str, float] | None:
    """Place and value of the first nan or inf, both of which TOML knows; None without one.

    Examples
    --------
    >>> find_not_finite({"keys": [{"tenant": "a"}, {"joules_per_hour": float("inf")}]})
    ('keys[1].joules_per_hour', inf)
    """
    if isinstance(found, float):
        return None if math.isfinite(found) else (place, found)
    parts: list[tuple[str, Any]] = []
    if isinstance(found, dict):
        parts = [(f"{place}.{key}".removeprefix("."), value) for key, value in found.items()]
    elif isinstance(found, list):
        parts = [(f"{place}[{index}]", value) for index, value in enumerate(found)]
    wrong = (find_not_finite(value, below) for below, value in parts)
    return next((each for each in wrong if each), None)


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write beside `path`, then rename, so that a reader never sees half a file.

    Raises
    ------
    FileError
        If the folder cannot be made or written.
    """
    data = content.encode() if isinstance(content, str) else content
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            Path(beside).chmod(0o644)
            Path(beside).replace(path)
        finally:
            Path(beside).unlink(missing_ok=True)
    except OSError as error:
        raise FileError(
            str(path), f"cannot be written: {error.strerror}", "choose another path"
        ) from None


def sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
