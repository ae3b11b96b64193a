"""What the parsers of logs share: lines and rows, and numbers that say where they stand."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator
from pathlib import Path

from wattshed.errors import FileError, TableError


def read_text(path: Path) -> str:
    """Text of a log; bytes that are no UTF-8, as in names of processes, are replaced.

    Raises
    ------
    FileError
    """
    try:
        return path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise _unreadable(path, error) from None


def begins_with(path: Path, begin: bytes) -> bool:
    """Whether a file begins so; it may be too large to be read for that.

    Raises
    ------
    FileError
    """
    try:
        with path.open("rb") as file:
            return file.read(len(begin)) == begin
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: OSError) -> FileError:
    return FileError(str(path), f"cannot be read: {error.strerror}", "check the path")


def csv_rows(text: str, place: str, cure: str) -> Iterator[tuple[int, list[str]]]:
    """Rows of a CSV file without a header, and their numbers.

    Raises
    ------
    FileError
        Where a quotation does not end.
    """
    rows = csv.reader(io.StringIO(text))
    try:
        yield from enumerate(rows, 1)
    except csv.Error as error:
        raise FileError(at_line(place, rows.line_num), f"is no CSV: {error}", cure) from None


def whole_lines(text: str) -> tuple[list[str], bool]:
    """Lines that end in a line break, and whether one more was cut off."""
    lines = [line.rstrip("\r") for line in text.split("\n")]
    return lines[:-1], bool(lines[-1].strip())


def at_line(place: str, number: int) -> str:
    """Where a line stands, for errors."""
    return f"{place}: line {number}"


def finite(text: str, where: str, what: str) -> float:
    """A finite number.

    Raises
    ------
    TableError
        Naming the place and what should stand there.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise TableError(where, f"expected {what}, got {text.strip()!r}", "correct or cut the line")
    return value
