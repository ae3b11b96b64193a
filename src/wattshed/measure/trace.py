"""Energy traces: what meters said, in order; kept as lines of JSON that are only ever appended."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from wattshed.errors import FileError
from wattshed.records import Health, MeterInfo, Reading

SCHEMA = "wattshed/trace/1"
CURE = "give a trace that wattshed recorded"
T = TypeVar("T")


@dataclass(frozen=True)
class Series:
    """Readings of one meter, in order of their monotonic times.

    Attributes
    ----------
    t_ns : int array (N,)
    t_wall_s, energy_j, power_w, read_s : arrays (N,)
        NaN where the meter did not say.
    flags : tuple of tuple of str (N,)
    """

    t_ns: NDArray[np.int64]
    t_wall_s: NDArray[np.float64]
    energy_j: NDArray[np.float64]
    power_w: NDArray[np.float64]
    read_s: NDArray[np.float64]
    flags: tuple[tuple[str, ...], ...]

    def __len__(self) -> int:
        return len(self.t_ns)

    def part(self, begin: int, end: int) -> Series:
        """Readings from one index to before another."""
        cut = slice(begin, end)
        return Series(
            self.t_ns[cut],
            self.t_wall_s[cut],
            self.energy_j[cut],
            self.power_w[cut],
            self.read_s[cut],
            self.flags[cut],
        )

    def joined(self, later: Series) -> Series:
        """These readings and those of another series, which must not begin before these end."""
        return Series(
            np.concatenate((self.t_ns, later.t_ns)),
            np.concatenate((self.t_wall_s, later.t_wall_s)),
            np.concatenate((self.energy_j, later.energy_j)),
            np.concatenate((self.power_w, later.power_w)),
            np.concatenate((self.read_s, later.read_s)),
            self.flags + later.flags,
        )


def series_of(readings: Iterable[Reading]) -> Series:
    """Readings as arrays, in order of time; equal times keep their order."""
    found = sorted(readings, key=lambda r: r.t_ns)
    return Series(
        np.array([r.t_ns for r in found], np.int64),
        np.array([r.t_wall_s for r in found], float),
        np.array([r.energy_j for r in found], float),
        np.array([r.power_w for r in found], float),
        np.array([r.read_s for r in found], float),
        tuple(r.flags for r in found),
    )


EMPTY = series_of(())


class Manifest(msgspec.Struct, frozen=True):
    """What a trace begins with.

    Attributes
    ----------
    meters : list of MeterInfo
    health : list of Health
        Certificates, as found before.
    boot_id : str
        Monotonic times of different boots cannot be compared.
    host : str
    settings : dict
        Clocks and power limits as they were, by component.
    schema : str
    """

    meters: list[MeterInfo]
    health: list[Health] = []
    boot_id: str = ""
    host: str = ""
    settings: dict[str, dict[str, float]] = {}
    schema: str = SCHEMA


class _Line(msgspec.Struct, frozen=True):
    """A reading and whose it is."""

    meter: str
    reading: Reading


@dataclass
class Trace:
    """A manifest, and readings by meter, to which more may be added.

    Attributes
    ----------
    manifest : Manifest
    readings : dict of list of Reading
    """

    manifest: Manifest
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    _built: dict[str, Series] = field(default_factory=dict, repr=False, compare=False)

    def add(self, meter: str, reading: Reading) -> None:
        """Take a reading in."""
        self.readings.setdefault(meter, []).append(reading)

    def series(self, meter: str) -> Series:
        """Readings of a meter so far; empty if there are none.

        What was built before is kept: only readings that came since are turned into arrays.
        """
        readings = self.readings.get(meter, [])
        built = self._built.get(meter, EMPTY)
        if len(built) == len(readings):
            return built
        later = series_of(readings[len(built) :])
        in_order = len(built) == 0 or built.t_ns[-1] <= later.t_ns[0]
        built = built.joined(later) if in_order else series_of(tuple(readings))
        self._built[meter] = built
        return built

    def info(self, meter: str) -> MeterInfo:
        """What a meter measures.

        Raises
        ------
        KeyError
            If the trace has no such meter.
        """
        return {info.id: info for info in self.manifest.meters}[meter]


class TraceFile:
    """Appends a trace to a file, line by line: a crash loses at most the line being written.

    Parameters
    ----------
    path : Path
        Is made anew.
    manifest : Manifest

    Raises
    ------
    FileError
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        with self._writing("choose another path"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file: io.BufferedWriter = path.open("wb")
        try:
            with self._writing():
                self._file.write(msgspec.json.encode(manifest) + b"\n")
                self._file.flush()
        except FileError:
            with suppress(OSError):
                self._file.close()
            raise

    def add(self, meter: str, reading: Reading) -> None:
        """Append a reading; raises `FileError`, as all that follows."""
        with self._writing():
            self._file.write(msgspec.json.encode(_Line(meter, reading)) + b"\n")

    def flush(self, *, to_disk: bool = False) -> None:
        """Hand what was added to the system, or all the way to the disk."""
        with self._writing():
            self._file.flush()
            if to_disk:
                os.fsync(self._file.fileno())

    def close(self) -> None:
        """Finish the file."""
        with self._writing():
            self._file.close()

    @contextmanager
    def _writing(self, cure: str = "make room for it") -> Iterator[None]:
        try:
            yield
        except OSError as error:
            found = f"cannot be written: {error.strerror}"
            raise FileError(str(self._path), found, cure) from None


def read_trace(path: Path) -> Trace:
    """Read a trace file; a last line that was cut off by a crash is left out.

    Raises
    ------
    FileError
        Naming the line that is not one of a trace.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError as error:
        raise FileError(str(path), f"cannot be read: {error.strerror}", "check the path") from None
    whole = lines[:-1]  # what comes after the last line break was cut off, or is empty
    if not whole:
        raise FileError(str(path), "is empty", CURE)
    trace = Trace(_decode(whole[0], Manifest, path, 1))
    if trace.manifest.schema != SCHEMA:
        raise FileError(str(path), f"has schema {trace.manifest.schema!r}", CURE)
    for number, text in enumerate(whole[1:], 2):
        line = _decode(text, _Line, path, number)
        trace.add(line.meter, line.reading)
    return trace


def _decode(text: bytes, kind: type[T], path: Path, number: int) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: line {number}", str(error), CURE) from None
