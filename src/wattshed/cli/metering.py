"""What `wattshed measure` opens: meters, and what sets and sees the hardware."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from wattshed.cli.shared import note
from wattshed.errors import MeterError, ParameterError

if TYPE_CHECKING:
    from wattshed.measure.campaign.design import Campaign
    from wattshed.measure.campaign.grid import Cell
    from wattshed.measure.campaign.guard import Observation
    from wattshed.measure.clock import Clock
    from wattshed.measure.driver import Driver
    from wattshed.measure.meter import Meter
    from wattshed.records import Health, MeterInfo

AUTO, NONE, SIMULATED = "auto", "none", "simulated"
AUTO_METERS = ("nvml", "amdsmi", "apple", "rapl")
"""What ``--meter auto`` tries: accelerators, and the host's processors and memory."""
STATE_FILE = Path("/run/wattshed/settings.json")
"""What clocks and limits were: gone after a reboot, as the settings themselves are."""


def lease_of(
    campaign: Campaign, gpus: str
) -> Callable[[Cell], AbstractContextManager[object]] | None:
    """What holds clock and power limit of a cell; None where no cell asks for any.

    Raises
    ------
    ParameterError, MeterError
        Before anything is measured, if one of them cannot be set.
    """
    wanted = {(cell.clock_mhz, cell.power_limit_w) for cell in campaign.cells}
    if wanted == {(None, None)}:
        return None
    from wattshed.measure.knobs import plan_settings
    from wattshed.measure.lease import settings_lease

    for clock_mhz, power_limit_w in sorted(wanted, key=str):
        for change in plan_settings(gpus, clock_mhz=clock_mhz, power_limit_w=power_limit_w):
            note(f"will set and put back: {change}")

    def hold(cell: Cell) -> AbstractContextManager[object]:
        return settings_lease(
            gpus,
            clock_mhz=cell.clock_mhz,
            power_limit_w=cell.power_limit_w,
            state_file=STATE_FILE,
        )

    return hold


def observe_of(campaign: Campaign, gpus: str) -> Callable[[], Observation] | None:
    """What the guard sees; None without a guard.

    Raises
    ------
    ParameterError, MeterError
        If nothing can be seen.
    """
    if campaign.guard is None:
        return None
    name, _, components = gpus.partition(":")
    if name == "nvml":
        from wattshed.measure.gpu_state import observer
    elif name == "amdsmi":
        from wattshed.measure.gpu_state_amd import observer
    else:
        raise ParameterError("--gpus", repr(gpus), "give nvml or amdsmi, as nvml:INDEX,...")
    return observer(components)


def open_all(names: tuple[str, ...], driver: Driver, clock: Clock) -> list[Meter]:
    """The meters that were asked for.

    Raises
    ------
    MeterError
        If one that is named is missing.
    ParameterError
        If ``none`` is not alone, two meters have one id, a GPU of the engine is not metered, or a
        real engine would be metered by a simulated meter.
    """
    from wattshed.measure.meter import open_meters
    from wattshed.measure.meters.simulated import open_meters as open_simulated

    if NONE in names:
        if len(names) > 1:
            raise ParameterError("--meter", " ".join(names), "give none alone")
        return []
    found: list[Meter] = []
    for name in names:
        plant = getattr(driver, "plant", None)
        kind, _, argument = name.partition(":")
        if plant is not None and kind in (AUTO, SIMULATED):
            found += open_simulated(argument, clock, plant)
        elif kind == SIMULATED:
            cure = "name a meter of this machine, or model:WATTS for an estimate that says so"
            raise ParameterError("--meter", f"{name}, but the engine is not simulated", cure)
        elif name == AUTO:
            found += of_devices(open_what_works(clock), driver.info.devices)
        else:
            found += open_meters(name, clock)
    refuse_what_is_not_metered([meter.info for meter in found], driver.info.devices)
    ids = [meter.info.id for meter in found]
    for i, each in enumerate(ids):
        if each in ids[:i]:
            raise ParameterError("--meter", f"{each} is there twice", "name each meter once")
    return found


def of_devices(meters: Sequence[Meter], devices: Sequence[str]) -> list[Meter]:
    """Without meters of other GPUs than the engine's, where it tells which are its own."""
    return [m for m in meters if not _gpus(m.info) or not devices or _gpus(m.info) & set(devices)]


def refuse_what_is_not_metered(meters: Sequence[MeterInfo], devices: Sequence[str]) -> None:
    """Refuse meters of some of the engine's GPUs without the others.

    Raises
    ------
    ParameterError
    """
    metered = set().union(*(_gpus(info) for info in meters))
    missing = [gpu for gpu in devices if gpu not in metered]
    if metered and missing:
        raise ParameterError(
            "--meter",
            f"leaves out {', '.join(missing)}, on which a part of the model lies",
            "name the meters of all its GPUs, or auto",
        )


def _gpus(info: MeterInfo) -> set[str]:
    """NVIDIA GPUs that a meter covers."""
    return {component for component in info.covers if component.startswith("GPU-")}


def open_what_works(clock: Clock) -> list[Meter]:
    """Every meter of this machine that works; says why if there is none."""
    from wattshed.measure.meter import open_meters

    found: list[Meter] = []
    reasons = []
    for name in AUTO_METERS:
        try:
            found += open_meters(name, clock)
        except MeterError as error:
            reasons.append(f"{name}: {error.found}")
    if not found:
        note(f"no meter works here: runs will have no energy ({'; '.join(reasons)})")
    return found


def only_ok(meters: Sequence[Meter], health: Sequence[Health]) -> tuple[list[Meter], list[Health]]:
    """Meters that can be trusted, with their certificates; says so if there is none."""
    kept = [i for i, each in enumerate(health) if each.status == "ok"]
    if meters and not kept:
        note("no meter can be trusted: runs will have no energy; name one to have it all the same")
    return [meters[i] for i in kept], [health[i] for i in kept]


def refuse_repeats(meters: Sequence[Meter], health: Sequence[Health]) -> None:
    """Refuse a meter that shows the counter of another one, as of something else.

    Both would be added: zeusd does not tell the UUIDs by which NVML names the same GPUs.

    Raises
    ------
    ParameterError
    """
    for meter, found in zip(meters, health, strict=True):
        others = {part for one in meters if one is not meter for part in one.info.covers}
        if "duplicate" in found.flags and not others & set(meter.info.covers):
            what = f"{found.meter} repeats the counter of another meter"
            raise ParameterError("--meter", what, "leave one of the two out")


def settings_of(meters: Sequence[Meter]) -> dict[str, dict[str, float]]:
    """Clock and power limit of NVIDIA GPUs that are metered, as they are now, by component.

    Raises
    ------
    MeterError
    """
    from wattshed.measure.knobs import open_knobs

    gpus = {gpu for m in meters if m.info.source == "nvml" for gpu in m.info.covers}
    found = [
        knob for gpu in sorted(gpus) if gpu.startswith("GPU-") for knob in open_knobs(f"nvml:{gpu}")
    ]
    return {knob.component: knob.read().known() for knob in found}


def tell_health(health: Sequence[Health]) -> None:
    """Say which meters cannot be trusted, and why."""
    for each in health:
        if each.status != "ok":
            note(f"warning: {each.meter}: {each.status}: {each.reason}; {each.cure}")
