"""The simulated engine: costs as its truth says, power as its plant is drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import EngineError, ParameterError, ProfileError
from wattshed.iterations import load_iteration_profile, load_iteration_profiles
from wattshed.measure.clock import SYSTEM_CLOCK, VirtualClock
from wattshed.measure.driver import open_driver
from wattshed.measure.drivers.simulated import SimulatedEngine
from wattshed.measure.drivers.truths import PhasedTruth, StepsTruth, truth_of
from wattshed.measure.plant import Plant
from wattshed.profiles import load_profile, predict, save_profiles
from wattshed.records import Generation

QUERIES = "wilkins-2024/swing-a100/llama-2-7b"
STEPS = "splitwise/h100-80gb-tp8/llama-2-70b"
SIZES = st.tuples(st.integers(1, 500), st.integers(1, 200), st.integers(1, 8))


class Hidden:
    """A truth of ours: nothing but the two methods."""

    def runtime_s(self, m: int, n: int, b: int) -> float:
        return 0.1 + 1e-4 * m * b + 0.02 * n

    def energy_j(self, m: int, n: int, b: int) -> float:
        return 200 * self.runtime_s(m, n, b) + 0.5 * n * b


class Phased(Hidden):
    """One that knows its first token as well."""

    def first_token(self, m: int, b: int) -> tuple[float, float]:
        return 0.1 + 1e-4 * m * b, 400 * (0.1 + 1e-4 * m * b)

    def extrapolates(self, m: int, n: int, b: int) -> bool:
        return m > 400


def drawn_j(engine: SimulatedEngine, found: Generation) -> float:
    """The plant's integral over the time of a query."""
    return engine.plant.energy_j(found.ended_ns) - engine.plant.energy_j(found.begun_ns)


def make(noise: float = 0.0, seed: int = 0, truth: Hidden | None = None) -> SimulatedEngine:
    return SimulatedEngine(truth or Hidden(), Plant(50.0), VirtualClock(), noise=noise, seed=seed)


@given(sizes=SIZES, phased=st.booleans())
def test_without_noise_queries_cost_what_is_true(sizes: tuple[int, int, int], phased: bool) -> None:
    engine = make(truth=Phased() if phased else Hidden())
    found = engine.generate(*sizes)
    assert found.runtime_s == pytest.approx(engine.truth.runtime_s(*sizes), abs=1e-9)
    assert drawn_j(engine, found) == pytest.approx(engine.truth.energy_j(*sizes), rel=1e-9)
    assert (found.input_tokens, found.output_tokens, found.batch_size) == sizes


@given(sizes=SIZES, noise=st.floats(0, 0.5), seed=st.integers(0, 1000))
def test_the_plant_holds_exactly_the_energy_of_idle_time_and_queries(
    sizes: tuple[int, int, int], noise: float, seed: int
) -> None:
    clock = VirtualClock()
    engine = SimulatedEngine(Phased(), Plant(50.0), clock, noise, seed)
    energy_j = idle_s = 0.0
    for pause_s in (0.0, 1.5, 0.25):
        clock.sleep(pause_s)
        found = engine.generate(*sizes)
        energy_j += drawn_j(engine, found)
        idle_s += pause_s
        assert clock.mono_ns() == found.ended_ns
    assert engine.plant.energy_j(clock.mono_ns()) == pytest.approx(energy_j + 50 * idle_s)
    assert engine.plant.power_w(clock.mono_ns()) == 50


def test_prefill_and_decode_have_powers_of_their_own() -> None:
    engine = make(truth=Phased())
    found = engine.generate(300, 11, 2)
    assert found.ttft_s == pytest.approx(0.16)
    assert found.first_token_ns is not None
    assert engine.plant.power_w(found.begun_ns) == pytest.approx(400)
    assert engine.plant.power_w(found.first_token_ns - 1) == pytest.approx(400)
    rest_j = engine.truth.energy_j(300, 11, 2) - 64
    rest_s = engine.truth.runtime_s(300, 11, 2) - 0.16
    assert engine.plant.power_w(found.ended_ns - 1) == pytest.approx(rest_j / rest_s)
    assert len(found.token_ns) == 10
    assert found.token_ns[-1] == found.ended_ns
    assert np.diff([found.first_token_ns, *found.token_ns]) == pytest.approx(2.2e7, abs=1)
    assert found.flags == ("simulated",)
    assert engine.generate(401, 5).flags == ("simulated", "extrapolated")


def test_without_a_known_first_token_there_is_none() -> None:
    found = make().generate(30, 5)
    assert (found.first_token_ns, found.token_ns, found.ttft_s) == (None, (), None)
    assert make().generate(30, 1).first_token_ns is not None


def test_noise_keeps_the_means_and_has_the_stated_spread() -> None:
    engine = make(noise=0.1, seed=7)
    found = [engine.generate(100, 50) for _ in range(4000)]
    runtime = np.array([g.runtime_s for g in found]) / engine.truth.runtime_s(100, 50, 1)
    energy = np.array([drawn_j(engine, g) for g in found]) / engine.truth.energy_j(100, 50, 1)
    for factor in (runtime, energy):
        assert factor.mean() == pytest.approx(1, abs=4 * 0.1 / np.sqrt(4000))
        assert np.log(factor).std() == pytest.approx(0.1, rel=0.05)
    assert abs(np.corrcoef(runtime, energy)[0, 1]) < 4 / np.sqrt(4000)


def test_the_seed_decides_everything() -> None:
    def campaign(seed: int) -> list[Generation]:
        engine = make(noise=0.05, seed=seed)
        return [engine.generate(m, n) for m in (10, 100) for n in (1, 20)]

    assert campaign(1) == campaign(1)
    assert campaign(1) != campaign(2)


