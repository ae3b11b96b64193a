"""What goes wrong while meters are recorded is told, in one line."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest

from wattshed.errors import EngineError, FileError
from wattshed.measure.clock import SYSTEM_CLOCK, Clock, VirtualClock
from wattshed.measure.meters.simulated import meters_for
from wattshed.measure.plant import Plant
from wattshed.measure.recorder import Recorder
from wattshed.measure.trace import Manifest, TraceFile


def recorder(folder: Path, clock: Clock) -> tuple[Recorder, int]:
    """Records into a pipe: once its other end is closed, nothing can be written any more."""
    path = folder / "trace.jsonl"
    os.mkfifo(path)
    end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    meters = meters_for(Plant(100.0), clock)
    file = TraceFile(path, Manifest([meter.info for meter in meters]))
    return Recorder(meters, 0.001, file=file, clock=clock), end


def record(folder: Path, clock: Clock, work: Callable[[], None]) -> None:
    """Record while something is done after which nothing can be written."""
    recording, end = recorder(folder, clock)
    with recording:
        os.close(end)
        work()


@pytest.mark.parametrize("clock", [VirtualClock(), SYSTEM_CLOCK])
def test_a_trace_that_cannot_be_written_is_told_at_the_end(tmp_path: Path, clock: Clock) -> None:
    done: list[bool] = []

    def work() -> None:
        clock.sleep(0.02)
        done.append(True)

    with pytest.raises(FileError, match=r"trace\.jsonl: cannot be written: Broken pipe"):
        record(tmp_path, clock, work)
    assert done


def test_what_went_wrong_first_is_what_is_told(tmp_path: Path) -> None:
    def work() -> None:
        raise EngineError("engine", "it is gone", "start it")

    with pytest.raises(EngineError, match="it is gone"):
        record(tmp_path, VirtualClock(), work)


def test_a_full_disk_is_no_traceback(tmp_path: Path) -> None:
    allowed, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))  # to the file, as a disk with no room
    try:
        with pytest.raises(FileError, match=r"trace\.jsonl: cannot be written: File too large"):
            TraceFile(tmp_path / "trace.jsonl", Manifest([]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (allowed, most))
