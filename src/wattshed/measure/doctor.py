"""Examine what can be measured here: meters and engines, what is wrong, and the cure."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from wattshed import __version__
from wattshed.errors import EngineError, MeterError
from wattshed.files import write_atomically
from wattshed.measure.clock import SYSTEM_CLOCK, Clock
from wattshed.measure.driver import DRIVERS, open_driver, without_user
from wattshed.measure.health import look_at_all
from wattshed.measure.knobs import KNOBS, open_knobs
from wattshed.measure.knobs_nvidia import NOT_PERMITTED
from wattshed.measure.meter import Meter, meter_names, open_meters
from wattshed.records import (
    Certificate,
    EngineFinding,
    Health,
    KnobFinding,
    MeterFinding,
    MeterKind,
    MeterStatus,
)

Report = Callable[[str, int, int], None]

LOOK_S = 2.0
"""How long meters are looked at: long enough for a counter that ticks every 100 ms."""
STATUS = Path("/proc/self/status")
CAP_SYS_ADMIN = 21
"""Its bit, in capability(7)."""
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
    meters: list[Meter] = []
    for done, text in enumerate(texts):
        if report:
            report(text, done, len(texts))
        found = _open(text, clock)
        if isinstance(found, MeterFinding):
            findings.append(found)
        else:
            meters += found
    findings += findings_of(meters, look_at_all(meters, clock, seconds))
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


def findings_of(meters: Sequence[Meter], health: Sequence[Health]) -> list[MeterFinding]:
    """Meters that are there, with what a look at them showed."""
    return [
        MeterFinding(
            meter.info.id,
            meter.info.source,
            meter.info.kind,
            found.status,
            found.reason,
            found.cure,
            meter.info,
            found,
        )
        for meter, found in zip(meters, health, strict=True)
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
    name, told = text.partition(":")[0], without_user(text)
    try:
        driver = open_driver(text, settings)
    except EngineError as error:
        return EngineFinding(told, "missing", f"{error.where}: {error.found}", error.cure)
    driver.close()
    return EngineFinding(told, "ok", detail=f"{name} serves {driver.info.model}")


def examine_knobs() -> list[KnobFinding]:
    """Whether clocks and power limits may be set here; changes nothing."""
    found: list[KnobFinding] = []
    for kind in KNOBS:
        try:
            knobs = open_knobs(kind)
            limits = [knob.read().power_limit_w for knob in knobs]
        except MeterError as error:
            reason = f"{error.where}: {error.found}"
            found.append(KnobFinding(kind, error.status, reason, error.cure))
            continue
        for knob, limit_w in zip(knobs, limits, strict=True):
            if may_administer():
                found.append(KnobFinding(knob.id, "ok", power_limit_w=limit_w))
            else:
                reason = "clock and power limit may not be set by this user"
                cure = NOT_PERMITTED
                found.append(KnobFinding(knob.id, "not_permitted", reason, cure, limit_w))
    return found


def may_administer() -> bool:
    """Whether this process has CAP_SYS_ADMIN, which drivers ask for; else, if it is root."""
    try:
        lines = STATUS.read_text().splitlines()
    except OSError:
        return os.geteuid() == 0
    capable = next((line for line in lines if line.startswith("CapEff:")), "CapEff: 0")
    return bool(int(capable.split()[1], 16) >> CAP_SYS_ADMIN & 1)


def certify(
    meters: list[MeterFinding],
    engines: list[EngineFinding] | None = None,
    knobs: list[KnobFinding] | None = None,
) -> Certificate:
    """What was found, with the machine and the time."""
    return Certificate(
        f"wattshed {__version__}",
        datetime.now(UTC).isoformat(timespec="seconds"),
        platform.node(),
        f"{platform.system()} {platform.release()} {platform.machine()}",
        boot_id(),
        meters,
        engines or [],
        knobs or [],
    )


def write_certificate(certificate: Certificate, path: Path) -> None:
    """Write it as JSON.

    Raises
    ------
    FileError
    """
    write_atomically(path, msgspec.json.format(msgspec.json.encode(certificate), indent=1))


def boot_id() -> str:
    """Tells one boot of a machine from another; empty where the system does not say."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return ""


def usable(findings: Sequence[MeterFinding]) -> list[MeterFinding]:
    """Meters that measure, and can be trusted."""
    measured = [f for f in findings if f.status == "ok" and f.source not in MADE_UP]
    return [f for f in measured if f.info is not None and f.info.provenance != "modelled"]
