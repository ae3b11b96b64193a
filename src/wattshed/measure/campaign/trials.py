"""A trial, from what an engine and the meters said in it; pure functions."""

from __future__ import annotations

from collections.abc import Sequence

from wattshed.measure.campaign.design import Campaign
from wattshed.measure.campaign.grid import Cell
from wattshed.measure.campaign.guard import Guard, Observation, reasons_of
from wattshed.measure.campaign.lines import Trial
from wattshed.measure.campaign.stopping import mean
from wattshed.measure.rests import KNOWN, REACH, window_between_rests
from wattshed.measure.trace import Trace
from wattshed.measure.windows import window_energy
from wattshed.records import Generation, Health, MeterInfo, WindowEnergy

LONG_TICK = 1.2
"""How much longer than usual a tick is taken to be at most."""


def margin_of(
    campaign: Campaign, meters: Sequence[MeterInfo], health: Sequence[Health] = ()
) -> float:
    """Seconds of rest around a trial: enough for windows to reach into it, and to know its power.

    Either takes as long as a meter needs to show what was drawn. A counter needs no mean of power
    for that, but is compared with it.
    """
    ticks = {each.meter: each.tick_s or 0.0 for each in health}
    needs = [campaign.margin_s]
    for info in meters:
        tick_s = max(info.update_period_s or 0.0, ticks.get(info.id, 0.0))
        mean_s = 0.0 if info.kind == "counter" else info.averaging_s
        shown_s = LONG_TICK * tick_s + info.lag_s + mean_s
        needs += [info.averaging_s + info.lag_s, shown_s / min(REACH, KNOWN - REACH)]
    return max(needs) if meters else 0.0


def trial_of(
    index: int,
    number: int,
    found: Sequence[Generation],
    windows: tuple[WindowEnergy, ...],
    wall_s: tuple[float, float],
    seen: Observation | None,
    flags: Sequence[str],
) -> Trial:
    """A trial from the generations that count."""
    firsts = [g.ttft_s for g in found if g.ttft_s is not None]
    return Trial(
        index,
        number,
        found[0],
        len(found),
        mean([g.runtime_s for g in found]),
        mean(firsts) if len(firsts) == len(found) else None,
        found[0].begun_ns,
        found[-1].ended_ns,
        windows,
        *wall_s,
        seen,
        tuple(dict.fromkeys(flags)),
    )


def flags_of_repeats(found: Sequence[Generation]) -> tuple[str, ...]:
    """What to know of a trial whose query was repeated."""
    if len(found) == 1:
        return ()
    sizes = {(g.input_tokens, g.output_tokens) for g in found}
    return ("repeated",) if len(sizes) == 1 else ("repeated", "mixed_tokens")


def windows_of(
    trace: Trace, begun_ns: int, ended_ns: int, rest_s: float = 0.0
) -> tuple[WindowEnergy, ...]:
    """Energy by each meter of a trace; with so much rest before and after, if there was any."""
    ids = [info.id for info in trace.manifest.meters]
    if not rest_s:
        return tuple(window_energy(trace, meter, begun_ns, ended_ns) for meter in ids)
    return tuple(window_between_rests(trace, each, begun_ns, ended_ns, rest_s) for each in ids)


def flags_of(guard: Guard | None, seen: Observation | None, cell: Cell) -> tuple[str, ...]:
    """``throttled`` and why, if the hardware did not do what was asked."""
    if guard is None or seen is None:
        return ()
    limited = cell.power_limit_w is not None
    reasons = reasons_of(guard, seen, cell.clock_mhz, power_limited=limited)
    return ("throttled", *reasons) if reasons else ()
