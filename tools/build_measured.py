"""Tables of measured engine steps, made by `build_data.py` from the reference folder.

Means, names and units only; which rows a fit leaves out is decided by named rules in
`wattshed.fit.step_rules`, so that every output can say so.
"""

from __future__ import annotations

from pathlib import Path
from statistics import median

import polars as pl

DIGITS = 6
ACCELERATORS = {"a100-80gb": "a100-sxm", "h100-80gb": "h100-sxm"}
SPLITWISE_MODELS = {"llama2-70b": "llama-2-70b", "bloom-176b": "bloom-176b"}
SYNTHETIC = "h100-80gb-pcap"
PHASES = {"prompt_time": "prefill_time_s", "token_time": "decode_time_s", "e2e_time": "e2e_s"}
SPLITWISE_CELL = [
    "model",
    "system",
    "tensor_parallel",
    "batch_size",
    "input_tokens",
    "output_tokens",
]


def splitwise_steps(source: Path) -> pl.DataFrame:
    """Medians over the repetitions of each cell, without the synthetic power-capped rows."""
    rows = pl.read_csv(source / "measured/splitwise_perf_model.csv", infer_schema_length=None)
    rows = rows.filter(pl.col("hardware") != SYNTHETIC).select(
        pl.col("model").replace_strict(SPLITWISE_MODELS),
        pl.col("hardware").alias("system"),
        "tensor_parallel",
        "batch_size",
        pl.col("prompt_size").alias("input_tokens"),
        pl.col("token_size").alias("output_tokens"),
        pl.col(*PHASES) / 1e3,
        # 0 in the source means that power was not measured
        pl.col("average_power", "peak_power").replace(0.0, None),
    )
    cells = rows.group_by(SPLITWISE_CELL).agg(
        *PHASES, "average_power", "peak_power", trials=pl.len().cast(pl.Int64)
    )
    return (
        cells.with_columns(
            pl.col("system").replace_strict(ACCELERATORS).alias("accelerator"),
            *(_median(cells[column], name) for column, name in PHASES.items()),
            _median(cells["average_power"], "mean_power_fraction"),
            _median(cells["peak_power"], "peak_power_fraction"),
        )
        .select(
            "model",
            "system",
            "accelerator",
            *SPLITWISE_CELL[2:],
            "trials",
            *PHASES.values(),
            "mean_power_fraction",
            "peak_power_fraction",
        )
        .sort(SPLITWISE_CELL)
    )


def _median(lists: pl.Series, name: str) -> pl.Series:
    present = [[v for v in values if v is not None] for values in lists]
    figures = [median(values) if values else None for values in present]
    return pl.Series(name, figures, dtype=pl.Float64).round_sig_figs(DIGITS)


MLENERGY = {
    "task": "task",
    "model_id": "model",
    "architecture": "architecture",
    "total_params_billions": "total_params",
    "activated_params_billions": "active_params",
    "weight_precision": "weight_precision",
    "gpu_model": "accelerator",
    "num_gpus": "n_accelerators",
    "tensor_parallel": "tensor_parallel",
    "expert_parallel": "expert_parallel",
    "data_parallel": "data_parallel",
    "max_num_seqs": "max_batch_size",
    "avg_batch_size": "batch_size",
    "avg_output_len": "output_tokens",
    "output_throughput_tokens_per_sec": "throughput_tokens_per_s",
    "energy_per_token_joules": "energy_per_token_j",
    "median_itl_ms": "median_tbt_s",
}
MLENERGY_ACCELERATORS = {"H100": "h100-sxm", "B200": "b200-sxm"}
MLENERGY_KEY = [
    "model",
    "task",
    "accelerator",
    "n_accelerators",
    "tensor_parallel",
    "expert_parallel",
    "data_parallel",
    "max_batch_size",
    "batch_size",
]


def mlenergy_steps(source: Path) -> pl.DataFrame:
    """One configuration a row: batch, throughput and energy per output token."""
    rows = pl.read_csv(source / "measured/mlenergy_v3_llm.csv", infer_schema_length=None)
    table = rows.select(pl.col(list(MLENERGY))).rename(MLENERGY)
    return table.with_columns(
        pl.col("model").str.split("/").list.last().str.to_lowercase(),
        pl.col("accelerator").replace_strict(MLENERGY_ACCELERATORS),
        pl.col("total_params", "active_params") * 1e9,
        (pl.col("median_tbt_s") / 1e3).round_sig_figs(DIGITS),
    ).sort(MLENERGY_KEY)


FREESH = {
    "partition": "partition",
    "workload": "workload",
    "gpu": "accelerator",
    "tp": "tensor_parallel",
    "max_qps_under_slo": "max_throughput_per_s",
    "power_w_all_gpus": "power_w",
    "ttft_ms": "ttft_s",
    "tbt_ms": "tbt_s",
    "e2e_s": "e2e_s",
}
FREESH_ACCELERATORS = {"A100": "a100", "H100": "h100"}


def freesh_slo(source: Path) -> pl.DataFrame:
    """Highest rate within the SLO, with power of all accelerators and latencies there."""
    rows = pl.read_csv(source / "measured/freesh_a100_h100_tp.csv", infer_schema_length=None)
    table = rows.select(pl.col(list(FREESH))).rename(FREESH)
    return table.with_columns(
        pl.col("accelerator").replace_strict(FREESH_ACCELERATORS),
        (pl.col("ttft_s", "tbt_s") / 1e3).round_sig_figs(9),
    ).sort("partition", "workload", "accelerator", "tensor_parallel")
