"""What a machine draws for nothing: three idles that must not be taken for each other.

``bare`` is without any process on the accelerator, ``context`` with one that only holds a context,
``loaded`` with a model in memory. A GPU with a context may draw some watts more than one without.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from wattshed.errors import ParameterError
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.trace import Trace
from wattshed.measure.windows import window_energy
from wattshed.records import WindowEnergy

IdleKind = Literal["bare", "context", "loaded"]
Span = tuple[int, int]
"""From one moment of the monotonic clock to another, ns."""


class Idle(msgspec.Struct, frozen=True):
    """Power of a component while nothing is asked of it.

    Attributes
    ----------
    kind : {"bare", "context", "loaded"}
    meter : str
    power_w : float
        Mean over all the time it was looked at.
    low_w, high_w : float
        Between which it lies: bounds of the means before and after, whichever is farther.
    seconds : float
    before_w, after_w : float or None
        Means before and after the work; None if it was looked at only once.
    flags : tuple of str
        Of the windows.
    """

    kind: IdleKind
    meter: str
    power_w: float
    low_w: float
    high_w: float
    seconds: float
    before_w: float | None = None
    after_w: float | None = None
    flags: tuple[str, ...] = ()

    @property
    def drift_w(self) -> float | None:
        """By how much it rose from before the work to after it."""
        if self.before_w is None or self.after_w is None:
            return None
        return self.after_w - self.before_w


def idle_of(
    trace: Trace, meter: str, kind: IdleKind, before: Span, after: Span | None = None
) -> Idle:
    """Idle power from one stretch of a trace, or two, between which the work was done.

    Parameters
    ----------
    trace : Trace
    meter : str
    kind : {"bare", "context", "loaded"}
    before, after : (int, int)
        While the machine was idle; seconds long, for a small share of a tick in them.

    Raises
    ------
    ParameterError
        If a stretch has no energy, telling why.
    """
    spans = [before] if after is None else [before, after]
    windows = [_usable(window_energy(trace, meter, *span), kind) for span in spans]
    seconds = [(end - begin) / NS_PER_S for begin, end in spans]
    means_w = [(w.value_j or 0.0) / s for w, s in zip(windows, seconds, strict=True)]
    lows_w = [(w.low_j or 0.0) / s for w, s in zip(windows, seconds, strict=True)]
    highs_w = [(w.high_j or 0.0) / s for w, s in zip(windows, seconds, strict=True)]
    total_j = sum(w * s for w, s in zip(means_w, seconds, strict=True))
    return Idle(
        kind=kind,
        meter=meter,
        power_w=total_j / sum(seconds),
        low_w=min(lows_w),
        high_w=max(highs_w),
        seconds=sum(seconds),
        before_w=None if after is None else means_w[0],
        after_w=None if after is None else means_w[1],
        flags=tuple(sorted({flag for window in windows for flag in window.flags})),
    )


def _usable(window: WindowEnergy, kind: str) -> WindowEnergy:
    if window.value_j is None or window.low_j is None or window.high_j is None:
        raise ParameterError(
            f"{kind} idle of {window.meter}",
            f"its window has no energy ({', '.join(window.flags)})",
            "measure it again, for some seconds",
        )
    return window


def net_of_idle(window: WindowEnergy, idle: Idle, seconds: float) -> WindowEnergy:
    """Energy above idle; its bounds are those of both.

    Parameters
    ----------
    window : WindowEnergy
    idle : Idle
        Of the same meter.
    seconds : float
        Length of the window.

    Returns
    -------
    WindowEnergy
        Derived, flagged ``net``; it may be negative, and is not clipped: then the work drew no more
        than idle, as far as could be measured.

    Raises
    ------
    ParameterError
        If the idle is of another meter, or the length is not positive.
    """
    if idle.meter != window.meter:
        raise ParameterError(
            "idle", f"is of {idle.meter}, the window of {window.meter}", "measure both by one meter"
        )
    if not seconds > 0:
        raise ParameterError("seconds", f"is {seconds}", "give the length of the window")
    flags = {*window.flags, *idle.flags, "net"}
    if idle.drift_w is not None and abs(idle.drift_w) > 0.05 * idle.power_w:
        flags.add("idle_drift")
    return msgspec.structs.replace(
        window,
        value_j=_less(window.value_j, idle.power_w * seconds),
        low_j=_less(window.low_j, idle.high_w * seconds),
        high_j=_less(window.high_j, idle.low_w * seconds),
        method=f"{window.method}, net of {idle.kind} idle",
        flags=tuple(sorted(flags)),
        kind="modelled" if window.kind == "modelled" else "derived",
    )


def _less(energy_j: float | None, idle_j: float) -> float | None:
    return None if energy_j is None else energy_j - idle_j
