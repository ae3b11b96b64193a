"""Examine what can be measured here: meters and engines, what is wrong, and the cure."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from wattshed.errors import EngineError, MeterError
from wattshed.measure.clock import SYSTEM_CLOCK, Clock
from wattshed.measure.driver import DRIVERS, open_driver
from wattshed.measure.health import judge_all
from wattshed.measure.meter import Meter, meter_names, open_meters
from wattshed.measure.recorder import Recorder
from wattshed.records import Certificate, EngineFinding, MeterFinding, MeterKind, MeterStatus

Report = Callable[[str, int, int], None]

LOOK_S = 2.0
"""How long meters are looked at: long enough for a counter that ticks every 100 ms."""
INTERVAL_S = 0.002
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")

TO_BE_NAMED: dict[str, tuple[MeterKind, str, str]] = {
    "prometheus": ("counter", "no address was given", "give --meter prometheus:http://HOST:PORT"),
    "replay": ("log", "no log was given", "give --meter replay:FILE"),
}
"""Kinds that cannot be looked for without an argument: kind, reason, cure."""
MADE_UP: dict[str, tuple[MeterKind, str, str]] = {
    "simulated": (
        "counter",
        "made up: a meter of known truth, to try things out",
        "give --meter simulated:... to see what faults look like",
    ),
    "model": (
        "model",
        "an assumption, not a measurement",
        "give --meter model:WATTS if an estimate will do; it is marked modelled everywhere",
    ),
}
KINDS: dict[str, MeterKind] = {"powermetrics": "power", "uprof": "power"}
"""Of meters that are not there; the others would be counters."""


def examine_meters(
    asked: Sequence[str] = (),
    *,
    clock: Clock = SYSTEM_CLOCK,
    seconds: float = LOOK_S,
    report: Report | None = None,
) -> list[MeterFinding]:
    """Look at all meters that wattshed knows, at once, and at those asked for.

    Parameters
    ----------
    asked : sequence of str
        ``NAME:ARGUMENT``, as ``--meter`` takes it; takes the place of NAME alone.
    clock : Clock
    seconds : float
        How long.
    report : callable, optional
        Told what is looked for, how many were looked for, and how many there are.

    Returns
    -------
    list of MeterFinding
        At least one of each kind.

    Raises
    ------
    ParameterError
        If one asked for is not known.
    """
    named = {text.partition(":")[0] for text in asked}
    texts = [*asked, *(name for name in meter_names() if name not in named)]
    findings: list[MeterFinding] = []
    meters: list[tuple[str, Meter]] = []
    for done, text in enumerate(texts):
        if report:
            report(text, done, len(texts))
        found = _open(text, clock)
        if isinstance(found, MeterFinding):
            findings.append(found)
        else:
            meters += [(text.partition(":")[0], meter) for meter in found]
    findings += _look_at([meter for _, meter in meters], [n for n, _ in meters], clock, seconds)
    order = meter_names()
    return sorted(findings, key=lambda f: (order.index(f.source), f.name))


def _open(text: str, clock: Clock) -> list[Meter] | MeterFinding:
    """The meters of a kind, or why there are none."""
    bare = {**TO_BE_NAMED, **MADE_UP}.get(text)
    if bare is not None:
        kind, reason, cure = bare
        status: MeterStatus = "missing" if text in TO_BE_NAMED else "not_trusted"
        return MeterFinding(text, text, kind, status, reason, cure)
    try:
        return open_meters(text, clock)
    except MeterError as error:
        name = text.partition(":")[0]
        kind = KINDS.get(name, "counter")
        reason = f"{error.where}: {error.found}"
        return MeterFinding(text, name, kind, error.status, reason, error.cure)


def _look_at(
    meters: Sequence[Meter], sources: Sequence[str], clock: Clock, seconds: float
) -> list[MeterFinding]:
    """Read all meters side by side for a moment, and judge them together."""
    if not meters:
        return []
    with Recorder(meters, INTERVAL_S, clock=clock) as recorder:
        clock.sleep(seconds)
    series = [(meter.info, recorder.trace.series(meter.info.id)) for meter in meters]
    return [
        MeterFinding(
            meter.info.id,
            source,
            meter.info.kind,
            health.status,
            health.reason,
            health.cure,
            meter.info,
            health,
        )
        for meter, source, health in zip(meters, sources, judge_all(series), strict=True)
    ]


def examine_engines(
    asked: Sequence[str] = (), *, settings: dict[str, str] | None = None
) -> list[EngineFinding]:
    """Whether the engine drivers have what they need; those asked for are opened.

    Parameters
    ----------
    asked : sequence of str
        ``NAME:ARGUMENT``, as ``--engine`` takes it.
    settings : dict, optional
        Of the drivers asked for.
    """
    named = {text.partition(":")[0] for text in asked}
    bare = [_bare(name) for name in DRIVERS if name not in named]
    return [*(_opened(text, settings or {}) for text in asked), *bare]


def _bare(name: str) -> EngineFinding:
    if name == "transformers":
        return _transformers()
    if name == "openai":
        cure = "give --engine openai:http://HOST:PORT/v1"
        return EngineFinding(name, "missing", "no address was given", cure)
    return EngineFinding(name, "ok", detail="takes the name of a profile; nothing is measured")


def _transformers() -> EngineFinding:
    absent = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if absent:
        cure = "pip install 'wattshed[transformers]'"
        return EngineFinding("transformers", "missing", f"{absent[0]} is not installed", cure)
    from importlib.metadata import version

    detail = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
    return EngineFinding("transformers", "ok", detail=detail)


def _opened(text: str, settings: dict[str, str]) -> EngineFinding:
    name = text.partition(":")[0]
    try:
        driver = open_driver(text, settings)
    except EngineError as error:
        return EngineFinding(text, "missing", f"{error.where}: {error.found}", error.cure)
    driver.close()
    return EngineFinding(text, "ok", detail=f"{name} serves {driver.info.model}")


def certify(
    meters: list[MeterFinding], engines: list[EngineFinding], created_by: str
) -> Certificate:
    """What was found, with the machine and the time."""
    return Certificate(
        created_by,
        datetime.now(UTC).isoformat(timespec="seconds"),
        platform.node(),
        f"{platform.system()} {platform.release()} {platform.machine()}",
        boot_id(),
        meters,
        engines,
    )


def boot_id() -> str:
    """Tells one boot of a machine from another; empty where the system does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def usable(findings: Sequence[MeterFinding]) -> list[MeterFinding]:
    """Meters that measure, and can be trusted."""
    measured = [f for f in findings if f.status == "ok" and f.info is not None]
    return [f for f in measured if f.info is not None and f.info.provenance != "modelled"]
