"""Engine settings of deployments: what a fleet says, the defaults, and what contradicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

import wattshed as ws
from wattshed.engines.model import UNLIMITED
from wattshed.errors import FileError, FleetError, ProfileError
from wattshed.fit.physics import MODELS
from wattshed.fleet import Deployment, load_fleet
from wattshed.records import IterationProfile, Profile
from wattshed.serving import ENGINE_KEYS, engine_settings

STEPS = "splitwise/a100-80gb-tp2/llama-2-70b"
STEADY = "mlenergy-v3/h100x4-tp4/llama-3.3-70b-instruct/lm-arena-chat"
QUERY = "wilkins-2024/swing-a100/llama-2-7b"


def deployment(profile: str = STEPS, **settings: Any) -> Deployment:
    return Deployment("a", ws.load_iteration_profile(profile), **settings)


def write(folder: Path, profile: str, **settings: Any) -> Path:
    lines = [f"{key} = {value}" for key, value in settings.items()]
    path = folder / "fleet.toml"
    path.write_text("\n".join(["[[deployments]]", 'name = "a"', f'profile = "{profile}"', *lines]))
    return path


def test_defaults_come_from_the_profile_and_the_memory() -> None:
    profile = ws.load_iteration_profile(STEPS)
    found = engine_settings(deployment())
    assert found.max_batch == profile.domain.batch[1] == 32
    assert found.chunk_tokens == 2048
    weights, each = profile.weight_bytes, MODELS["llama-2-70b"].kv_bytes_per_token
    assert found.kv_tokens * each <= 0.9 * 2 * 80 * 2**30 - weights < (found.kv_tokens + 1) * each
    assert found.max_context_tokens == found.kv_tokens + 1
    assert found.clock == 1.0
    assert found.idle_power_w == profile.states["resident"].power_w
    assert found.static_power_w == profile.clock.static_power_w
    assert found.sleep is None
    assert set(structs.asdict(found)) - {"sleep", "sources", "notes"} == set(found.sources)


def test_settings_of_the_fleet_are_kept_and_say_so(tmp_path: Path) -> None:
    settings = {"max_batch": 8, "chunk_tokens": 512, "kv_tokens": 9000, "max_context_tokens": 4096}
    path = write(tmp_path, STEPS, **settings, clock=0.8, sleep_after_s=5, idle_power_w=100)
    found = engine_settings(load_fleet(path).deployments[0])
    for name, value in {**settings, "clock": 0.8, "idle_power_w": 100}.items():
        assert getattr(found, name) == value
        assert found.sources[name] == "fleet"
    assert found.sleep is not None
    assert found.sleep.after_s == 5
    assert found.sleep.ready_s > 0


def test_a_batch_above_the_default_chunk_widens_it() -> None:
    assert engine_settings(deployment(max_batch=3000)).chunk_tokens == 3000


def test_a_model_of_unknown_keys_and_values_has_no_limit_and_a_note() -> None:
    found = engine_settings(deployment(STEADY))
    assert found.kv_tokens == found.max_context_tokens == UNLIMITED
    assert found.max_batch == 724
    assert any("unlimited" in note for note in found.notes)


def test_extrapolated_batches_are_noted() -> None:
    assert any("energy of batches above 16" in note for note in engine_settings(deployment()).notes)
    assert engine_settings(deployment(max_batch=16)).notes == []
    notes = engine_settings(deployment(max_batch=33)).notes
    assert any("time of batches above 32" in note for note in notes)


def test_sleep_that_saves_nothing_is_noted() -> None:
    notes = engine_settings(deployment(STEADY, sleep_after_s=1.0)).notes
    assert any("sleep saves nothing" in note for note in notes)
    assert not any("sleep" in note for note in engine_settings(deployment(sleep_after_s=1.0)).notes)


@pytest.mark.parametrize("accelerators", [1, 2])
def test_weights_must_fit_unless_the_cache_is_stated(accelerators: int) -> None:
    heavy = structs.replace(
        ws.load_iteration_profile(STEPS), n_accelerators=accelerators, weight_bytes=160e9
    )
    with pytest.raises(FleetError, match="160 GB of weights do not fit"):
        engine_settings(Deployment("a", heavy))
    assert engine_settings(Deployment("a", heavy, kv_tokens=5000)).kv_tokens == 5000


def test_an_unknown_accelerator_has_no_limit() -> None:
    other = structs.replace(ws.load_iteration_profile(STEPS), accelerator="made-up")
    assert engine_settings(Deployment("a", other)).kv_tokens == UNLIMITED


@pytest.mark.parametrize(("state", "key"), [("sleep", "sleep_after_s"), ("resident", "profile")])
def test_a_state_that_the_profile_lacks_is_named(state: str, key: str) -> None:
    profile = ws.load_iteration_profile(STEPS)
    states = {name: each for name, each in profile.states.items() if name != state}
    settings = {"sleep_after_s": 1.0} if key == "sleep_after_s" else {}
    with pytest.raises(FleetError, match=f"no state '{state}'"):
        engine_settings(Deployment("a", structs.replace(profile, states=states), **settings))


def test_the_cache_holds_all_but_the_last_token_of_a_request() -> None:
    assert engine_settings(deployment(kv_tokens=100, max_context_tokens=101)).kv_tokens == 100
    with pytest.raises(FleetError, match="do not hold one request"):
        engine_settings(deployment(kv_tokens=100, max_context_tokens=102))


def test_a_profile_of_single_queries_has_no_engine() -> None:
    with pytest.raises(FleetError, match="profile of single queries"):
        engine_settings(Deployment("a", ws.load_profile(QUERY)))


@pytest.mark.parametrize("key", ENGINE_KEYS)
def test_engine_settings_need_an_iteration_profile(tmp_path: Path, key: str) -> None:
    with pytest.raises(FleetError, match=rf"deployments\[0\].{key}: 1 on {QUERY}"):
        load_fleet(write(tmp_path, QUERY, **{key: 1}))


def test_both_kinds_of_files_are_told_apart_by_their_schema(tmp_path: Path) -> None:
    ws.save_iteration_profiles([ws.load_iteration_profile(STEPS)], tmp_path / "steps.json")
    ws.save_profiles([ws.load_profile(QUERY)], tmp_path / "queries.json")
    for reference, kind in (
        (f"steps.json#{STEPS}", IterationProfile),
        (f"queries.json#{QUERY}", Profile),
    ):
        (found,) = load_fleet(write(tmp_path, reference)).deployments
        assert isinstance(found.profile, kind)
        with pytest.raises(ProfileError, match=r"deployments\[0\].profile: no profile named"):
            load_fleet(write(tmp_path, reference.replace("70b", "7").replace("-7b", "")))


def test_a_profiles_file_that_is_none_is_named(tmp_path: Path) -> None:
    (tmp_path / "steps.json").write_text("steps")
    with pytest.raises(FileError, match=r"steps\.json"):
        load_fleet(write(tmp_path, "steps.json#x"))


def test_near_names_of_both_kinds_are_offered(tmp_path: Path) -> None:
    for near in (QUERY, STEADY):
        with pytest.raises(ProfileError, match=near):
            load_fleet(write(tmp_path, near[:-1]))


def test_the_built_in_fleet_keeps_its_promise_alone() -> None:
    """The SLO is five times what the slowest deployment needs alone, the first one rounded up."""
    fleet = load_fleet("mixed-70b")
    promise, ttft, tbt = fleet.slo["default"], [], []
    for each in fleet.deployments:
        assert isinstance(each.profile, IterationProfile)
        ttft += ws.predict_steps(each.profile, 0, 0, 1155).time_s.tolist()
        tbt += ws.predict_steps(each.profile, 1, 1155 + 106).time_s.tolist()
    assert promise.ttft_s == pytest.approx(5 * max(ttft), abs=0.13)
    assert promise.tbt_s == pytest.approx(5 * max(tbt), abs=0.005)
