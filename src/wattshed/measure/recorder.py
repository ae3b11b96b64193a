"""Record meters while something else runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from wattshed.errors import FileError, WattshedError
from wattshed.measure.clock import SYSTEM_CLOCK, Clock
from wattshed.measure.meter import Meter
from wattshed.measure.trace import Manifest, Trace, TraceFile


class Recorder:
    """Reads meters every so often, into a trace and, if there is one, a file.

    Parameters
    ----------
    meters : sequence of Meter
    interval_s : float
        Between two rounds.
    manifest : Manifest, optional
        Of the meters, with nothing else known, unless told.
    file : TraceFile, optional
        Closed at the end.
    clock : Clock
        That of the meters.

    Raises
    ------
    WattshedError
        At the end, if a meter could not be read or the file not be written meanwhile.

    Examples
    --------
    ``with Recorder(meters) as recorder: work()``, and then windows of ``recorder.trace``.
    """

    def __init__(
        self,
        meters: Sequence[Meter],
        interval_s: float = 0.005,
        manifest: Manifest | None = None,
        file: TraceFile | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.trace = Trace(manifest or Manifest([meter.info for meter in meters]))
        self._meters, self._interval_s, self._file = tuple(meters), interval_s, file
        self._clock = clock
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._failure: WattshedError | None = None

    def __enter__(self) -> Self:
        self.read_once()
        self._stop = self._clock.repeat(self._interval_s, self._repeat)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._stop is not None:
            self._stop()
        try:
            self._end()
        except WattshedError:
            if error is None:  # else that came first
                raise

    def _end(self) -> None:
        try:
            if self._failure is not None:
                raise self._failure
            self.read_once()
        finally:
            if self._file is not None:
                with suppress(FileError):  # all is flushed, or has failed
                    self._file.close()

    def _repeat(self) -> None:
        """One round; what goes wrong is told at the end, since nobody waits for the thread."""
        if self._failure is None:
            try:
                self.read_once()
            except WattshedError as error:
                self._failure = error

    def read_once(self) -> None:
        """One round, now: also from another thread."""
        with self._lock:
            for meter in self._meters:
                reading = meter.read()
                self.trace.add(meter.info.id, reading)
                if self._file is not None:
                    self._file.add(meter.info.id, reading)
            if self._file is not None:
                self._file.flush()
