"""Learn from kept and broken promises how much of a limit may be used."""

from __future__ import annotations

from wattshed.compiled import inlined

TRUST_GAIN = 0.05
"""For the clock of one replica, which serves a part of all requests."""
KEEP_GAIN = 0.02
"""For a policy, which sees all of them."""
LEAST = 0.05


def part_after(part: float, kept: bool, target: float, gain: float) -> float:
    """The part of a limit that may be used, after one more request.

    It falls with each broken promise and rises a little with each kept one, so that in the long
    run a part of `target` is kept, whatever is wrong with the predictions: adaptive conformal
    inference (Gibbs and Candes 2021) on the limit itself.
    """
    part += gain * (1.0 - target) if kept else -gain * target
    return min(max(part, LEAST), 1.0)


learn = inlined(part_after)
"""`part_after`, compiled."""
