"""Models over several devices: what accelerate spreads gives the tokens of one device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wattshed.cli.metering import of_devices, refuse_what_is_not_metered
from wattshed.errors import EngineError, ParameterError
from wattshed.measure.clock import VirtualClock
from wattshed.measure.driver import open_driver
from wattshed.measure.drivers.architectures import ARCHITECTURES
from wattshed.measure.drivers.placement import Placement, gpu_id, spread
from wattshed.measure.meter import PolledMeter
from wattshed.records import MeterInfo

PROMPTS = np.random.default_rng(1).integers(1000, size=(2, 9))
SPREAD = {"device": "cpu,disk", "memory_gb": "0.002"}


def open_model(argument: str = "llama-1m", **settings: str) -> Any:
    return open_driver(f"transformers:{argument}", {"seed": "3", **settings})


def tokens_of(driver: Any) -> list[list[int]]:
    try:
        made, found = driver.complete(PROMPTS, 12)
    finally:
        driver.close()
    assert (found.input_tokens, found.output_tokens, found.batch_size) == (9, 12, 2)
    assert len(found.token_ns) == 11
    tokens: list[list[int]] = made.tolist()
    return tokens


@pytest.mark.slow
@pytest.mark.parametrize("kv_cache", ["true", "false"])
def test_layers_over_two_places_give_the_tokens_of_one(kv_cache: str) -> None:
    driver = open_model(kv_cache=kv_cache, **SPREAD)
    parts = driver.model.hf_device_map
    assert set(parts.values()) == {"cpu", "disk"}
    hooked = [name for name, part in driver.model.named_modules() if hasattr(part, "_hf_hook")]
    assert hooked
    assert any(weight.device.type == "meta" for weight in driver.model.parameters())
    assert driver.info.note == "f32, random weights, layers over cpu, disk"
    assert driver.info.n_accelerators == 1
    assert tokens_of(driver) == tokens_of(open_model(device="cpu", kv_cache=kv_cache))


@pytest.mark.slow
def test_local_weights_are_spread_as_they_are_loaded(tmp_path: Path) -> None:
    driver = open_model(device="cpu")
    driver.model.save_pretrained(tmp_path)
    spread = open_model(str(tmp_path), **SPREAD)
    assert "disk" in spread.model.hf_device_map.values()
    assert tokens_of(spread) == tokens_of(driver)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"device": "cpu,abacus"}, "device: 'cpu,abacus'; give auto, all, cpu"),
        ({"device": "disk"}, "device: 'disk'; give auto, all, cpu"),
        ({"device": "disk,cpu"}, "give auto, all, cpu"),
        ({"device": "cpu,cpu"}, "name each device once"),
        ({"device": "cpu,disk", "memory_gb": "1,1"}, "memory_gb: '1,1'; give GB for each"),
        ({"device": "cpu,disk", "memory_gb": "none"}, "memory_gb: 'none'; give GB for each"),
    ],
)
def test_places_that_make_no_sense(settings: dict[str, str], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        open_model(**settings)


@pytest.mark.slow
def test_a_place_without_a_part_is_refused() -> None:
    """A disk that holds nothing would be told in the runs, and would not be true."""
    with pytest.raises(EngineError, match="leaves disk without a part of it; name fewer devices"):
        open_model(device="cpu,disk")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("gpus_gb", "found"), [((80.0, 80.0), {0, 1}), ((8.0, 20.0), {0, 1}), ((4.0, 4.0), None)]
)
def test_a_7b_model_over_two_gpus_is_balanced_or_refused(
    gpus_gb: tuple[float, float], found: set[int] | None
) -> None:
    """Only the plan of it: it takes no GPU."""
    import torch
    import transformers

    config = transformers.LlamaConfig(**ARCHITECTURES["llama-7b"].config)
    with torch.device("meta"):
        empty = transformers.AutoModelForCausalLM.from_config(config)
    devices = (torch.device("cuda:0"), torch.device("cuda:1"))
    placement = Placement(devices, tuple(1e9 * gb for gb in gpus_gb))
    assert (placement.accelerators, placement.text) == (devices, "cuda:0, cuda:1")
    if found is None:
        with pytest.raises(EngineError, match="does not fit on cuda:0, cuda:1; name more"):
            spread(torch, "a", empty, torch.bfloat16, placement)
        return
    parts = spread(torch, "a", empty, torch.bfloat16, placement)
    assert set(parts.values()) == found
    layers = [place for name, place in parts.items() if ".layers." in name]
    assert len(layers) == 32
    assert layers == sorted(layers)
    assert 12 <= layers.count(0) <= 20


@pytest.mark.slow
def test_all_gpus_of_a_machine_without_any() -> None:
    import torch

    if torch.cuda.is_available():
        assert open_model(device="all").info.n_accelerators == torch.cuda.device_count()
        return
    with pytest.raises(EngineError, match="finds no cuda:0; give another"):
        open_model(device="all")


class Covering(PolledMeter):
    """A meter of some components; what it says is no matter."""

    def ask(self) -> tuple[float | None, float | None, tuple[str, ...]]:
        return None, None, ()


def meter_of(*parts: str) -> Covering:
    info = MeterInfo(id=parts[0], source="nvml", kind="counter", scope="gpu", covers=parts)
    return Covering(info, VirtualClock())


def test_meters_that_open_by_themselves_are_those_of_the_engines_gpus() -> None:
    a, b, host = meter_of("GPU-a"), meter_of("GPU-b"), meter_of("package-0")
    assert of_devices([a, b, host], ["GPU-b"]) == [b, host]
    assert of_devices([a, b, host], []) == [a, b, host]


def test_a_gpu_of_the_engine_without_a_meter_is_refused_if_others_have_one() -> None:
    a, b, host = (meter_of(name).info for name in ("GPU-a", "GPU-b", "package-0"))
    with pytest.raises(ParameterError, match="--meter: leaves out GPU-b, on which a part"):
        refuse_what_is_not_metered([a, host], ["GPU-a", "GPU-b"])
    refuse_what_is_not_metered([a, b], ["GPU-a", "GPU-b"])
    refuse_what_is_not_metered([host], ["GPU-a"])
    refuse_what_is_not_metered([a], [])


def test_gpus_have_the_names_of_their_meters() -> None:
    assert gpu_id("4f9d") == gpu_id("GPU-4f9d") == "GPU-4f9d"
