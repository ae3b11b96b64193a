"""Quantiles of times between tokens, from runs, against all values sorted."""

from __future__ import annotations

import numpy as np
import pytest

from wattshed.errors import ParameterError
from wattshed.simulate.gaps import Gaps

LEVELS = (0.0, 0.01, 0.5, 0.9, 0.99, 0.999, 1.0)


def runs(count: int, seed: int = 0) -> Gaps:
    rng = np.random.default_rng(seed)
    growth = rng.exponential(1e-4, count) * (rng.random(count) < 0.8)
    gap = rng.choice([0.02, 0.03, *rng.random(5)], count)
    steps, sequences = rng.integers(1, 60, (2, count)).astype(np.int32)
    return Gaps(gap, growth, steps, sequences, rng.integers(0, 4, count).astype(np.int32))


def every(gaps: Gaps) -> np.ndarray:
    each = [
        np.repeat(gap + growth * np.arange(steps), sequences)
        for gap, growth, steps, sequences in zip(
            gaps.gap_s, gaps.growth_s, gaps.steps, gaps.sequences, strict=True
        )
    ]
    return np.concatenate(each)


@pytest.mark.parametrize("count", [1, 7, 6_000])  # the last has more values than are sorted
def test_quantiles_counts_and_mean_are_those_of_all_values(count: int) -> None:
    gaps = runs(count)
    values = every(gaps)
    assert gaps.count == len(values)
    assert gaps.mean_s == pytest.approx(values.mean())
    for level in LEVELS:
        exact = np.quantile(values, level, method="inverted_cdf")
        assert gaps.quantile_s(level) == pytest.approx(exact, rel=1e-12)
    for limit in (0.01, 0.02, 0.03, 0.5, 2.0):
        assert abs(gaps.at_most(limit) - (values <= limit).sum()) <= gaps.sequences.max()


def test_those_of_some_replicas_are_apart() -> None:
    gaps = runs(50)
    some = np.array([True, False, False, True])
    assert gaps.of(some).count + gaps.of(~some).count == gaps.count
    assert set(gaps.of(some).replica) == {0, 3}


def test_a_level_beyond_one_is_refused() -> None:
    with pytest.raises(ParameterError, match="level: 99"):
        runs(3).quantile_s(99)
