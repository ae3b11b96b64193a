"""Limits on a whole workload, in SI units or as multiples of the reference."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from wattshed.errors import ParameterError
from wattshed.plan.cost import ACCURACY_MEASURES


@dataclass(frozen=True)
class Bound:
    """A largest value: in SI units, or as a multiple of the reference baseline's.

    Attributes
    ----------
    value : float
    relative : bool
    """

    value: float
    relative: bool = False

    def against(self, reference: float) -> Bound:
        """The same bound in SI units."""
        return Bound(self.value * reference) if self.relative else self


@dataclass(frozen=True)
class Limits:
    """Limits on the whole workload; None for none. Those of deployments are in the fleet.

    Attributes
    ----------
    horizon_s : float or None
        Time in which the workload must be served: replicas x horizon x utilisation is
        what a deployment may be busy.
    runtime : Bound or None
        Largest mean runtime of a query, in seconds.
    class_runtime : dict
        The same by SLO class, of its queries alone.
    energy : Bound or None
        Largest total energy, in joules, idle power that stays on included.
    accuracy_floor : float or None
        Smallest accuracy in [0, 1], by `accuracy_measure`.
    accuracy_measure : {"query-mean", "token-weighted"}
    """

    horizon_s: float | None = None
    runtime: Bound | None = None
    class_runtime: dict[str, Bound] = field(default_factory=dict)
    energy: Bound | None = None
    accuracy_floor: float | None = None
    accuracy_measure: str = "query-mean"

    def __post_init__(self) -> None:
        stated = [("--horizon", self.horizon_s)] if self.horizon_s is not None else []
        stated += [("--runtime-budget", b.value) for b in self.class_runtime.values()]
        stated += [("--runtime-budget", self.runtime.value)] if self.runtime else []
        stated += [("--energy-budget", self.energy.value)] if self.energy else []
        for name, value in stated:
            if not (value > 0 and np.isfinite(value)):
                raise ParameterError(name, f"{value:g}", "give a number above 0")
        if self.accuracy_floor is not None and not 0 <= self.accuracy_floor <= 1:
            raise ParameterError(
                "--accuracy-floor", f"{self.accuracy_floor:g} is outside [0, 1]", "give 0 to 1"
            )
        if self.accuracy_measure not in ACCURACY_MEASURES:
            raise ParameterError(
                "--accuracy-measure",
                f"{self.accuracy_measure!r} is unknown",
                f"use one of {', '.join(ACCURACY_MEASURES)}",
            )

    def against(
        self, runtime_s: float, class_runtime_s: dict[str, float], energy_j: float
    ) -> Limits:
        """The same limits in SI units.

        Parameters
        ----------
        runtime_s : float
            Mean runtime of the reference.
        class_runtime_s : dict
            The same by SLO class.
        energy_j : float
            Total energy of the reference.

        Raises
        ------
        ParameterError
            If a budget names a class of which there is no query.
        """
        for name in self.class_runtime:
            if name not in class_runtime_s:
                known = ", ".join(repr(each) for each in class_runtime_s if each) or "none"
                raise ParameterError(
                    "--runtime-budget",
                    f"no query is of class {name!r}",
                    f"use a class of the workload: {known}",
                )
        return replace(
            self,
            runtime=self.runtime and self.runtime.against(runtime_s),
            class_runtime={
                name: bound.against(class_runtime_s[name])
                for name, bound in self.class_runtime.items()
            },
            energy=self.energy and self.energy.against(energy_j),
        )
