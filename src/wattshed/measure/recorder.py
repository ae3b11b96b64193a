"""Record meters in a thread of its own while something else runs."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from wattshed.measure.meter import Meter
from wattshed.measure.trace import Manifest, Trace, TraceFile


class Recorder:
    """Reads meters every so often, into a trace and, if there is one, a file.

    Parameters
    ----------
    meters : sequence of Meter
    interval_s : float
        Between the beginnings of two rounds; a round that takes longer is followed at once.
    manifest : Manifest, optional
        Of the meters, with nothing else known, unless told.
    file : TraceFile, optional
        Closed at the end.

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
    ) -> None:
        self.trace = Trace(manifest or Manifest([meter.info for meter in meters]))
        self._meters, self._interval_s, self._file = tuple(meters), interval_s, file
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="wattshed-recorder", daemon=True)

    def __enter__(self) -> Self:
        self.read_once()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.read_once()
        if self._file is not None:
            self._file.close()

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

    def _run(self) -> None:
        while not self._stop.wait(self._interval_s):
            self.read_once()
