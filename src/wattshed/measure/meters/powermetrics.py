"""Apple's ``powermetrics``, followed while it runs. It needs the superuser.

The argument is the path of the program, if it is another one, after ``sudo`` if it is to be run by
``sudo -n``, which asks for no password: ``powermetrics:sudo``, ``powermetrics:sudo:/path``.
"""

from __future__ import annotations

import subprocess

from wattshed.errors import MeterError
from wattshed.measure.clock import Clock
from wattshed.measure.logs.powermetrics import BEGIN, parse_block
from wattshed.measure.logs.traces import APPLE_SCOPES, apple_info
from wattshed.measure.meter import Meter
from wattshed.measure.meters.following import Board, Channel, Followed

PROGRAM = "powermetrics"
PERIOD_S = 0.2
OPTIONS = (
    *("-i", "200", "-b", "1"),  # a line is printed when it is there
    *("--samplers", "tasks,cpu_power,gpu_power", "--show-process-energy"),
)
CURE = (
    "powermetrics is part of macOS and needs the superuser: run as root, allow it without password"
    " in sudoers and use powermetrics:sudo, or use the meter apple, which needs neither"
)


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Start powermetrics, and open a meter for each power that its first sample has.

    Parameters
    ----------
    argument : str
        ``[sudo][:]PATH``; see above.
    clock : Clock

    Raises
    ------
    MeterError
        If it is missing, may not be run, or gives no power.
    """
    source = Followed(command_of(argument), follow, clock, CURE)
    latest = source.board.latest
    if latest is None or not latest.power_w:
        raise MeterError(PROGRAM, "gives no power of CPU, GPU or ANE", CURE, "not_trusted")
    return [
        Channel(apple_info(name, PERIOD_S, live=True), clock, source, name)
        for name in APPLE_SCOPES
        if name in latest.power_w
    ]


def command_of(argument: str) -> list[str]:
    """Command line that an argument asks for; never with a password."""
    first, _, rest = argument.partition(":")
    if first == "sudo":
        return ["sudo", "-n", rest or PROGRAM, *OPTIONS]
    return [argument or PROGRAM, *OPTIONS]


def follow(process: subprocess.Popen[str], board: Board) -> None:
    """Take in samples as they are printed.

    A sample is whole when its last line is there, the power under ``GPU usage``, or when the next
    one begins.
    """
    lines: list[str] = []
    first, in_gpu = 0, False
    for number, line in enumerate(process.stdout or (), 1):
        if board.stopped.is_set():
            return
        if line.startswith(BEGIN):
            _post(lines, first, board)
            lines, first, in_gpu = [], number, False
        if first:
            lines.append(line.rstrip())
            in_gpu |= line.startswith("**** GPU usage")
        if in_gpu and line.startswith("GPU Power:"):
            _post(lines, first, board)
            lines, first, in_gpu = [], 0, False


def _post(lines: list[str], first: int, board: Board) -> None:
    if lines:
        sample = parse_block(lines, PROGRAM, first)
        board.post(sample.elapsed_s, sample.power_w)
