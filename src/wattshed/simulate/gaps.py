"""Times between tokens, all of them, kept as runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import Array
from wattshed.errors import ParameterError
from wattshed.simulate.layout import Records

FEW = 1 << 16
"""So many values are sorted rather than halved again."""


@dataclass(frozen=True)
class Gaps:
    """Times between tokens (TBT) as runs (R): `gap_s + i growth_s` for i = 0 ... steps - 1.

    Nothing is rounded or sampled: the runs hold every value, with its multiplicity.
    Tokens of deployments that serve one query at a time are not among them.

    Attributes
    ----------
    gap_s, growth_s : arrays (R,)
    steps : int array (R,)
    sequences : int array (R,)
        How many sequences had these times between their tokens.
    replica : int array (R,)
    """

    gap_s: Array
    growth_s: Array
    steps: NDArray[np.int32]
    sequences: NDArray[np.int32]
    replica: NDArray[np.int32]

    @property
    def count(self) -> int:
        """How many times there are."""
        return int((self.steps.astype(np.int64) * self.sequences).sum())

    @property
    def mean_s(self) -> float:
        """Mean; nan if there are none."""
        each = self.steps * (self.gap_s + 0.5 * self.growth_s * (self.steps - 1))
        return float((each * self.sequences).sum() / self.count) if self.count else np.nan

    def of(self, replicas: NDArray[np.bool_]) -> Gaps:
        """Those of some replicas, given as a mask (N,)."""
        kept = replicas[self.replica]
        return Gaps(
            self.gap_s[kept],
            self.growth_s[kept],
            self.steps[kept],
            self.sequences[kept],
            self.replica[kept],
        )

    def at_most(self, limit_s: float) -> int:
        """How many are at most as long."""
        return int((self._steps_within(limit_s) * self.sequences).sum())

    def quantile_s(self, level: float) -> float:
        """Least time that at least this part of all does not exceed; nan if there are none.

        Parameters
        ----------
        level : float
            From 0 to 1.

        Raises
        ------
        ParameterError
        """
        if not 0 <= level <= 1:
            raise ParameterError("level", f"{level:g}", "give a number from 0 to 1")
        if not self.count:
            return float("nan")
        rank = max(int(np.ceil(level * self.count)), 1)
        return self._ranked(rank)

    def _ranked(self, rank: int) -> float:
        """Value number `rank` in order, from 1."""
        low, high = -1.0, float(self._last_s.max())
        while low < (middle := 0.5 * (low + high)) < high and self._between(low, high) > FEW:
            if self.at_most(middle) >= rank:
                high = middle
            else:
                low = middle
        return self._pick(low, high, rank - self.at_most(low))

    def _steps_within(self, limit_s: float) -> NDArray[np.int64]:
        """Of each run, the steps whose time is at most `limit_s`."""
        with np.errstate(divide="ignore", invalid="ignore"):
            steps = np.floor((limit_s - self.gap_s) / self.growth_s) + 1
        # A growth of 0 gives nan where it does not matter: the last is the first then.
        steps = np.where(self._last_s <= limit_s, self.steps, np.nan_to_num(steps))
        return np.asarray(np.clip(steps, 0, self.steps), np.int64)

    @property
    def _last_s(self) -> Array:
        return self.gap_s + self.growth_s * (self.steps - 1)

    def _between(self, low: float, high: float) -> int:
        """How many distinct steps lie above `low` and up to `high`."""
        return int((self._steps_within(high) - self._steps_within(low)).sum())

    def _pick(self, low: float, high: float, rank: int) -> float:
        """Value number `rank` of those above `low` and up to `high`."""
        first, end = self._steps_within(low), self._steps_within(high)
        lengths = end - first
        run = np.repeat(np.arange(len(first)), lengths)
        step = first[run] + np.arange(len(run)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        values = self.gap_s[run] + self.growth_s[run] * step
        order = np.argsort(values)
        total = np.cumsum(self.sequences[run][order].astype(np.int64))
        return float(values[order][np.searchsorted(total, rank)])


def gather(chunks: Sequence[Records]) -> Gaps:
    """One record of runs (RUN) that were found piece by piece."""
    return Gaps(
        *(np.concatenate([c[name] for c in chunks]) for name in chunks[0].dtype.names or ())
    )
