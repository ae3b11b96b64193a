"""Leases on GPU clocks and power limits: what was there is put back, whatever happens.

What was there is written to a state file before anything is changed. It is put back when the lease
ends: normally, by an exception, or by SIGTERM, SIGHUP or SIGINT. If the process is killed, its
watchdog puts it back (`wattshed.measure.watchdog`); if that is killed too, the next start does.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import msgspec

from wattshed.errors import FileError, MeterError, ParameterError
from wattshed.files import write_atomically
from wattshed.measure.clock import SYSTEM_CLOCK
from wattshed.measure.knobs import (
    Change,
    Knobs,
    Settings,
    State,
    changes_of,
    open_knobs,
    put_back,
    read_state,
)
from wattshed.measure.watchdog import release, standing_by

PATIENCE_S = 10.0
"""For the watchdog of a process that was just killed."""
POLL_S = 0.05
WAIT = "wait until it has ended"

ENDING = ("SIGINT", "SIGTERM", "SIGHUP")


@dataclass(frozen=True)
class Lease:
    """What holds while a lease lasts.

    Attributes
    ----------
    changes : tuple of Change
    notes : tuple of str
        What an earlier process had left behind and was put back now, or who else has a lease.
    """

    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, dict[str, float]]:
        """What is set, by component: for the manifest of a trace."""
        found: dict[str, dict[str, float]] = {}
        for change in self.changes:
            now = found.setdefault(change.component, change.earlier.known())
            now.update(change.wanted.known())
        return found


@contextmanager
def settings_lease(
    gpus: str,
    *,
    clock_mhz: float | None = None,
    power_limit_w: float | None = None,
    state_file: Path,
) -> Iterator[Lease]:
    """Lock the clock of GPUs, or limit their power, as long as the context lasts.

    Parameters
    ----------
    gpus : str
        ``nvml`` for all, ``nvml:0,2``, or UUIDs.
    clock_mhz : float, optional
        One that the GPUs support. Clocks are left alone if not given.
    power_limit_w : float, optional
        Of each GPU. Left alone if not given.
    state_file : Path
        Where what was there is kept. One for the whole machine, so that two processes exclude each
        other, and the next one finds what a crash left behind.

    Raises
    ------
    ParameterError
        If a value is outside what a GPU supports; if another process has a lease.
    MeterError
        If it may not be set, or is not set although NVML says so: then all is as it was. Also if
        it could not be put back: then the state file stays, and the next start tries again.
    FileError
        If the state file cannot be written.

    Notes
    -----
    NVML does not tell whether clocks are locked. A lock that somebody else has set cannot be told
    from none: when the lease ends, clocks are unlocked.
    """
    wanted = Settings(clock_mhz, power_limit_w)
    note = restore_leftover(state_file)
    notes = (note,) if note else ()
    if wanted == Settings():
        yield Lease(notes=notes)
        return
    with _claimed(state_file) as lock:
        knobs = open_knobs(gpus)
        changes = changes_of(gpus, knobs, wanted)
        with standing_by(state_file, gpus, lock), _unwinding():
            state = State(os.getpid(), SYSTEM_CLOCK.wall_s(), changes)
            write_atomically(state_file, msgspec.json.encode(state))
            with _changed(knobs, changes, state_file):
                yield Lease(tuple(changes), notes)


@contextmanager
def _changed(knobs: Sequence[Knobs], changes: Sequence[Change], state_file: Path) -> Iterator[None]:
    """Set all; in the end restore those that were set."""
    knob_of = {knob.component: knob for knob in knobs}
    touched: list[Change] = []
    try:
        for change in changes:
            touched.append(change)  # before, since an interrupt may come right after it is set
            knob = knob_of[change.component]
            try:
                knob.set(change.wanted)
            except MeterError:
                touched.pop()
                raise
            knob.verify(change.wanted)
        yield
    finally:
        put_back(touched)
        state_file.unlink(missing_ok=True)


def restore_leftover(state_file: Path) -> str | None:
    """Put back what a process that crashed had set, if there is its state file.

    Returns
    -------
    note : str or None
        What was put back, or which running process has a lease.

    Raises
    ------
    MeterError
        If it cannot be put back.
    FileError
        If the file cannot be read.
    """
    if not state_file.exists():
        return None
    try:
        with _claimed(state_file):
            if not state_file.exists():
                return None  # its watchdog was quicker
            state = read_state(state_file)
            put_back(state.changes)
            state_file.unlink()
    except _HeldError as error:
        return error.found
    begun = datetime.fromtimestamp(state.begun_s, UTC).isoformat(timespec="seconds")
    what = "; ".join(map(str, state.changes))
    return f"process {state.pid}, begun {begun}, had left settings behind, put back now: {what}"


class _HeldError(ParameterError):
    """Another process has a lease."""


@contextmanager
def _claimed(state_file: Path) -> Iterator[int]:
    """Keep other processes from a state file; its watchdog shares the lock until it is done."""
    lock_file = state_file.with_name(f"{state_file.name}.lock")
    try:
        state_file.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(lock_file, os.O_RDONLY | os.O_CREAT, 0o644)
    except OSError as error:
        raise FileError(
            str(lock_file), f"cannot be written: {error.strerror}", "choose another path"
        ) from None
    try:
        _take(lock, state_file)
        try:
            yield lock
        finally:
            release(lock)
    finally:
        os.close(lock)


def _take(lock: int, state_file: Path) -> None:
    """Take the lock: at once, or when the watchdog of a process that was killed is done."""
    for _ in range(round(PATIENCE_S / POLL_S)):
        if _is_taken(lock):
            return
        holder = _holder(state_file)
        if holder is not None and _lives(holder.pid):
            what = "; ".join(map(str, holder.changes))
            raise _HeldError("settings", f"process {holder.pid} holds {what}", WAIT)
        SYSTEM_CLOCK.sleep(POLL_S)
    raise _HeldError("settings", f"another process holds {state_file}.lock", WAIT)


def _is_taken(lock: int) -> bool:
    import fcntl  # Unix only, and importing this module must not fail elsewhere

    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # it is somebody else's
    return True


def _holder(state_file: Path) -> State | None:
    try:
        return read_state(state_file)
    except FileError:
        return None  # it has not written it yet, or is done


@contextmanager
def _unwinding() -> Iterator[None]:
    """Have signals that would end the process at once raise `SystemExit`, so that it unwinds.

    Handlers that the program has set stay, and so does `KeyboardInterrupt`. Other threads cannot
    handle signals: there the watchdog does it all.
    """
    taken = []
    if threading.current_thread() is threading.main_thread():
        known = [getattr(signal, name) for name in ENDING if hasattr(signal, name)]
        taken = [s for s in known if signal.getsignal(s) is signal.SIG_DFL]
    for signum in taken:
        signal.signal(signum, _exit)
    try:
        yield
    finally:
        for signum in taken:
            signal.signal(signum, signal.SIG_DFL)


def _exit(signum: int, frame: FrameType | None) -> NoReturn:  # noqa: ARG001 (signal calls it so)
    raise SystemExit(128 + signum)  # as shells say it
