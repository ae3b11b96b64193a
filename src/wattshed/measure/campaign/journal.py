"""The file of a campaign: lines of JSON, only ever appended, each on disk before the next trial.

The first line says what is measured and how; then comes a line for each trial, warm-up, idle
baseline, failure and later session. A crash can only cut off the last line, which is removed on
resuming.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from wattshed.errors import FileError
from wattshed.files import write_atomically
from wattshed.measure.campaign.design import Campaign, Sample
from wattshed.measure.campaign.lines import SCHEMA, Line, Manifest, Trial
from wattshed.measure.campaign.sums import add_up, meters_that_decide
from wattshed.records import DriverInfo, MeterInfo

CURE = "give a journal that `wattshed measure` wrote"
T = TypeVar("T")


_MANIFEST: msgspec.json.Decoder[Manifest] = msgspec.json.Decoder(Manifest)
_LINE: msgspec.json.Decoder[Line] = msgspec.json.Decoder(Line)


@dataclass
class Journal:
    """What a journal says.

    Attributes
    ----------
    manifest : Manifest
    lines : list of Line
        In order of time.
    """

    manifest: Manifest
    lines: list[Line]

    def __post_init__(self) -> None:
        self._meters = meters_that_decide(self.manifest.meters)
        self._samples: dict[int, list[Sample]] = {}
        for line in self.trials:
            self._take(line)

    def add(self, line: Line) -> None:
        """Take a line in."""
        self.lines.append(line)
        if isinstance(line, Trial):
            self._take(line)

    def _take(self, line: Trial) -> None:
        self._samples.setdefault(line.cell, []).append(sample_of(line, self._meters))

    @property
    def trials(self) -> list[Trial]:
        """The trials, in order of time."""
        return [line for line in self.lines if isinstance(line, Trial)]

    @property
    def samples(self) -> dict[int, list[Sample]]:
        """Runtimes and energies by cell, in order."""
        return self._samples


def sample_of(line: Trial, meters: Sequence[str]) -> Sample:
    """What the decisions need to know of a trial: energy is that of one query."""
    total_j = add_up(line.windows, meters).value_j
    energy_j = None if total_j is None else total_j / line.queries
    return Sample(line.runtime_s, energy_j)


def read_journal(path: Path) -> Journal:
    """Read a journal, at any time; a last line that was cut off is left out.

    Raises
    ------
    FileError
        Naming the line that is not one of a journal.
    """
    return _parse(path, _read(path))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise FileError(str(path), f"cannot be read: {error.strerror}", "check the path") from None


def _parse(path: Path, content: bytes) -> Journal:
    whole = content.split(b"\n")[:-1]  # what comes after the last line break was cut off
    if not whole:
        raise FileError(str(path), "holds no whole line", CURE)
    manifest = _decode(path, 1, whole[0], _MANIFEST)
    if manifest.schema != SCHEMA:
        raise FileError(str(path), f"has schema {manifest.schema!r}", CURE)
    lines = [_decode(path, number, text, _LINE) for number, text in enumerate(whole[1:], 2)]
    return Journal(manifest, lines)


def _decode(path: Path, number: int, text: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(f"{path}: line {number}", str(error), CURE) from None


class JournalFile:
    """A journal that is being written.

    Parameters
    ----------
    path : Path
    manifest : Manifest
        Of the process that writes: when it resumes, it must ask for the same campaign.
    resume : bool
        Go on with a journal that is there; otherwise there must be none.

    Raises
    ------
    FileError
        If there is a journal and it is not to be resumed, it is of another campaign, or another
        process writes it.
    """

    def __init__(self, path: Path, manifest: Manifest, *, resume: bool = False) -> None:
        self.path = path
        if not resume and path.exists():
            cure = "add --resume to go on with it, or write elsewhere"
            raise FileError(str(path), "there is a journal already", cure)
        if not path.exists():
            write_atomically(path, msgspec.json.encode(manifest) + b"\n")
        try:
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise self._not_written(error) from None
        try:
            self.journal = self._take_over(manifest)
        except BaseException:
            self.close()
            raise

    def _take_over(self, manifest: Manifest) -> Journal:
        """Keep others away, see that it is the same campaign, and remove what was cut off."""
        lock(self._file, self.path)
        content = _read(self.path)
        journal = _parse(self.path, content)
        refuse_other(self.path, journal.manifest, manifest)
        try:
            os.truncate(self.path, content.rfind(b"\n") + 1)
            os.fsync(self._file)
        except OSError as error:
            raise self._not_written(error) from None
        return journal

    def append(self, line: Line) -> None:
        """Append a line, all the way to the disk.

        Raises
        ------
        FileError
            If the disk does not take it; the lines before it stay whole.
        """
        data = msgspec.json.encode(line) + b"\n"
        before = os.fstat(self._file).st_size
        try:
            if os.write(self._file, data) < len(data):
                os.truncate(self.path, before)
                raise FileError(str(self.path), "the disk is full", "make room and resume")
            os.fsync(self._file)
        except OSError as error:
            os.truncate(self.path, before)
            raise self._not_written(error) from None
        self.journal.add(line)

    def close(self) -> None:
        """Finish."""
        os.close(self._file)

    def _not_written(self, error: OSError) -> FileError:
        found = f"cannot be written: {error.strerror}"
        return FileError(str(self.path), found, "make room or choose another path, and resume")


def lock(file: int, path: Path) -> None:
    """Keep a file to this process, until it is closed or the process ends, however it ends.

    Raises
    ------
    FileError
        If another process has it.
    """
    if sys.platform == "win32":
        return
    import fcntl  # Unix only

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        cure = "wait until it has ended, or stop it"
        raise FileError(str(path), "another campaign is writing it", cure) from None


def refuse_other(path: Path, there: Manifest, now: Manifest) -> None:
    """Refuse to go on with a campaign that was decided otherwise.

    Raises
    ------
    FileError
        Naming the first thing that differs.
    """
    for name, before, after in _what_matters(there, now):
        if before != after:
            cure = "resume with the options it began with, or write elsewhere"
            found = f"{name} was {_short(before)}, and now is {_short(after)}"
            raise FileError(str(path), f"is of another campaign: {found}", cure)


def _what_matters(there: Manifest, now: Manifest) -> Iterable[tuple[str, object, object]]:
    for name in Campaign.__struct_fields__:
        yield name, getattr(there.campaign, name), getattr(now.campaign, name)
    for name in DriverInfo.__struct_fields__:
        yield f"engine {name}", getattr(there.driver, name), getattr(now.driver, name)
    yield "meters", [_meter(info) for info in there.meters], [_meter(info) for info in now.meters]
    yield "inputs", there.inputs, now.inputs


def _meter(info: MeterInfo) -> str:
    return f"{info.id} ({info.kind}, {info.scope}, {'+'.join(info.covers)})"


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
