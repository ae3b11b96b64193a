"""GPUs and CPUs through zeusd, the daemon of Zeus, which runs as root so that nobody else must.

``zeusd:HOST:PORT`` or ``zeusd:http://HOST:PORT`` (TCP), ``zeusd:/path/to/zeusd.sock`` (Unix
socket), or `zeusd` for the socket at one of its usual places. Where it asks for a token, append
``?token_file=FILE``; the token goes into the header ``Authorization: Bearer TOKEN``.

The daemon tells no UUIDs: GPUs go by their index here, so do not add one to the same GPU read
through another meter. A CPU is the index of a powercap zone; on laptops one of them may be psys.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TypeVar

import httpx
import msgspec

from wattshed.errors import MeterError
from wattshed.measure import zeus_protocol as zeus
from wattshed.measure.clock import Clock
from wattshed.measure.meter import Meter
from wattshed.measure.shared import NO_DATA, NOT_PERMITTED, Flags, Shared, SharedMeter
from wattshed.measure.web import (
    UNAUTHORIZED,
    get,
    is_refusal,
    is_silent,
    open_client,
    place_of,
    reason_of,
    status_of,
)

NOT_ENABLED = 404
START = "start it with 'sudo zeusd serve' where the meters are"
ELSEWHERE = "check that it is zeusd that listens there"
ENABLE = "start it with 'zeusd serve --enable gpu-read,cpu-read'"
TOKEN = (
    "have its owner run 'zeusd token issue --scope gpu-read,cpu-read --user NAME --expires 30d "
    "--signing-key-path KEY', keep the token in a file, and append ?token_file=FILE"
)
SOCKET = "start it with 'sudo zeusd serve --socket-permissions 666'"
T = TypeVar("T")


def _is_absent(path: str) -> bool:
    try:
        Path(path).stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False  # to be told by who tries to connect
    return False


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Open a meter for each GPU, CPU package and dram that the daemon has.

    One that it does not let read, where others may be, gets a meter, whose readings say so.

    Raises
    ------
    ParameterError, MeterError
    """
    url, socket, token = zeus.parse_address(argument)
    if socket is not None and _is_absent(socket):
        raise MeterError(socket, "is not there", START)
    daemon = Daemon(socket or url, open_client(url, socket, token))
    found, _ = daemon.ask("/discover", {}, zeus.Discovery)
    if found is None:
        raise daemon.refusal(ELSEWHERE)
    infos = zeus.infos_of(found, "" if socket else place_of(url), daemon.clock_note(clock))
    if not infos:
        raise MeterError(daemon.where, "zeusd has no GPU, and no CPU with counters", START)
    gpus = Shared(partial(daemon.gpus, [gpu.id for gpu in found.all_gpus()]), clock)
    cpus = Shared(partial(daemon.cpus, [cpu.id for cpu in found.all_cpus()]), clock)
    meters: list[Meter] = [
        SharedMeter(info, gpus if info.scope == "gpu" else cpus, methodcaller("say", component))
        for component, info in infos.items()
    ]
    if all(meter.read().energy_j is None for meter in meters):
        raise daemon.refusal(START)
    return meters


class Daemon:
    """A zeusd that is asked; the connection is closed when it is let go.

    Parameters
    ----------
    where : str
        For errors.
    client : httpx.Client
    """

    def __init__(self, where: str, client: httpx.Client) -> None:
        self.where, self._client = where, client
        self._error: Exception = RuntimeError("nothing was asked")
        weakref.finalize(self, client.close)

    def ask(self, path: str, query: Mapping[str, str], kind: type[T]) -> tuple[T | None, Flags]:
        """What it answers, or why it does not."""
        try:
            return msgspec.json.decode(get(self._client, path, query), type=kind), ()
        except (httpx.HTTPError, msgspec.DecodeError, UnicodeDecodeError) as error:
            self._error = error
            refused = is_refusal(error) or status_of(error) == NOT_ENABLED
            return None, NOT_PERMITTED if refused else NO_DATA

    def gpus(self, ids: Sequence[int]) -> tuple[zeus.Round | None, Flags]:
        """Energy and power of GPUs."""
        query = {"gpu_ids": _list(ids)}
        energy, flags = self.ask("/gpu/get_cumulative_energy", query, dict[str, zeus.GpuEnergy])
        if energy is None and is_silent(self._error):
            return None, flags  # it is gone: to ask for power would take as long again
        power, _ = self.ask("/gpu/get_power", query, zeus.GpuPower)
        return zeus.gpu_round(energy, power, flags), ()

    def cpus(self, ids: Sequence[int]) -> tuple[zeus.Round | None, Flags]:
        """Energy of CPU packages and their dram."""
        query = {"cpu_ids": _list(ids), "cpu": "true", "dram": "true"}
        energy, flags = self.ask("/cpu/get_cumulative_energy", query, dict[str, zeus.CpuEnergy])
        return (None if energy is None else zeus.cpu_round(energy)), flags

    def clock_note(self, clock: Clock) -> str:
        """How far its wall clock is from ours."""
        before_s = clock.wall_s()
        answer, _ = self.ask("/time", {}, zeus.ServerTime)
        after_s = clock.wall_s()
        if answer is None:
            return ""
        offset_s = answer.timestamp_ms / 1000 - (before_s + after_s) / 2
        return f"its clock is {offset_s:+.3f} s from ours, within {(after_s - before_s) / 2:.3f} s"

    def refusal(self, cure: str) -> MeterError:
        """Error for the last question that was not answered; `cure` if it is not a permission."""
        status, reason = status_of(self._error), reason_of(self._error)
        if status in UNAUTHORIZED:
            return MeterError(self.where, reason, TOKEN, "not_permitted")
        if status == NOT_ENABLED and cure != ELSEWHERE:
            return MeterError(self.where, reason, ENABLE, "not_permitted")
        if is_refusal(self._error):
            return MeterError(self.where, reason, SOCKET, "not_permitted")
        return MeterError(self.where, reason, START if is_silent(self._error) else cure)


def _list(ids: Sequence[int]) -> str:
    return ",".join(map(str, ids))
