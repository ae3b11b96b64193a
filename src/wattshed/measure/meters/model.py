"""No meter but an assumption: constant power; and what a profile says a query uses.

Everything that comes from here is marked as modelled, in the info and so in every window.
"""

from __future__ import annotations

import numpy as np

from wattshed.errors import ParameterError
from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.meter import Meter, PolledMeter
from wattshed.profiles import load_profile, predict
from wattshed.records import Boundary, MeterInfo, Profile
from wattshed.records.measure import Scope

SCOPES: dict[Boundary, Scope] = {"accelerator": "gpu", "host": "soc", "wall": "wall"}
"""What a profile's energy is of, as the scope of a meter."""


class ModelMeter(PolledMeter):
    """Energy as if power were constant, since the meter was opened.

    Parameters
    ----------
    power_w : float
    clock : Clock
    source : str
        Where the power is from.
    scope : str
        What draws it.
    """

    def __init__(self, power_w: float, clock: Clock, source: str, scope: Scope = "gpu") -> None:
        info = MeterInfo(
            id=f"model:{source}",
            source="model",
            kind="model",
            scope=scope,
            covers=(scope,),
            provenance="modelled",
            note=f"an assumption, nothing was measured: {power_w:g} W at all times, from {source}",
        )
        super().__init__(info, clock)
        self._power_w, self._opened_ns = power_w, clock.mono_ns()

    def ask(self) -> tuple[float | None, float | None, tuple[str, ...]]:
        """See `PolledMeter`."""
        seconds = (self.clock.mono_ns() - self._opened_ns) / NS_PER_S
        return self._power_w * seconds, self._power_w, ("modelled",)


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """The model of ``WATTS``, or of ``PROFILE``: its mean power over the cells it was fitted to.

    Watts are those of the accelerator; a profile's are within its boundary.

    Raises
    ------
    ParameterError
        If the power is negative, infinite or missing.
    ProfileError
        If there is no such profile.
    """
    if not argument:
        raise ParameterError("meter model", "names no power", "give model:WATTS or model:PROFILE")
    scope: Scope = "gpu"
    try:
        power_w = float(argument)
    except ValueError:
        profile = load_profile(argument)
        power_w, scope = profile_power_w(profile), SCOPES[profile.boundary]
    if not 0 <= power_w < float("inf"):
        raise ParameterError("meter model", f"power is {power_w} W", "give 0 W or more")
    return [ModelMeter(power_w, clock, argument, scope)]


def profile_power_w(profile: Profile) -> float:
    """Mean power while queries of a profile's domain are served, all sizes weighing the same.

    Raises
    ------
    ParameterError
        If the profile has no domain, or predicts less than nothing in it.
    """
    if profile.domain is None:
        raise ParameterError(
            f"profile {profile.name}", "has no domain to take power over", "give model:WATTS"
        )
    m, n = np.meshgrid(
        np.geomspace(*profile.domain.input_tokens, 9),
        np.geomspace(*profile.domain.output_tokens, 9),
    )
    found = predict(profile, m.ravel(), n.ravel())
    if found.negative.any():
        raise ParameterError(
            f"profile {profile.name}",
            f"is below 0 for {found.negative.sum()} of {m.size} sizes in its domain",
            "use a profile of another form, or give model:WATTS",
        )
    return float(found.energy_j.sum() / found.runtime_s.sum())
