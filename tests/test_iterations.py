"""Iteration profiles in use: files, coefficients, predictions, what is modelled."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from msgspec import structs

import wattshed as ws
from wattshed.errors import FileError, InputError, ParameterError, ProfileError
from wattshed.fit.curves import evaluate
from wattshed.records import Curve, IterationProfile

PROFILES = {profile.name: profile for profile in ws.load_iteration_profiles()}
PHASES = "splitwise/a100-80gb-tp8/llama-2-70b"
STEADY = "mlenergy-v3/h100x4-tp4/llama-3.3-70b-instruct/lm-arena-chat"


@pytest.fixture
def profile() -> IterationProfile:
    return PROFILES[PHASES]


@pytest.mark.parametrize("name", PROFILES)
def test_coefficients_say_what_the_curves_say(name: str) -> None:
    found = PROFILES[name]
    steps = ws.step_coefficients(found)
    for coefficients, curve in (
        (steps.decode_s, found.decode_time_s),
        (steps.decode_j, found.decode_energy_j),
    ):
        batch = np.geomspace(1, 1.5 * curve.at[-1], 60)
        segment = np.searchsorted(steps.batch_from, batch, side="right") - 1
        ours = coefficients[segment, 0] + coefficients[segment, 1] * batch
        assert ours == pytest.approx(evaluate(np.array(curve.at), np.array(curve.value), batch))
        assert (coefficients[:, 1] >= -1e-12).all()
    assert steps.contains_prefill == (found.prefill_time_s is None)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("clock", [1.0, 0.7, 0.3])
def test_steps_are_positive_and_rise_with_what_they_do(name: str, clock: float) -> None:
    found = PROFILES[name]
    batch = np.arange(1.0, 200)
    for context in (0.0, 600.0):
        for prompt in (0.0, 512.0):
            steps = ws.predict_steps(found, batch, context * batch, prompt, clock=clock)
            for values in (steps.time_s, steps.energy_j):
                assert (values > 0).all()
                assert (np.diff(values) >= -1e-12 * values[1:]).all()


def test_a_slower_clock_costs_time_and_saves_energy(profile: IterationProfile) -> None:
    clocks = (1.0, 0.9, 0.8, 0.7)
    steps = [ws.predict_steps(profile, [1, 16, 64], clock=clock) for clock in clocks]
    for faster, slower in itertools.pairwise(steps):
        assert (slower.time_s >= faster.time_s).all()
        assert (slower.energy_j <= faster.energy_j).all()
        assert (slower.power_w < faster.power_w).all()
    static = profile.clock.static_power_w
    assert (steps[-1].energy_j > static * steps[-1].time_s).all()


def test_work_that_waits_for_memory_keeps_its_time_above_the_knee(
    profile: IterationProfile,
) -> None:
    knee = profile.clock.memory_knee
    full, reduced, low = (ws.step_coefficients(profile, clock) for clock in (1.0, knee, knee / 2))
    assert reduced.context_s == pytest.approx(full.context_s)
    assert low.context_s == pytest.approx(2 * full.context_s)
    # A prompt of one token only reads the weights; all beyond it is arithmetic.
    least = full.prefill_s[0] @ [1, full.tokens_from[0]]
    slower = full.prefill_s / knee - [(1 / knee - 1) * least, 0]
    np.testing.assert_allclose(reduced.prefill_s, slower, atol=1e-12)


def test_a_step_that_decodes_and_prefills_reads_the_weights_once(
    profile: IterationProfile,
) -> None:
    decode, prefill, both = (
        ws.predict_steps(profile, b, 600 * b, c) for b, c in ((8, 0), (0, 1024), (8, 1024))
    )
    steps = ws.step_coefficients(profile)
    assert 0 < steps.shared_s < decode.time_s[0]
    assert both.time_s == pytest.approx(decode.time_s + prefill.time_s - steps.shared_s)
    assert both.energy_j == pytest.approx(decode.energy_j + prefill.energy_j - steps.shared_j)


def test_a_step_without_work_takes_nothing(profile: IterationProfile) -> None:
    step = ws.predict_steps(profile, 0)
    assert (step.time_s[0], step.energy_j[0]) == (0, 0)
    assert np.isnan(step.power_w[0])


def test_steps_that_contain_their_prefill_add_none() -> None:
    with_prompt, without = (ws.predict_steps(PROFILES[STEADY], 32, 0, c) for c in (500, 0))
    assert with_prompt.time_s == without.time_s
    alone, one = (ws.predict_steps(PROFILES[STEADY], b, 0, c) for b, c in ((0, 500), (1, 0)))
    assert alone.time_s == one.time_s


def test_extrapolation_is_told(profile: IterationProfile) -> None:
    steps = ws.predict_steps(profile, [8, 32, 65, 1, 1], [0, 0, 0, 9000, 100], [0, 0, 0, 0, 50_000])
    assert list(steps.extrapolated) == [False, False, True, True, True]
    assert list(steps.energy_extrapolated) == [False, True, True, True, True]


def test_what_is_modelled_is_told() -> None:
    derived = ws.modelled_parts(PROFILES[PHASES])
    assert "decode_energy_j" not in derived
    assert {"context", "states.boot.ready", "states.sleep.power_w"} <= set(derived)
    assert "clock" not in derived
    assert "clock" in ws.modelled_parts(PROFILES[PHASES], clock=0.8)
    h100 = ws.modelled_parts(PROFILES["splitwise/h100-80gb-tp8/llama-2-70b"])
    assert {"decode_energy_j", "prefill_energy_j"} <= set(h100)
    assert "decode_time_s" not in h100
    assert all(source for source in h100.values())


@pytest.mark.parametrize("name", PROFILES)
def test_states_and_their_transitions(name: str) -> None:
    states = PROFILES[name].states
    assert set(states) == {"idle", "resident", "sleep", "boot"}
    assert states["resident"].ready_s == states["resident"].ready_energy_j == 0
    assert 0 < states["sleep"].ready_s < states["boot"].ready_s == states["idle"].ready_s
    for state in states.values():
        assert 0 < state.power_w <= states["resident"].power_w
        assert state.ready_energy_j == pytest.approx(state.ready_s * states["resident"].power_w)
        assert state.power_source
        assert state.ready_kind == "modelled"


# ---------------------------------------------------------------- files and names


def test_profiles_survive_their_file(tmp_path: Path, profile: IterationProfile) -> None:
    path = tmp_path / "iteration-profiles.json"
    ws.save_iteration_profiles([profile, PROFILES[STEADY]], path, inputs={"a": "b"})
    assert ws.load_iteration_profiles(path) == [profile, PROFILES[STEADY]]
    assert ws.load_iteration_profile(f"{path.name}#{PHASES}", relative_to=tmp_path) == profile
    content = json.loads(path.read_text())
    assert (content["schema"], content["version"]) == ("wattshed/iteration-profiles", 1)
    assert content["inputs"] == {"a": "b"}
    assert {entry["name"] for entry in content["provenance"]} == {
        *profile.data,
        *PROFILES[STEADY].data,
    }


def test_names_are_unique_and_as_announced() -> None:
    assert len(PROFILES) == len(ws.load_iteration_profiles())
    for system in ("a100-80gb", "h100-80gb"):
        for degree in (2, 4, 8):
            assert f"splitwise/{system}-tp{degree}/llama-2-70b" in PROFILES


def test_unknown_name_is_told_with_names_that_are_near() -> None:
    with pytest.raises(ProfileError) as caught:
        ws.load_iteration_profile("splitwise/a100-tp8/llama-2-70b")
    assert "no profile named 'splitwise/a100-tp8/llama-2-70b'" in str(caught.value)
    assert PHASES in caught.value.cure
    assert "wattshed data show iteration-profiles" in caught.value.cure


def _falls(profile: IterationProfile) -> IterationProfile:
    curve = Curve([1.0, 2.0], [0.2, 0.1], "knots", {}, "measured", "")
    return structs.replace(profile, decode_time_s=curve)


def _lacks_a_value(profile: IterationProfile) -> IterationProfile:
    curve = Curve([1.0, 2.0], [0.2], "knots", {}, "measured", "")
    return structs.replace(profile, prefill_time_s=curve)


@pytest.mark.parametrize(
    ("spoil", "place"), [(_falls, "decode_time_s"), (_lacks_a_value, "prefill_time_s")]
)
def test_a_curve_that_no_step_can_follow_is_refused(
    spoil: Callable[[IterationProfile], IterationProfile],
    place: str,
    profile: IterationProfile,
    tmp_path: Path,
) -> None:
    path = tmp_path / "bad.json"
    ws.save_iteration_profiles([spoil(profile)], path)
    with pytest.raises(ProfileError) as caught:
        ws.load_iteration_profiles(path)
    assert PHASES in caught.value.where
    assert place in caught.value.where


@pytest.mark.parametrize(
    "content",
    [
        b"not json",
        b'{"profiles": 3}',
        msgspec.json.encode(
            {"profiles": [], "provenance": [], "created_by": "x", "schema": "wattshed/profiles"}
        ),
    ],
)
def test_a_file_of_another_kind_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(FileError):
        ws.load_iteration_profiles(path)


@pytest.mark.parametrize(
    ("call", "where"),
    [
        (lambda p: ws.step_coefficients(p, 0.0), "clock"),
        (lambda p: ws.step_coefficients(p, 1.2), "clock"),
        (lambda p: ws.step_coefficients(p, float("nan")), "clock"),
        (lambda p: ws.predict_steps(p, -1), "batch"),
        (lambda p: ws.predict_steps(p, 1, -5), "context_tokens"),
        (lambda p: ws.predict_steps(p, 1, 0, -5), "prompt_tokens"),
    ],
)
def test_arguments_out_of_range_are_refused(
    call: Callable[[IterationProfile], Any], where: str, profile: IterationProfile
) -> None:
    with pytest.raises(ParameterError) as caught:
        call(profile)
    assert caught.value.where == where
    assert isinstance(caught.value, InputError)


def test_the_command_lists_and_shows_them(
    wattshed_json: Callable[..., dict[str, Any]],
) -> None:
    names = {entry["name"] for entry in wattshed_json("data", "list")["results"]["datasets"]}
    assert {"iteration-profiles", "splitwise-steps", "mlenergy-v3-steps", "freesh-slo"} <= names
    shown = wattshed_json("data", "show", "iteration-profiles", "--rows", "200")["results"]
    assert shown["rows"] == len(PROFILES)
    assert {row[0] for row in shown["first"]} == set(PROFILES)
