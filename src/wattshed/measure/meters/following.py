"""Meters that follow a command which prints, or writes, mean powers again and again."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from wattshed.errors import InputError, MeterError
from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.meter import PolledMeter
from wattshed.records import MeterInfo

FIRST_SAMPLE_S = 20.0
END_S = 2.0
STALE_PERIODS = 5
REFUSED = re.compile(r"superuser|password is required|permission|privilege", re.IGNORECASE)
"""What programs say that must be run by somebody else."""


@dataclass(frozen=True)
class Latest:
    """What was said last, by channel.

    Attributes
    ----------
    t_ns : int
        When it arrived.
    dt_s : float
        How long the sample was.
    power_w : dict of float
        Mean of the sample.
    energy_j : dict of float
        Sum of power times time so far; a channel that missed a sample begins anew.
    """

    t_ns: int
    dt_s: float
    power_w: dict[str, float]
    energy_j: dict[str, float]


class Board:
    """Where the thread that follows leaves what was said, and meters find it.

    Parameters
    ----------
    clock : Clock
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.latest: Latest | None = None
        self.error: str | None = None
        self.stopped = threading.Event()
        self.ended = threading.Event()
        self.begun = threading.Event()

    def post(self, dt_s: float, power_w: Mapping[str, float]) -> None:
        """Take a sample in."""
        before = self.latest.energy_j if self.latest else {}
        energy_j = {name: before.get(name, 0.0) + power * dt_s for name, power in power_w.items()}
        self.latest = Latest(self.clock.mono_ns(), dt_s, dict(power_w), energy_j)
        self.begun.set()

    def end(self, error: str | None = None) -> None:
        """Nothing more will come."""
        self.error = error
        self.ended.set()
        self.begun.set()


Follow = Callable[["subprocess.Popen[str]", Board], None]
"""Takes in what a command says until it ends or the board is stopped; runs in a thread."""


class Followed:
    """A command that runs until its meters are forgotten.

    Parameters
    ----------
    command : sequence of str
    follow : callable
    clock : Clock
    cure : str
        If there is no such command.
    printing : bool
        `follow` reads what it prints; else what it prints is looked at if it fails.
    cleanup : callable
        Done when all is over.

    Raises
    ------
    MeterError
        If it cannot be started, or ends before it has said anything.
    """

    def __init__(
        self,
        command: Sequence[str],
        follow: Follow,
        clock: Clock,
        cure: str,
        printing: bool = True,
        cleanup: Callable[[], object] = lambda: None,
    ) -> None:
        self.board = Board(clock)
        with tempfile.TemporaryFile("w+", errors="replace") as said:
            try:
                process = _start(command, subprocess.PIPE if printing else said, said, cure)
            except MeterError:
                cleanup()
                raise
            thread = threading.Thread(
                target=_run, args=(follow, process, self.board), name="wattshed-follow", daemon=True
            )
            thread.start()
            self.close = weakref.finalize(self, _end, process, thread, self.board, cleanup)
            self.board.begun.wait(FIRST_SAMPLE_S)
            if self.board.latest is None:
                self.close()
                said.seek(0)
                raise _refusal(command, said.read(), self.board.error, cure)


class Channel(PolledMeter):
    """One of the powers that a command says.

    Parameters
    ----------
    info : MeterInfo
    clock : Clock
    source : Followed
    name : str
        Of the channel.
    """

    def __init__(self, info: MeterInfo, clock: Clock, source: Followed, name: str) -> None:
        super().__init__(info, clock)
        self._source, self._name = source, name

    @property
    def age_s(self) -> float:
        """How long ago the last sample arrived."""
        latest = self._source.board.latest
        return float("inf") if latest is None else (self.clock.mono_ns() - latest.t_ns) / NS_PER_S

    def ask(self) -> tuple[float | None, float | None, tuple[str, ...]]:
        """See `PolledMeter`."""
        board, latest = self._source.board, self._source.board.latest
        if board.ended.is_set() or latest is None or self._name not in latest.power_w:
            return None, None, ("no_data",)
        flags = ("stale",) if self.age_s > STALE_PERIODS * latest.dt_s else ()
        return latest.energy_j[self._name], latest.power_w[self._name], flags


def _start(
    command: Sequence[str], output: int | IO[str], errors: IO[str], cure: str
) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(  # nosec B603 # the tool of a meter, no shell
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            text=True,
            errors="replace",
        )
    except FileNotFoundError:
        raise MeterError(command[0], "is not installed here", cure) from None
    except OSError as error:
        raise MeterError(
            command[0], f"cannot be run: {error.strerror}", cure, "not_permitted"
        ) from None


def _run(follow: Follow, process: subprocess.Popen[str], board: Board) -> None:
    """Follow until the end; what is no log ends it, and meters then say that there is nothing."""
    error: str | None = None
    try:
        follow(process, board)
    except InputError as found:
        error = str(found)
    finally:
        if process.stdout is not None:
            process.stdout.close()  # ends one that we may not signal, when it prints again
        board.end(error)


def _end(
    process: subprocess.Popen[str],
    thread: threading.Thread,
    board: Board,
    cleanup: Callable[[], object],
) -> None:
    board.stopped.set()
    with contextlib.suppress(PermissionError):  # one run by sudo ends by itself, see _run
        process.terminate()
    if thread is not threading.current_thread():  # in which garbage may be collected, too
        thread.join(END_S)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(PermissionError, subprocess.TimeoutExpired):
            process.kill()
            process.wait(END_S)
    cleanup()


def _refusal(command: Sequence[str], said: str, error: str | None, cure: str) -> MeterError:
    """Why a command said nothing."""
    reason = next((line.strip() for line in said.splitlines() if line.strip()), "")
    if REFUSED.search(said):
        return MeterError(command[0], f"may not be run: {reason}", cure, "not_permitted")
    found = error or reason or "said nothing"
    return MeterError(command[0], f"gives no power: {found}", cure, "not_trusted")
