"""The controllers that come with the package.

The simulator applies the same rules compiled (`wattshed.simulate.clocking`); tests hold it
against these.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from wattshed.control.controller import Observation, Setting
from wattshed.errors import ParameterError


@dataclass(frozen=True)
class PinnedMaximum:
    """The highest clock, always."""

    def step(self, observation: Observation, now_s: float) -> Setting:  # noqa: ARG002 - the seam
        """What a replica is set to from now on."""
        return Setting(len(observation.clocks) - 1, observation.max_batch)


@dataclass(frozen=True)
class DefaultGovernor(PinnedMaximum):
    """What an accelerator does by itself: it boosts as far as power and heat allow.

    So it steps as at the highest clock while there is work. Steps and idle powers were measured
    under it, so this is what they are. Pinning the highest clock would keep it up while idle,
    which costs more; by how much no data here say, and the two are therefore simulated alike.
    """


@dataclass(frozen=True)
class StaticClock:
    """One clock for all steps: the lowest of the replica that is not below it.

    Attributes
    ----------
    clock : float
        As a fraction of the highest.
    """

    clock: float

    def __post_init__(self) -> None:
        _check("clock", self.clock, 0 < self.clock <= 1, "give a fraction of the highest, up to 1")

    def step(self, observation: Observation, now_s: float) -> Setting:  # noqa: ARG002 - the seam
        """What a replica is set to from now on."""
        return Setting(self.place(observation.clocks), observation.max_batch)

    def place(self, clocks: tuple[float, ...]) -> int:
        """Which of some clocks it is."""
        above = (i for i, clock in enumerate(clocks) if clock >= self.clock - 1e-9)
        return next(above, len(clocks) - 1)


@dataclass(frozen=True)
class PhaseAwareClock:
    """The lowest clock at which tokens come fast enough, for prompts and decoding alike.

    While sequences decode, the longest step of the block, lengthened as prompts lengthened steps
    lately, must keep the limit between tokens, less the headroom; where the limit holds for every
    token, each step must, with the prompts in it. While prompts are processed,
    all whose first tokens are due must have them before a part of their limit is used up: the
    rest is the reserve for those who have yet to come. Who waits for a place, or cannot be served
    in time at any clock, is served at the highest. Both parts shrink with each promise that was
    broken here, and grow back with those that are kept. The clock is raised at once, and lowered
    only when it was not raised for `hold_s`.

    The rule for prompts is Optimal Available (Yao, Demers and Shenker 1995) on the line as it is.

    Attributes
    ----------
    headroom : float
        Part of the limit between tokens that is not used.
    reserve : float
        Part of the limit on the first token that is not used.
    hold_s : float
    """

    headroom: float = 0.1
    reserve: float = 0.5
    hold_s: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("headroom", self.headroom), ("reserve", self.reserve)):
            _check(name, value, 0 <= value < 1, "give a part, from 0 to below 1")
        _check("hold_s", self.hold_s, 0 <= self.hold_s < math.inf, "give seconds, from 0 on")

    def step(self, observation: Observation, now_s: float) -> Setting:
        """What a replica is set to from now on."""
        wanted, at = self._wanted(observation), observation.clock
        held = wanted < at and now_s - observation.raised_s < self.hold_s
        return Setting(at if held else wanted, observation.max_batch)

    def _wanted(self, seen: Observation) -> int:
        top = len(seen.clocks) - 1
        if seen.waits_for_place:
            return top
        limit_s = seen.tbt_limit_s * (1 - self.headroom) * seen.trust
        limit_s -= 0.0 if seen.every_token else seen.excess_s
        whole = seen.every_token and seen.prompts
        step_s = seen.whole_step_s if whole else seen.last_step_s
        for f in range(top):
            if seen.decoding and step_s[f] > limit_s:
                continue
            if seen.prompts and seen.ttft_part[f] > (1 - self.reserve) * seen.trust:
                continue
            return f
        return top


@dataclass(frozen=True)
class BatchCap:
    """The highest clock, and a batch no larger than the load lately calls for: bursts wait.

    Attributes
    ----------
    factor : float
        Largest batch over the requests that were there lately, waiting ones included.
    least : int
        Sequences that are let in in any case.
    """

    factor: float = 2.0
    least: int = 4

    def __post_init__(self) -> None:
        _check("factor", self.factor, 0 < self.factor < math.inf, "give a number above 0")
        _check("least", self.least, self.least >= 1, "give at least 1")

    def step(self, observation: Observation, now_s: float) -> Setting:  # noqa: ARG002 - the seam
        """What a replica is set to from now on."""
        wanted = max(math.ceil(self.factor * observation.usual_there), self.least)
        return Setting(len(observation.clocks) - 1, min(wanted, observation.max_batch))


def _check(name: str, value: float, holds: bool, cure: str) -> None:
    if not holds:
        raise ParameterError(f"controller {name}", f"{value:g}", cure)
