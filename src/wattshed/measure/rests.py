"""Windows of work that begins and ends at rest: what is added at their ends, and taken off again.

A counter cannot be read in the middle of a tick, and interpolation between two ticks takes power
to be the same all through. Where work begins at rest, it is not: interpolation then gives a part of
the work to the rest before it. So such a window is made to reach into the rest on both sides, where
power is the same all through, and what the machine drew at rest, right before and right after, is
taken off for the time that was added. That holds for each method, and for a counter that is late.
"""

from __future__ import annotations

from msgspec.structs import replace

from wattshed.measure.clock import NS_PER_S
from wattshed.measure.trace import Trace
from wattshed.measure.windows import window_energy
from wattshed.records import WindowEnergy

BETWEEN_RESTS = " between rests"
"""What the name of a method then ends with."""
REACH, KNOWN = 0.4, 0.8
"""Parts of a rest: up to which a window reaches into it, and up to which it tells its power.

What is beyond is for meters that show at its end what was drawn before it.
"""


def window_between_rests(
    trace: Trace, meter: str, t0_ns: int, t1_ns: int, rest_s: float, *, method: str = "auto"
) -> WindowEnergy:
    """Energy between two moments, before and after which nothing was asked of the machine.

    Parameters
    ----------
    trace : Trace
        From `rest_s` before the first moment to `rest_s` after the second.
    meter : str
    t0_ns, t1_ns : int
    rest_s : float
        A part of it is added to the window at either end, and must be enough for the meter to show
        what was drawn (`REACH`); as much again tells what the machine draws at rest (`KNOWN`).
    method : str
        See `window_energy`.

    Returns
    -------
    WindowEnergy
        As `window_energy` where the rest has no value of its own, as its method then says. Else its
        bounds take in those of `window_energy`, which hold whatever ran in the ticks at its ends,
        and those of the longer window less the bounds of rest. Its flags are `window_energy`'s.

    Raises
    ------
    ParameterError
        See `window_energy`.
    """
    window = window_energy(trace, meter, t0_ns, t1_ns, method=method)
    near, far = round(REACH * rest_s * NS_PER_S), round(KNOWN * rest_s * NS_PER_S)
    if window.value_j is None or far <= near:
        return window
    spans = (t0_ns - near, t1_ns + near), (t0_ns - far, t0_ns - near), (t1_ns + near, t1_ns + far)
    wide, before, after = (window_energy(trace, meter, *s, method=window.method) for s in spans)
    return _less(window, wide, (before, after), near / (far - near))


def _less(
    window: WindowEnergy, wide: WindowEnergy, rests: tuple[WindowEnergy, ...], part: float
) -> WindowEnergy:
    """A longer window less a part of what rests drew, in the place of a window."""
    values, lows, highs = (
        [getattr(one, name) for one in (wide, window, *rests)]
        for name in ("value_j", "low_j", "high_j")
    )
    if None in (*values, *lows, *highs):
        return window
    return replace(
        window,
        value_j=max(0.0, values[0] - part * sum(values[2:])),
        low_j=max(0.0, min(lows[1], lows[0] - part * sum(highs[2:]))),
        high_j=max(highs[1], highs[0] - part * sum(lows[2:])),
        method=window.method + BETWEEN_RESTS,
    )
