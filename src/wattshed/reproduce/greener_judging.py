"""Verdicts, and what reads figures to reach them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise

from wattshed.reproduce.greener_settings import HIGHEST_MHZ
from wattshed.reproduce.study import Result

HOLDS, FAILS, OPEN = "holds", "does not hold", "not decidable"
VERDICTS = (HOLDS, FAILS, OPEN)
TOLERANCE = 0.1
"""How far a ratio may lie from a published "about", relative to it."""
UNCHANGED = 0.05
"""Relative change of a latency or a throughput that counts as none."""
ROUNDING = 1e-9


@dataclass(frozen=True)
class Judged:
    """What became of a claim.

    Attributes
    ----------
    holds : bool or None
        None if our model cannot tell.
    why : str
        One sentence.
    ours : dict
        Name of a quantity to our figure.
    """

    holds: bool | None
    why: str
    ours: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        return OPEN if self.holds is None else HOLDS if self.holds else FAILS


def about(published: float, ours: float, tolerance: float = TOLERANCE) -> bool:
    """Whether our figure is a published "about"."""
    return abs(ours / published - 1) <= tolerance + ROUNDING


def falls(values: Iterable[float]) -> bool:
    """Whether each value is below the one before."""
    return all(later < earlier for earlier, later in pairwise(values))


def rises(values: Iterable[float]) -> bool:
    """Whether each value is above the one before."""
    return all(later > earlier for earlier, later in pairwise(values))


def value(figure: Result, name: str, clock_mhz: int = HIGHEST_MHZ) -> float:
    """Value of a series at a clock."""
    return float(figure["series"][name]["value"][figure["clock_mhz"].index(clock_mhz)])


def response(figure: Result, name: str) -> dict[int, float]:
    """Values of a series by clock, relative to that at the highest."""
    values = figure["series"][name]["value"]
    return dict(zip(figure["clock_mhz"], (v / values[-1] for v in values), strict=True))


def responses(figure: Result) -> dict[str, dict[int, float]]:
    """Of all series, see `response`."""
    return {name: response(figure, name) for name in figure["series"]}


def widest_spread(figure: Result) -> tuple[float, int]:
    """Largest relative distance between the responses of the series, and its clock."""
    curves = list(responses(figure).values())
    spread = {c: max(r[c] for r in curves) / min(r[c] for r in curves) - 1 for c in curves[0]}
    clock = max(spread, key=lambda c: spread[c])
    return spread[clock], clock


def percent(part: float, digits: int = 0) -> str:
    """A part as a percentage with its sign; nothing has none.

    >>> percent(-0.2), percent(0.0449, 1), percent(-0.0001, 1)
    ('-20 %', '+4.5 %', '0 %')
    """
    rounded = round(100 * part, digits)
    return f"{rounded:+.{digits}f} %" if rounded else "0 %"
