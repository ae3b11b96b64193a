"""When a cell has been measured often enough: pure functions of its trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import msgspec
from scipy.special import stdtrit

LEVEL = 0.95


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """How many trials there are at least and at most.

    Attributes
    ----------
    at_least, at_most : int
    """

    at_least: int = 3
    at_most: int = 25


class Paper(Limits, frozen=True, kw_only=True, tag="paper"):
    """The rule of the first study (Wilkins et al. 2024, 5.2).

    Until the mean runtime is known to `half_width_s`, with 95 % confidence by Student's t, or 25
    trials. The study names no distribution; t is our reading.
    """

    at_least: int = 2
    half_width_s: float = 0.5


class Relative(Limits, frozen=True, kw_only=True, tag="relative"):
    """Until the mean energy, or the mean runtime where no energy is known, is known to a part.

    By the scatter of trials alone. The bounds of their windows do not count: what ticks add to
    them is in the scatter, and an error that all trials share is not made less by more of them.

    Attributes
    ----------
    part : float
        Half-width of the 95 % interval by Student's t, over the mean.
    """

    part: float = 0.05


class Decision(Limits, frozen=True, kw_only=True, tag="decision"):
    """Until it is certain whether the cell takes more or less energy than a rival there.

    The 5 % of being wrong are shared among the looks, as each trial is a chance to stop too early.

    Attributes
    ----------
    profile : str
        Of the rival, for people and for the file.
    """

    profile: str


Rule: TypeAlias = Paper | Relative | Decision


def is_enough(
    rule: Rule,
    runtime_s: Sequence[float],
    energy_j: Sequence[float | None],
    rival_j: tuple[float, float] | None = None,
) -> bool:
    """Whether a cell needs no further trial.

    Parameters
    ----------
    rule : Rule
    runtime_s : sequence of float
        Of its trials so far.
    energy_j : sequence of float or None
        Of the same trials.
    rival_j : (low, high), optional
        Energy of the rival at this cell, for `Decision`.
    """
    count = len(runtime_s)
    if count < rule.at_least or count >= rule.at_most:
        return count >= rule.at_most
    known = [e for e in energy_j if e is not None]
    complete = known if len(known) == count else None
    if isinstance(rule, Paper):
        return half_width(runtime_s) <= rule.half_width_s
    if isinstance(rule, Relative):
        values = complete or runtime_s
        return half_width(values) <= rule.part * abs(mean(values))
    if complete is None or rival_j is None:
        return False
    level = 1 - (1 - LEVEL) / (rule.at_most - rule.at_least + 1)
    return is_apart(complete, rival_j, level)


def is_apart(values: Sequence[float], other: tuple[float, float], level: float = LEVEL) -> bool:
    """Whether the interval of a mean does not meet another interval."""
    centre, half = mean(values), half_width(values, level)
    return centre + half < other[0] or centre - half > other[1]


def half_width(values: Sequence[float], level: float = LEVEL) -> float:
    """Half of the interval of a mean, by Student's t; infinite for fewer than two values."""
    count = len(values)
    if count < 2:
        return math.inf
    centre = mean(values)
    variance = math.fsum((x - centre) ** 2 for x in values) / (count - 1)
    return float(stdtrit(count - 1, (1 + level) / 2)) * math.sqrt(variance / count)


def mean(values: Sequence[float]) -> float:
    """Mean, the same in any order."""
    return math.fsum(values) / len(values)


def trials_left(
    rule: Rule, runtime_s: Sequence[float], energy_j: Sequence[float | None] = ()
) -> int:
    """How many more trials a cell will likely need: an estimate, for people.

    The spread is taken to stay what it is, so that the half-width falls with the root of trials.
    """
    count = len(runtime_s)
    if count < 2:
        return max(1, rule.at_least - count)
    known = [e for e in energy_j if e is not None]
    values = known if len(known) == count and not isinstance(rule, Paper) else runtime_s
    aim = _aim_of(rule, mean(values))
    wanted = count * (half_width(values) / aim) ** 2 if aim else count + 1
    return max(1, math.ceil(min(max(wanted, rule.at_least), rule.at_most)) - count)


def _aim_of(rule: Rule, centre: float) -> float:
    if isinstance(rule, Paper):
        return rule.half_width_s
    return rule.part * abs(centre) if isinstance(rule, Relative) else 0.0