@pytest.mark.parametrize("sizes", [(32, 32), (512, 128), (2000, 64)])
def test_a_profile_of_queries_is_simulated_as_it_predicts(sizes: tuple[int, int]) -> None:
    settings = {"idle_power_w": "70", "seed": "4"}
    engine = open_driver(f"simulated:{QUERIES}", settings, VirtualClock())
    assert isinstance(engine, SimulatedEngine)
    found = engine.generate(*sizes)
    expected = predict(load_profile(QUERIES), *sizes)
    assert found.runtime_s == pytest.approx(expected.runtime_s[0], abs=1e-9)
    assert drawn_j(engine, found) == pytest.approx(expected.energy_j[0])
    assert found.flags == ("simulated",)
    assert engine.plant.idle_power_w == 70
    info = engine.info
    assert (info.system, info.model, info.engine) == ("swing-a100", "llama-2-7b", "simulated")
    assert info.kv_cache is False
    assert "nothing was measured" in info.note
    engine.close()


def test_a_profile_of_queries_knows_neither_idle_power_nor_batches() -> None:
    with pytest.raises(ParameterError, match="idle_power_w: not given, and the profile wilkins"):
        open_driver(f"simulated:{QUERIES}", {}, VirtualClock())
    engine = open_driver(f"simulated:{QUERIES}", {"idle_power_w": "70"}, VirtualClock())
    with pytest.raises(EngineError, match="a batch of 2, but the profile is of single queries"):
        engine.generate(32, 32, 2)


def test_a_profile_from_a_file(tmp_path: Path) -> None:
    save_profiles([load_profile(QUERIES)], tmp_path / "mine.json")
    text = f"simulated:{tmp_path / 'mine.json'}#{QUERIES}"
    engine = open_driver(text, {"idle_power_w": "70"}, VirtualClock())
    assert engine.generate(64, 64).runtime_s > 0


def test_a_profile_of_steps_takes_prompts_first_and_then_token_by_token() -> None:
    profile = load_iteration_profile(STEPS)
    truth = StepsTruth(profile)
    time_s = [truth.runtime_s(512, n, 8) for n in (1, 2, 3)]
    assert truth.first_token(512, 8)[0] == time_s[0]
    second, third = np.diff(time_s)
    assert profile.context is not None
    assert third - second == pytest.approx(8 * profile.context.time_s_per_token, rel=1e-6)
    engine = open_driver(f"simulated:{STEPS}", {}, VirtualClock())
    assert isinstance(engine, SimulatedEngine)
    assert engine.plant.idle_power_w == profile.states["resident"].power_w
    assert (engine.info.tensor_parallel, engine.info.n_accelerators) == (8, 8)
    found = engine.generate(512, 3, 8)
    assert found.ttft_s == pytest.approx(time_s[0], abs=1e-9)
    assert found.flags == ("simulated",)
    assert "extrapolated" in engine.generate(512, 3, 1000).flags


@pytest.mark.parametrize("profile", load_iteration_profiles(), ids=lambda profile: profile.name)
def test_more_of_anything_costs_more_by_every_profile_of_steps(profile: object) -> None:
    assert isinstance(profile, type(load_iteration_profile(STEPS)))
    truth = truth_of(profile)
    assert isinstance(truth, PhasedTruth)
    base = truth.energy_j(100, 20, 2)
    assert truth.energy_j(100, 40, 2) > base
    assert truth.energy_j(100, 20, 3) >= base
    assert truth.energy_j(200, 20, 2) >= base
    first_s, first_j = truth.first_token(100, 2)
    assert 0 < first_s < truth.runtime_s(100, 20, 2)
    assert 0 < first_j < base


def test_time_may_pass_faster_with_the_same_energy() -> None:
    settings = {"idle_power_w": "70", "speed": "2000"}
    engine = open_driver(f"simulated:{QUERIES}", settings, SYSTEM_CLOCK)
    assert isinstance(engine, SimulatedEngine)
    before = SYSTEM_CLOCK.mono_ns()
    found = engine.generate(64, 64)
    assert before <= found.begun_ns < found.ended_ns <= SYSTEM_CLOCK.mono_ns()
    expected = predict(load_profile(QUERIES), 64, 64)
    assert found.runtime_s * 2000 == pytest.approx(expected.runtime_s[0], rel=1e-4)
    assert drawn_j(engine, found) == pytest.approx(expected.energy_j[0], rel=1e-6)
    assert found.flags == ("simulated", "sped_up")


def test_a_model_of_costs_that_falls_below_zero_is_refused() -> None:
    text = "simulated:wilkins-2024-ols/swing-a100/llama-2-7b"
    engine = open_driver(text, {"idle_power_w": "70"}, VirtualClock())
    with pytest.raises(EngineError, match=r"2048 \+ 1 tokens x 1 would cost -"):
        engine.generate(2048, 1)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"noise": "-0.1"}, "noise: -0.1; give 0 or more"),
        ({"speed": "0"}, "speed: '0'; give a number above 0"),
        ({"idle_power_w": "60W"}, "idle_power_w: '60W'; give a number"),
        ({"nois": "0.1"}, "did you mean noise"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        open_driver(f"simulated:{STEPS}", settings, VirtualClock())


def test_an_unknown_profile_is_told_with_near_names() -> None:
    with pytest.raises(ProfileError, match="did you mean wilkins-2024/swing-a100/llama-2-7b"):
        open_driver("simulated:swing-a100/llama-2-7b", {"idle_power_w": "70"}, VirtualClock())
