"""AMD's ``AMDuProfCLI timechart``, followed while it writes its CSV.

The argument is the path of the program, if it is another one, and the process whose cores are to be
summed, as in the study of 2024: ``uprof``, ``uprof:/opt/AMDuProfCLI``, ``uprof:pid=4711``,
``uprof:/opt/AMDuProfCLI,pid=4711``.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import msgspec
import psutil  # type: ignore[import-untyped]

from wattshed.errors import ParameterError
from wattshed.measure.clock import Clock
from wattshed.measure.logs.traces import amd_info
from wattshed.measure.logs.uprof import (
    Columns,
    find_records,
    interval_of,
    parse_columns,
    parse_record,
    unroll,
)
from wattshed.measure.meter import Meter
from wattshed.measure.meters.following import Board, Channel, Followed
from wattshed.records import MeterInfo

PROGRAM = "AMDuProfCLI"
PERIOD_S = 0.1
OPTIONS = ("timechart", "--event", "power", "--interval", "100", "--duration", "99999", "-o")
POLL_S = 0.02
CORES = "cores"
CURE = "install AMD uProf with its power driver, and give uprof:PATH of AMDuProfCLI"


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Start a timechart, and open a meter for each socket, and for the cores of a process.

    Parameters
    ----------
    argument : str
        ``[PATH][,pid=PID]``; see above.
    clock : Clock

    Raises
    ------
    ParameterError, MeterError
    """
    program, pid = parse_argument(argument)
    if pid is not None and not cores_of(pid):
        raise ParameterError(
            "meter", f"the cores of process {pid} cannot be seen", "give one that runs, on Linux"
        )
    folder = tempfile.TemporaryDirectory(prefix="wattshed-uprof-")
    chart = Chart(Path(folder.name), pid)
    source = Followed(
        [program, *OPTIONS, folder.name],
        chart.follow,
        clock,
        CURE,
        printing=False,
        cleanup=folder.cleanup,
    )
    latest = source.board.latest
    found = latest.power_w if latest else {}
    sockets = sorted(int(name) for name in found if name != CORES)
    infos = {str(socket): amd_info(socket, PERIOD_S, live=True) for socket in sockets}
    if pid is not None:  # where its cores are not known, its readings say so
        infos[CORES] = _cores_info(sockets)
    return [Channel(info, clock, source, name) for name, info in infos.items()]


def parse_argument(argument: str) -> tuple[str, int | None]:
    """Program and process that an argument names.

    Raises
    ------
    ParameterError
    """
    program, pid = PROGRAM, None
    for part in filter(None, argument.split(",")):
        if not part.startswith("pid="):
            program = part
        elif part.removeprefix("pid=").isdigit():
            pid = int(part.removeprefix("pid="))
        else:
            raise ParameterError("meter", f"{part!r} has no number of a process", "use pid=NUMBER")
    return program, pid


def cores_of(pid: int) -> tuple[int, ...]:
    """Cores on which threads of a process run, or ran last; none if that cannot be seen."""
    if not hasattr(psutil.Process, "cpu_num"):
        return ()
    try:
        threads = [thread.id for thread in psutil.Process(pid).threads()]
    except psutil.Error:
        return ()
    cores = set()
    for thread in threads:
        try:
            cores.add(psutil.Process(thread).cpu_num())
        except psutil.Error:
            continue  # it ended since
    return tuple(sorted(cores))


class Chart:
    """A timechart that grows.

    Parameters
    ----------
    folder : Path
        Under which its file appears.
    pid : int or None
        Process whose cores are summed.
    """

    def __init__(self, folder: Path, pid: int | None) -> None:
        self._folder, self._pid = folder, pid
        self._head: list[str] = []
        self._columns: Columns | None = None
        self._clock_ms: int | None = None
        self._interval_s = PERIOD_S
        self._rest, self._number = "", 0

    def follow(self, process: subprocess.Popen[str], board: Board) -> None:
        """Take in records as they are written."""
        path = None
        while path is None:
            over = _over(process, board)
            path = next(self._folder.rglob("timechart.csv"), None)
            if over and path is None:
                return
        with path.open(errors="replace") as file:
            while True:
                over = _over(process, board)
                self._take(file.read(), board)
                if over:
                    return

    def _take(self, text: str, board: Board) -> None:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._number += 1
            where = f"timechart.csv: line {self._number}"
            if self._columns is not None:
                self._record(line, self._columns, where, board)
            else:
                self._head.append(line.rstrip("\r"))
                if find_records(self._head) is not None:
                    self._columns = parse_columns(self._head[-1], where)
                    self._interval_s = interval_of(self._head)

    def _record(self, line: str, columns: Columns, where: str, board: Board) -> None:
        if not line.strip():
            return
        clock_ms, values = parse_record(line, columns, where)
        dt_s = self._interval_s
        if self._clock_ms is not None:
            clock_ms = unroll(self._clock_ms, clock_ms, where)
            dt_s = (clock_ms - self._clock_ms) * 1e-3
        self._clock_ms = clock_ms
        sockets = len(columns.sockets)
        power_w = {str(name): values[i] for i, name in enumerate(columns.sockets)}
        if self._pid is not None:
            active = cores_of(self._pid)
            at = {core: values[sockets + i] for i, core in enumerate(columns.cores)}
            if active and set(active) <= set(at):  # else its power is not known: it is no 0
                power_w[CORES] = sum(at[core] for core in active)
        board.post(dt_s, power_w)


def _over(process: subprocess.Popen[str], board: Board) -> bool:
    """Wait a little; whether nothing more will be written than is there by now."""
    return board.stopped.wait(POLL_S) or process.poll() is not None


def _cores_info(sockets: list[int]) -> MeterInfo:
    """Cores of a process: part of the sockets, so never to be added to them."""
    note = "cores of a process only, which miss most of the package"
    return msgspec.structs.replace(
        amd_info(0, PERIOD_S, note, live=True),
        id="uprof:cores",
        covers=tuple(f"package-{socket}" for socket in sockets),
    )
