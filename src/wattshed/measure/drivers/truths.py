"""What queries truly cost on a simulated engine: what profiles say, or anything alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from wattshed.errors import EngineError
from wattshed.profiles import predict
from wattshed.records import IterationProfile, Profile
from wattshed.steps import StepPrediction, predict_steps


class Truth(Protocol):
    """Cost of a batch of `b` equal queries with `m` input and `n` output tokens each."""

    def runtime_s(self, m: int, n: int, b: int) -> float:
        """Time from the first byte sent to the last token of the batch."""
        ...

    def energy_j(self, m: int, n: int, b: int) -> float:
        """Energy of the whole machine in that time, idle power included: gross, not above idle."""
        ...


@runtime_checkable
class PhasedTruth(Truth, Protocol):
    """One that knows the time to the first token, too."""

    def first_token(self, m: int, b: int) -> tuple[float, float]:
        """Time and energy up to the first token of each query."""
        ...

    def extrapolates(self, m: int, n: int, b: int) -> bool:
        """Whether the batch is outside of what was measured."""
        ...


@dataclass(frozen=True)
class ProfileTruth:
    """A profile of single queries; the first token is where a query of one token would end.

    Attributes
    ----------
    profile : Profile
    """

    profile: Profile

    def runtime_s(self, m: int, n: int, b: int) -> float:
        """See `Truth`."""
        return self._cost(m, n, b)[0]

    def energy_j(self, m: int, n: int, b: int) -> float:
        """See `Truth`."""
        return self._cost(m, n, b)[1]

    def first_token(self, m: int, b: int) -> tuple[float, float]:
        """See `PhasedTruth`."""
        return self._cost(m, 1, b)

    def extrapolates(self, m: int, n: int, b: int) -> bool:  # noqa: ARG002 knows no batches
        """See `PhasedTruth`."""
        return bool(predict(self.profile, m, n).extrapolated[0])

    def _cost(self, m: int, n: int, b: int) -> tuple[float, float]:
        if b != 1:
            raise EngineError(
                f"simulated: {self.profile.name}",
                f"a batch of {b}, but the profile is of single queries",
                "use an iteration profile, such as splitwise/h100-80gb-tp8/llama-2-70b",
            )
        found = predict(self.profile, m, n)
        return float(found.runtime_s[0]), float(found.energy_j[0])


@dataclass(frozen=True)
class StepsTruth:
    """An iteration profile: one step for all prompts of a batch, then one for each later token.

    Attributes
    ----------
    profile : IterationProfile
    """

    profile: IterationProfile

    def runtime_s(self, m: int, n: int, b: int) -> float:
        """See `Truth`."""
        return float(self._steps(m, n, b).time_s.sum())

    def energy_j(self, m: int, n: int, b: int) -> float:
        """See `Truth`."""
        return float(self._steps(m, n, b).energy_j.sum())

    def first_token(self, m: int, b: int) -> tuple[float, float]:
        """See `PhasedTruth`."""
        step = self._steps(m, 1, b)
        return float(step.time_s[0]), float(step.energy_j[0])

    def extrapolates(self, m: int, n: int, b: int) -> bool:
        """See `PhasedTruth`."""
        return bool(self._steps(m, n, b).energy_extrapolated.any())

    def _steps(self, m: int, n: int, b: int) -> StepPrediction:
        """The steps (n,) of a batch, in order."""
        if self.profile.prefill_time_s is None:  # prompts are inside the decode steps
            return predict_steps(self.profile, np.full(n, b))
        later = np.arange(n) > 0
        context = b * (m + np.arange(n))
        return predict_steps(self.profile, b * later, context * later, b * m * ~later)


def truth_of(profile: Profile | IterationProfile) -> PhasedTruth:
    """The truth that a profile states."""
    return ProfileTruth(profile) if isinstance(profile, Profile) else StepsTruth(profile)
