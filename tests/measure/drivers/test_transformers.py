"""The driver of Hugging Face transformers, with random weights on the CPU."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wattshed.errors import EngineError, ParameterError
from wattshed.measure.driver import open_driver
from wattshed.measure.drivers.architectures import ARCHITECTURES
from wattshed.measure.drivers.transformers import TransformersDriver, count_parameters

CPU = {"device": "cpu", "seed": "3"}


def open_model(argument: str = "llama-1m", **settings: str) -> TransformersDriver:
    driver = open_driver(f"transformers:{argument}", CPU | settings)
    assert isinstance(driver, TransformersDriver)
    return driver


@pytest.fixture
def torch() -> Any:
    import torch

    return torch


def test_libraries_are_imported_by_nothing_but_an_open_model() -> None:
    code = (
        "import sys, wattshed.measure.drivers.transformers\n"
        "sys.exit(str({'torch', 'transformers'} & set(sys.modules) or ''))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


def test_missing_libraries_are_told_with_their_cure(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise ImportError('libcudart is missing')")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from wattshed.measure.driver import open_driver\n"
        "from wattshed.errors import EngineError\n"
        "try: open_driver('transformers:llama-1m')\n"
        "except EngineError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "transformers: torch cannot be imported: libcudart is missing;"
        " run: pip install 'wattshed[transformers]'\n"
    )


@pytest.mark.parametrize(
    ("argument", "settings", "says"),
    [
        ("llama-2m", {}, "'llama-2m'; give a local folder with config.json, or one of llama-1m"),
        ("", {}, "''; give a local folder"),
        ("llama-1m", {"kvcache": "true"}, "kvcache: no such setting; did you mean kv_cache"),
    ],
)
def test_what_makes_no_sense_is_refused(argument: str, settings: dict[str, str], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        open_model(argument, **settings)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"kv_cache": "yes"}, "kv_cache: 'yes'; give one of true, false"),
        ({"dtype": "int3"}, "dtype: 'int3'; give one of bf16, f16, f32"),
        ({"device": "abacus"}, "device: 'abacus'; give auto, all, cpu"),
        ({"seed": "-1"}, "seed: '-1'; give a whole number from 0"),
    ],
)
def test_settings_that_make_no_sense(torch: Any, settings: dict[str, str], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        open_model(**settings)


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_architectures_have_the_stated_numbers_of_parameters(torch: Any, name: str) -> None:
    import transformers

    architecture = ARCHITECTURES[name]
    config = transformers.LlamaConfig(**architecture.config)
    assert count_parameters(torch, transformers, config) == architecture.parameters


@pytest.mark.slow
def test_a_loaded_model_has_as_many_as_are_counted_without_making_it(torch: Any) -> None:
    driver = open_model("llama-10m", kv_cache="false", accelerator="a cpu", system="here")
    found = sum(parameter.numel() for parameter in driver.model.parameters())
    assert found == ARCHITECTURES["llama-10m"].parameters
    info = driver.info
    assert (info.model, info.accelerator, info.system) == ("llama-10m", "a cpu", "here")
    assert (info.kv_cache, info.note) == (False, "f32, random weights")
    driver.close()


@pytest.mark.slow
@pytest.mark.parametrize("kv_cache", ["true", "false"])
@pytest.mark.parametrize("batch_size", [1, 3])
def test_exactly_as_many_tokens_come_each_with_its_time(
    torch: Any, kv_cache: str, batch_size: int
) -> None:
    driver = open_model(kv_cache=kv_cache)
    for m, n in ((1, 1), (17, 1), (8, 20)):
        found = driver.generate(m, n, batch_size)
        assert (found.input_tokens, found.output_tokens) == (m, n)
        assert found.batch_size == batch_size
        assert len(found.token_ns) == n - 1
        times = [found.begun_ns, found.first_token_ns or 0, *found.token_ns]
        assert all(a < b for a, b in itertools.pairwise(times))
        assert times[-1] == found.ended_ns
        assert found.flags == ()


@pytest.mark.slow
def test_a_cache_saves_work_and_changes_no_token(torch: Any) -> None:
    prompts = np.random.default_rng(0).integers(1024, size=(3, 24))
    with_cache, _ = open_model(kv_cache="true").complete(prompts, 16)
    without, _ = open_model(kv_cache="false").complete(prompts, 16)
    assert with_cache.shape == (3, 16)
    assert np.array_equal(with_cache, without)
    one_by_one = [open_model().complete(prompts[i : i + 1], 16)[0][0] for i in range(3)]
    assert np.array_equal(with_cache, one_by_one)
    assert len(np.unique(with_cache)) > 1


@pytest.mark.slow
def test_weights_and_prompts_repeat_with_the_seed(torch: Any) -> None:
    state = torch.random.get_rng_state()
    prompts = np.arange(20).reshape(1, 20)
    first, again, other = (open_model(seed=seed).complete(prompts, 9)[0] for seed in "116")
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert torch.equal(state, torch.random.get_rng_state())


@pytest.mark.slow
def test_an_end_of_sequence_token_ends_nothing(torch: Any, tmp_path: Path) -> None:
    import transformers

    prompts = np.arange(12).reshape(1, 12)
    driver = open_model()
    tokens, _ = driver.complete(prompts, 10)
    driver.model.generation_config = transformers.GenerationConfig(eos_token_id=int(tokens[0, 3]))
    driver.model.config.eos_token_id = int(tokens[0, 3])
    driver.model.save_pretrained(tmp_path / "tiny")
    saved = open_model(str(tmp_path / "tiny"), dtype="f32")
    assert saved.info.model == "tiny"
    assert saved.info.note == "f32, local weights"
    again, found = saved.complete(prompts, 10)
    assert np.array_equal(again, tokens)
    assert found.output_tokens == 10


@pytest.mark.slow
def test_a_config_alone_gives_random_weights_if_asked_for(torch: Any, tmp_path: Path) -> None:
    config = {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    dimensions = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 128,
        "max_position_embeddings": 64,
    }
    (tmp_path / "config.json").write_text(json.dumps(config | dimensions))
    with pytest.raises(EngineError, match="check attn=, and that the folder holds"):
        open_model(str(tmp_path))
    driver = open_model(str(tmp_path), weights="random", attn="eager", dtype="bf16")
    assert driver.generate(40, 24, 2).output_tokens == 24
    with pytest.raises(EngineError, match=r"40 \+ 25 tokens exceed its context of 64; ask for"):
        driver.generate(40, 25)
    with pytest.raises(ParameterError, match="context: '128'; give it with weights=random alone"):
        open_model(str(tmp_path), context="128")
    longer = open_model(str(tmp_path), weights="random", context="128")
    assert longer.generate(40, 25).output_tokens == 25


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_told(torch: Any) -> None:
    driver = open_model()
    more_than_addresses = (2**33, 4000)
    with pytest.raises(EngineError, match=r"not enough memory: .*; choose a smaller model"):
        driver.generate(more_than_addresses[1], 1, more_than_addresses[0])
    nearly_nothing = np.lib.stride_tricks.as_strided(
        np.zeros(1, np.int64), more_than_addresses, strides=(0, 0)
    )
    with pytest.raises(EngineError, match=r"can't allocate memory.*; choose a smaller model"):
        driver.complete(nearly_nothing, 1)
    assert driver.generate(4, 2).output_tokens == 2


@pytest.mark.slow
def test_weights_larger_than_memory_are_refused(torch: Any, tmp_path: Path) -> None:
    config = ARCHITECTURES["llama-1m"].config | {"hidden_size": 2**20, "intermediate_size": 2**22}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"} | config))
    with pytest.raises(EngineError, match=r"its weights take \d+\.\d GB in f32, and .* are free"):
        open_model(str(tmp_path), weights="random")


@pytest.mark.slow
def test_a_device_that_is_not_there(torch: Any) -> None:
    missing = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(EngineError, match=f"finds no {missing}; give another"):
        open_model(device=missing)
