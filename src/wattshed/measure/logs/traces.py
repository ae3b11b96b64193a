"""Any log as a trace, so that its windows can be computed offline.

Where a log tells mean powers over its samples, a reading has the energy since the log began, too:
the sum of power times time, exact at the ends of samples. Where samples are missing, a reading
without values stands in the gap, and the sum begins anew after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from wattshed.errors import FileError
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.logs import nvidia_smi, powermetrics, rapl_csv, uprof
from wattshed.measure.logs.text import begins_with, read_text
from wattshed.measure.trace import Manifest, Trace, read_trace
from wattshed.records import MeterInfo, Reading
from wattshed.records.measure import Scope

APPLE_SCOPES: dict[str, Scope] = {"cpu": "cpu_package", "gpu": "gpu", "ane": "soc"}
GAP_S = 1e-6
"""Samples closer than this follow one another."""
CURE = "give a trace, or a log of powermetrics, nvidia-smi, AMDuProfCLI timechart or RAPL packages"
SUMMED = "energy is the sum of mean powers"
CUT_OFF = "its end was cut off"
ASSUMED = "taken for the mean of a second, which it is not before Ampere and on GA100 (A100, A30)"
NO_ZONE = "times of the machine's zone, taken as UTC"
NO_DATE = "times of the day only"

Floats = NDArray[np.float64]


def trace_of_log(path: Path) -> Trace:
    """Read a trace, or any log, recognised by its content.

    Times of a log on the monotonic clock begin at 0.

    Raises
    ------
    FileError, TableError
        Naming the line.
    """
    if begins_with(path, b"{"):
        return read_trace(path)
    text = read_text(path)
    head = next((line for line in text.splitlines() if line.strip()), "")
    return _reader(text, head, str(path))(text, str(path))


def _reader(text: str, head: str, place: str) -> Callable[[str, str], Trace]:
    if powermetrics.BEGIN in text:
        return _of_powermetrics
    if uprof.BEGIN in text:
        return _of_uprof
    if "timestamp" in head and "power.draw" in head:
        return _of_nvidia_smi
    if rapl_csv.is_header(head):
        return _of_rapl
    raise FileError(place, f"is no log that is known here: it begins with {head[:60]!r}", CURE)


def _of_powermetrics(text: str, place: str) -> Trace:
    log = powermetrics.parse_powermetrics(text, place)
    powers = {"cpu": log.cpu_power_w, "gpu": log.gpu_power_w, "ane": log.ane_power_w}
    trace = Trace(Manifest([]))
    for name, power_w in powers.items():
        if np.isfinite(power_w).any():
            period_s = float(np.median(log.dt_s))
            info = apple_info(name, period_s, CUT_OFF if log.cut_off else "")
            _add(trace, info, _summed(log.begin_s, log.dt_s, power_w, log.wall_start_s))
    if not trace.manifest.meters:
        raise FileError(place, "has no power", "add the samplers cpu_power and gpu_power")
    return trace


def _of_uprof(text: str, place: str) -> Trace:
    log = uprof.parse_uprof(text, place)
    if not log.sockets:
        raise FileError(
            place, "has powers of cores only, which miss most of a package", "log --event power"
        )
    trace = Trace(Manifest([]))
    for i, socket in enumerate(log.sockets):
        note = _joined(NO_DATE, CUT_OFF if log.cut_off else "")
        info = amd_info(socket, log.interval_s, note)
        wall_s = log.clock_s - log.interval_s
        _add(trace, info, _summed(log.begin_s, log.dt_s, log.socket_power_w[:, i], wall_s))
    return trace


def _of_nvidia_smi(text: str, place: str) -> Trace:
    logs = nvidia_smi.parse_nvidia_smi(text, place)
    start_s = min(float(log.t_s[0]) for log in logs.gpus)
    trace = Trace(Manifest([]))
    for log in logs.gpus:
        info = MeterInfo(
            f"nvidia-smi:{log.device}",
            "replay",
            "log",
            "gpu",
            (log.device,),
            vendor="NVIDIA",
            averaging_s=0.0 if log.column == "power.draw.instant" else 1.0,
            note=_joined(
                log.column,
                ASSUMED if log.column == "power.draw" else "",
                NO_ZONE,
                CUT_OFF if logs.cut_off else "",
            ),
        )
        _add(trace, info, _pointwise(log.t_s, start_s, power_w=log.power_w))
    return trace


def _of_rapl(text: str, place: str) -> Trace:
    log = rapl_csv.parse_rapl_csv(text, place)
    start_s = float(log.t_s[0])
    trace = Trace(Manifest([]))
    for i, package in enumerate(log.packages):
        info = MeterInfo(
            f"rapl:package-{package}",
            "replay",
            "log",
            "cpu_package",
            (f"package-{package}",),
            note=CUT_OFF if log.cut_off else "",
        )
        column = log.values[:, i]
        energy_j, power_w = (column, None) if log.unit == "J" else (None, column)
        _add(trace, info, _pointwise(log.t_s, start_s, energy_j, power_w))
    return trace


def apple_info(name: str, period_s: float, note: str = "", *, live: bool = False) -> MeterInfo:
    """What powermetrics says of ``cpu``, ``gpu`` or ``ane``."""
    return MeterInfo(
        f"powermetrics:{name}",
        "powermetrics" if live else "replay",
        "counter" if live else "log",
        APPLE_SCOPES[name],
        (f"apple-{name}",),
        vendor="Apple",
        provenance="derived",
        update_period_s=period_s,
        averaging_s=period_s,
        note=_joined(SUMMED, "Apple calls its powers estimated", note),
    )


def amd_info(socket: int, period_s: float, note: str = "", *, live: bool = False) -> MeterInfo:
    """What a timechart says of a socket."""
    return MeterInfo(
        f"uprof:package-{socket}",
        "uprof" if live else "replay",
        "counter" if live else "log",
        "cpu_package",
        (f"package-{socket}",),
        vendor="AMD",
        provenance="derived",
        update_period_s=period_s,
        averaging_s=period_s,
        note=_joined(SUMMED, note),
    )


def _joined(*notes: str) -> str:
    return "; ".join(note for note in notes if note)


def _add(trace: Trace, info: MeterInfo, readings: Iterator[Reading]) -> None:
    trace.manifest.meters.append(info)
    for reading in readings:
        trace.add(info.id, reading)


def _summed(begin_s: Floats, dt_s: Floats, power_w: Floats, wall_s: float) -> Iterator[Reading]:
    """What a meter that follows the tool would say: the energy so far, up to the last sample.

    A reading stands right before each end of a sample, too, so that it is seen when it changed.
    """
    until_s = -np.inf
    for i in np.flatnonzero(np.isfinite(power_w)):
        if begin_s[i] > until_s + GAP_S:
            if np.isfinite(until_s):
                yield _reading((until_s + begin_s[i]) / 2, wall_s, None, None)
            said = _reading(begin_s[i], wall_s, 0.0, power_w[i])
            yield said
        until_s = begin_s[i] + dt_s[i]
        energy_j = (said.energy_j or 0.0) + power_w[i] * dt_s[i]
        after = _reading(until_s, wall_s, energy_j, power_w[i])
        yield msgspec.structs.replace(said, t_ns=after.t_ns - 1, t_wall_s=after.t_wall_s)
        yield after
        said = after


def _pointwise(
    t_s: Floats, start_s: float, energy_j: Floats | None = None, power_w: Floats | None = None
) -> Iterator[Reading]:
    """Readings at moments; times are since the epoch, or since any zero."""
    unknown = np.full(len(t_s), np.nan)
    energies = unknown if energy_j is None else energy_j
    powers = unknown if power_w is None else power_w
    for t, energy, power in zip(t_s, energies, powers, strict=True):
        yield _reading(t - start_s, start_s, energy, power)


def _reading(t_s: float, wall_s: float, energy_j: float | None, power_w: float | None) -> Reading:
    energy, power = _known(energy_j), _known(power_w)
    flags = ("no_data",) if energy is None and power is None else ()
    return Reading(round(float(t_s) * NS_PER_S), wall_s + float(t_s), energy, power, flags=flags)


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)
