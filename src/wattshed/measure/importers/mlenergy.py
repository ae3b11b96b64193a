"""Results of the ML.ENERGY benchmark, and configurations of its leaderboard.

The energy of each request in `results` is energy per token times its tokens: nobody measured it,
and a model fitted to it would only give that product back. What was measured is the steady state.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import polars as pl

from wattshed.errors import ParameterError
from wattshed.files import read_json
from wattshed.measure.importers.found import (
    Benchmark,
    Energy,
    Request,
    Setting,
    counted,
    requests_frame,
    with_energy,
)

CURE = "give a results.json, or configurations of the leaderboard, of the ML.ENERGY benchmark"
FULL_BATCH = "batch_size is max_num_seqs: energy is of the time in which the batch was full"
METHOD = "ML.ENERGY: steady-state energy per output token, times the mean output"


class _Served(msgspec.Struct, frozen=True):
    input_len: int
    output_len: int
    latency: float
    ttft: float | None = None
    success: bool = True


class _Results(msgspec.Struct, frozen=True):
    model_id: str
    gpu_model: str
    num_gpus: int
    max_num_seqs: int
    steady_state_energy_per_token: float
    results: list[_Served]


class _Configuration(msgspec.Struct, frozen=True):
    model_id: str
    gpu_model: str
    num_gpus: int
    avg_batch_size: float
    avg_output_len: float
    energy_per_token_joules: float
    median_itl_ms: float
    tensor_parallel: int | None = None


class _Leaderboard(msgspec.Struct, frozen=True):
    configurations: list[_Configuration]


def recognise(keys: frozenset[str]) -> bool:
    """Told by the steady state's energy."""
    return keys >= {"results", "steady_state_energy_per_token"}


def read(path: Path) -> list[Benchmark]:
    """Requests that were served, with the energy of their mean; the batch was full."""
    found = read_json(path, _Results, CURE)
    served = [r for r in found.results if r.success]
    rows, left_out = requests_frame(
        path, [Request(r.input_len, r.output_len, r.latency, r.ttft) for r in served]
    )
    mean_output = float(rows["output_tokens"].mean())  # type: ignore[arg-type]
    energy_j = found.steady_state_energy_per_token * mean_output
    settings: dict[str, Setting] = {
        "model": found.model_id,
        "accelerator": found.gpu_model,
        "n_accelerators": found.num_gpus,
        "batch_size": found.max_num_seqs,
    }
    failed = counted(len(found.results) - len(served), "that failed")
    energy = Energy(energy_j, METHOD, "shared_by_token")
    notes = (*failed, *left_out, FULL_BATCH)
    return [Benchmark(rows, "requests", settings, energy, "derived", notes)]


def recognise_leaderboard(keys: frozenset[str]) -> bool:
    """Told by its list of configurations."""
    return "configurations" in keys


def read_leaderboard(path: Path, input_tokens: int | None) -> list[Benchmark]:
    """One mean row a configuration.

    It has neither input tokens, which are asked for, nor latencies: the runtime is the median gap
    between tokens times the mean output, without the time to the first token.

    Raises
    ------
    ParameterError
        If `input_tokens` is None.
    """
    if input_tokens is None:
        raise ParameterError(
            "--input-tokens",
            f"not given, and {path} does not say how long inputs were",
            "give their mean for the task of these configurations",
        )
    found = read_json(path, _Leaderboard, CURE).configurations
    return [_configuration(each, input_tokens) for each in found]


def _configuration(found: _Configuration, input_tokens: int) -> Benchmark:
    row = {
        "input_tokens": [input_tokens],
        "output_tokens": [float(round(found.avg_output_len))],
        "runtime_s": [found.median_itl_ms / 1e3 * found.avg_output_len],
        "flags": ["runtime_without_ttft"],
    }
    energy_j = found.energy_per_token_joules * found.avg_output_len
    return with_energy(
        Benchmark(
            pl.DataFrame(row),
            "mean",
            {
                "model": found.model_id,
                "accelerator": found.gpu_model,
                "n_accelerators": found.num_gpus,
                "tensor_parallel": found.tensor_parallel,
                "batch_size": found.avg_batch_size,
            },
            Energy(energy_j, METHOD, "shared_by_token"),
            "derived",
        )
    )
