"""What a reader of a simulation has to know: assumptions and settings."""

from __future__ import annotations

from wattshed.control.clocks import BatchCap, PinnedMaximum, StaticClock
from wattshed.control.controller import Controller
from wattshed.fleet import Fleet
from wattshed.records import IterationProfile
from wattshed.serving import engine_settings
from wattshed.steps import modelled_parts


def modelled_of(fleet: Fleet, controller: Controller, *, boots: bool = False) -> list[str]:
    """What rests on assumptions, deployment by deployment; replicas boot after an outage."""
    lowest = 0.5  # any clock below the highest
    if isinstance(controller, PinnedMaximum | BatchCap):
        lowest = 1.0
    elif isinstance(controller, StaticClock):
        lowest = controller.clock
    found = []
    for d in fleet.deployments:
        if isinstance(d.profile, IterationProfile):
            parts = modelled_parts(d.profile, min(lowest, engine_settings(d).clock))
            sleeps = d.sleep_after_s is not None
            used = {k: v for k, v in parts.items() if _plays(k, sleeps=sleeps, boots=boots)}
            found += [f"{d.name}: {part}: {source}" for part, source in used.items()]
        elif d.profile.kind == "modelled":
            found.append(f"{d.name}: energy: modelled in the runs of {d.profile.name}")
    return found


def _plays(part: str, *, sleeps: bool, boots: bool) -> bool:
    """Whether a part of a profile plays a part in a simulation."""
    state = part.split(".")[1] if part.startswith("states.") else "resident"
    return state == "resident" or (sleeps and state == "sleep") or (boots and state == "boot")


def notes_of(fleet: Fleet, replayed: bool, stopped: bool) -> list[str]:
    """What a reader has to know."""
    notes = ["the first request arrives at 0; replicas are on from then until all is served"]
    if replayed:
        notes.append("a replay is the same each time: it was simulated once")
    if stopped:
        notes.append("stopped before its end: figures are of what was simulated until then")
    for d in fleet.deployments:
        if isinstance(d.profile, IterationProfile):
            notes += engine_settings(d).notes
        elif d.idle_power_w is None:
            notes.append(f"{d.name}: its idle power is not known and taken as 0 W")
    return notes
