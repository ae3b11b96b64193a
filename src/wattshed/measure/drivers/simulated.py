"""An engine that exists only as a model of its costs, and draws power from a `Plant`.

With a `VirtualClock` and simulated meters of the same plant, a whole campaign runs in seconds, and
what it finds can be compared with what is true.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.random import SeedSequence, default_rng

from wattshed.errors import EngineError, ParameterError
from wattshed.iterations import load_any_profile
from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.drivers.settings import Settings, check_query
from wattshed.measure.drivers.truths import PhasedTruth, Truth, truth_of
from wattshed.measure.plant import Plant
from wattshed.records import DriverInfo, Generation, IterationProfile, Profile

SETTINGS = ("noise", "seed", "speed", "idle_power_w", "system")


def open_driver(argument: str, settings: Mapping[str, str], clock: Clock) -> SimulatedEngine:
    """Simulate the deployment of a profile.

    Parameters
    ----------
    argument : str
        A built-in profile of single queries or of steps, or ``path.json#name``.
    settings : mapping
        ``noise`` (see `SimulatedEngine`; 0), ``seed``, ``speed``, ``system``, ``idle_power_w``,
        which profiles of single queries do not know and which therefore must be given with them.
    clock : Clock

    Raises
    ------
    ParameterError, ProfileError, FileError
    """
    given = Settings("simulated", settings, SETTINGS)
    profile = load_any_profile(argument)
    return SimulatedEngine(
        truth_of(profile),
        Plant(_idle_power_w(given, profile)),
        clock,
        noise=given.number("noise", 0.0),
        seed=given.whole("seed", 0),
        info=_info(given, profile),
        speed=given.number("speed", 1.0, above=0),
    )


def _idle_power_w(given: Settings, profile: Profile | IterationProfile) -> float:
    resident = profile.states.get("resident") if isinstance(profile, IterationProfile) else None
    if not given.text("idle_power_w") and resident is None:
        raise ParameterError(
            "simulated: idle_power_w",
            f"not given, and the profile {profile.name} does not know it",
            "give the power while nothing runs, in W (an A100 that holds a model: about 70)",
        )
    return given.number("idle_power_w", resident.power_w if resident else 0.0, above=0)


def _info(given: Settings, profile: Profile | IterationProfile) -> DriverInfo:
    steps = profile if isinstance(profile, IterationProfile) else None
    single = profile if isinstance(profile, Profile) else None
    return DriverInfo(
        system=given.text("system", profile.system),
        model=profile.model,
        engine="simulated",
        accelerator=profile.accelerator,
        n_accelerators=profile.n_accelerators,
        tensor_parallel=steps.tensor_parallel if steps else 1,
        kv_cache=single is None or single.kv_cache is not False,
        note=f"simulated by {profile.name}: nothing was measured",
    )


class SimulatedEngine:
    """Answers queries by letting time pass, after writing into a plant what they draw.

    Energy is gross: the plant's integral over a query's time is the query's energy, and the
    plant's idle power is drawn only between queries. Where the truth knows the first token, the
    time up to it and the time after it each have a power of their own.

    Parameters
    ----------
    truth : Truth
    plant : Plant
        What simulated meters read.
    clock : Clock
    noise : float
        Standard deviation of the logarithm of runtime and of energy, independently; their means
        are the truth.
    seed : int
    info : DriverInfo, optional
    speed : float
        Time passes so many times faster, with so much more power: energy stays. For a clock that
        does not pass by itself, leave it at 1.
    """

    def __init__(
        self,
        truth: Truth,
        plant: Plant,
        clock: Clock,
        noise: float = 0.0,
        seed: int = 0,
        info: DriverInfo | None = None,
        *,
        speed: float = 1.0,
    ) -> None:
        if not 0 <= noise < np.inf:
            raise ParameterError("simulated: noise", f"{noise:g}", "give 0 or more")
        self.truth, self.plant = truth, plant
        self._clock, self._noise, self._speed = clock, noise, speed
        self._info = info or DriverInfo("simulated", "made-up", "simulated")
        of_runtime, of_energy = SeedSequence(seed).spawn(2)
        self._runtime_rng, self._energy_rng = default_rng(of_runtime), default_rng(of_energy)

    @property
    def info(self) -> DriverInfo:
        """See `Driver`."""
        return self._info

    def close(self) -> None:
        """See `Driver`; there is nothing to let go."""

    def generate(self, input_tokens: int, output_tokens: int, batch_size: int = 1) -> Generation:
        """See `Driver`."""
        check_query(input_tokens, output_tokens, batch_size)
        m, n, b = input_tokens, output_tokens, batch_size
        runtime_s, energy_j = self.truth.runtime_s(m, n, b), self.truth.energy_j(m, n, b)
        if not runtime_s > 0 or not energy_j > 0:
            raise EngineError(
                f"simulated: {self._info.model}",
                f"{m} + {n} tokens x {b} would cost {energy_j:.3g} J in {runtime_s:.3g} s",
                "ask for a size where the model of its costs stays above 0",
            )
        first_s, first_j = self._first_token(m, b)
        in_time = _factor(self._noise, self._runtime_rng) * NS_PER_S / self._speed
        in_energy = _factor(self._noise, self._energy_rng)
        phases = _phases(
            max(1, round(runtime_s * in_time)),
            energy_j * in_energy,
            round(first_s * in_time),
            first_j * in_energy,
        )
        begun_ns = self._clock.mono_ns()
        ends_ns = self._draw(begun_ns, phases)
        self._clock.sleep((ends_ns[-1] - begun_ns) / NS_PER_S)
        known = len(phases) > 1 or n == 1
        return Generation(
            m,
            n,
            b,
            begun_ns,
            ends_ns[-1],
            ends_ns[0] if known else None,
            _evenly(ends_ns[0], ends_ns[-1], n) if known else (),
            tuple(self._flags(m, n, b)),
        )

    def _first_token(self, m: int, b: int) -> tuple[float, float]:
        """Time and energy up to the first token; 0 where the truth does not tell it apart."""
        if isinstance(self.truth, PhasedTruth):
            return self.truth.first_token(m, b)
        return 0.0, 0.0

    def _flags(self, m: int, n: int, b: int) -> Iterator[str]:
        yield "simulated"
        if isinstance(self.truth, PhasedTruth) and self.truth.extrapolates(m, n, b):
            yield "extrapolated"
        if self._speed != 1:
            yield "sped_up"

    def _draw(self, begun_ns: int, phases: list[tuple[int, float]]) -> list[int]:
        """Write down what the phases of a query draw; when each of them ends."""
        ends_ns = []
        for span_ns, energy_j in phases:
            end_ns = begun_ns + span_ns
            self.plant.draw(begun_ns, end_ns, energy_j * NS_PER_S / span_ns)
            ends_ns.append(end_ns)
            begun_ns = end_ns
        return ends_ns


def _phases(
    span_ns: int, energy_j: float, first_ns: int, first_j: float
) -> list[tuple[int, float]]:
    """Duration and energy up to the first token and after it.

    They are one phase where the first token is unknown, or costs as much as all of them: fitted
    forms may have it so outside of their domain.
    """
    if 0 < first_ns < span_ns and 0 < first_j < energy_j:
        return [(first_ns, first_j), (span_ns - first_ns, energy_j - first_j)]
    return [(span_ns, energy_j)]


def _evenly(first_ns: int, ended_ns: int, n: int) -> tuple[int, ...]:
    """When each token after the first came."""
    return tuple(np.linspace(first_ns, ended_ns, n, dtype=np.int64)[1:].tolist())


def _factor(noise: float, rng: np.random.Generator) -> float:
    """A log-normal factor with mean 1; exactly 1 without noise."""
    return float(np.exp(noise * rng.standard_normal() - noise**2 / 2))
