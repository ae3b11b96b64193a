"""A part of a limit that is learned keeps the promises that were aimed at."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from wattshed.learning import KEEP_GAIN, LEAST, TRUST_GAIN, part_after

REPLICATIONS = 20
REQUESTS = 4_000


def kept_part(seed: int, target: float, gain: float, chance: float) -> float:
    """Part of the promises kept where P(kept) falls from 1 to `chance` as more is used."""
    rng = np.random.default_rng(seed)
    part, kept = 0.9, 0
    for draw in rng.random(REQUESTS):
        kept_this = bool(draw < 1 - (1 - chance) * part**2)
        part = part_after(part, kept_this, target, gain)
        kept += kept_this
    return kept / REQUESTS


@pytest.mark.parametrize("gain", [TRUST_GAIN, KEEP_GAIN])
@pytest.mark.parametrize(("target", "chance"), [(0.9, 0.5), (0.99, 0.8), (0.95, 0.0)])
def test_in_the_long_run_the_target_is_kept(target: float, chance: float, gain: float) -> None:
    found = np.array([kept_part(seed, target, gain, chance) for seed in range(REPLICATIONS)])
    # Where it began is forgotten at the rate 1 / (gain x requests).
    margin = stats.t.ppf(0.995, REPLICATIONS - 1) * stats.sem(found) + 1 / (gain * REQUESTS)
    assert abs(found.mean() - target) <= margin


def test_what_is_kept_differs_from_the_target_by_the_way_the_part_went() -> None:
    rng, target, gain = np.random.default_rng(0), 0.9, 0.01
    part, kept = 0.5, rng.random(200) < 0.9
    for one in kept:
        part = part_after(part, bool(one), target, gain)
    assert 0 < part < 1  # it was never cut off
    assert part - 0.5 == pytest.approx(gain * (kept.sum() - target * len(kept)))


def test_it_stays_within_its_range() -> None:
    assert part_after(1.0, True, 0.9, 0.05) == 1.0
    assert part_after(LEAST, False, 0.9, 0.05) == LEAST
    part = 1.0
    for _ in range(1_000):
        part = part_after(part, False, 0.99, KEEP_GAIN)
    assert part == LEAST


def test_a_target_of_all_never_rises_again() -> None:
    assert part_after(0.5, True, 1.0, 0.05) == 0.5
    assert part_after(0.5, False, 1.0, 0.05) == 0.45
