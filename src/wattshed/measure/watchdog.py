"""The process that puts clocks and power limits back when the one that set them was killed.

Run as ``python -m wattshed.measure.watchdog STATE_FILE PARENT_PID GPUS LOCK``. Its standard input
is a pipe from its parent, which ends with the parent, however that ends. If the state file is then
still there, the parent did not come to put things back.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from wattshed.errors import InputError, MeterError
from wattshed.measure.knobs import open_knobs, put_back, read_state

READY = "ready"
POLL_S = 1.0
PATIENCE_S = 10.0


@contextmanager
def standing_by(state_file: Path, gpus: str, lock: int) -> Iterator[None]:
    """Have a watchdog as long as the context lasts.

    Parameters
    ----------
    state_file : Path
    gpus : str
        As for `wattshed.measure.knobs.open_knobs`: it makes sure that it can open them.
    lock : int
        File descriptor of a lock, which the watchdog shares until it is done.

    Raises
    ------
    MeterError
        If it does not start.
    """
    arguments = [str(state_file.absolute()), str(os.getpid()), gpus, str(lock)]
    with subprocess.Popen(  # nosec B603 # ourselves, no shell
        [sys.executable, "-P", "-m", "wattshed.measure.watchdog", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # what interrupts the parent's terminal must not end it
        pass_fds=(lock,),
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            said = process.stdout.readline().strip()
            if said != READY:
                raise MeterError(
                    "settings",
                    f"the watchdog did not start: {said or 'it said nothing'}",
                    "see whether python -m wattshed.measure.watchdog can run",
                )
            yield
        finally:
            process.stdin.close()
            _see_off(process)


def _see_off(process: subprocess.Popen[str]) -> None:
    try:
        process.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()


def main(arguments: Sequence[str]) -> int:
    """Wait for the parent to end, then put back what it left; returns the exit code."""
    state_file, parent, gpus = Path(arguments[0]), int(arguments[1]), arguments[2]
    lock = int(arguments[3])
    for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, signal.SIG_IGN)  # it ends when its parent does, not before
    try:
        open_knobs(gpus)
    except InputError as error:
        _say(str(error))
        return 1
    _say(READY)
    _outlive(parent)
    try:
        return _restore(state_file, parent)
    except InputError as error:
        sys.stderr.write(f"wattshed: {error}\n")
        return 1
    finally:
        release(lock)


def release(lock: int) -> None:
    """Let a lock go, also where a forked process still has it open."""
    import fcntl  # Unix only, and importing this module must not fail elsewhere

    fcntl.flock(lock, fcntl.LOCK_UN)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _outlive(parent: int) -> None:
    """Return when the pipe ends, or the parent does: a fork of it may still hold the pipe."""
    while os.getppid() == parent:
        if select.select([sys.stdin], [], [], POLL_S)[0]:
            return  # nobody ever writes to it, so this is its end


def _restore(state_file: Path, parent: int) -> int:
    if not state_file.exists():
        return 0
    changes = read_state(state_file).changes
    put_back(changes)
    state_file.unlink()
    sys.stderr.write(
        f"wattshed: process {parent} is gone; put back {'; '.join(map(str, changes))}\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
