"""What built-in measurements say about the claims on parallelism and batches."""

from __future__ import annotations

from itertools import pairwise

import polars as pl

from wattshed.data.catalog import read_table
from wattshed.fit.step_rules import clean_slo, clean_steps
from wattshed.reproduce.greener_settings import BATCHES, DEGREES
from wattshed.reproduce.study import Result

STEPS, SLO, ENERGY = "splitwise-steps", "freesh-slo", "mlenergy-v3-steps"
FREESH_TYPES = ("SS", "LS", "SL", "LL")


def static_batches() -> pl.DataFrame:
    """Static batches of 512 input and 128 output tokens of Llama-2-70B on H100s.

    Returns
    -------
    polars.DataFrame
        `tensor_parallel, batch_size, prefill_time_s, decode_time_s, e2e_s` without artefacts, and
        `throughput_per_s`, whole requests per second.
    """
    kept, _ = clean_steps(read_table(STEPS))
    return kept.filter(
        pl.col("model") == "llama-2-70b",
        pl.col("system") == "h100-80gb",
        pl.col("input_tokens") == 512,
        pl.col("output_tokens") == 128,
    ).with_columns(throughput_per_s=pl.col("batch_size") / pl.col("e2e_s"))


def measured_figures() -> Result:
    """Measured ratios by claim and data set.

    Those of ``splitwise-steps`` compare the largest batches that fit, as our simulations do;
    those of ``freesh-slo`` are of A100s, by partition and workload, null where the smaller degree
    serves none.
    """
    rows = static_batches()
    largest = {d: _largest(rows, d) for d in DEGREES}
    at_tp8 = {b: _cell(rows, 8, b, "throughput_per_s") for b in BATCHES}
    steps = {b: _cell(rows, 8, b, "decode_time_s") for b in BATCHES}
    tp4_per_tp2, tp8_per_tp4 = largest[4] / largest[2], largest[8] / largest[4]
    return {
        "C7": {SLO: slo_orders()},
        "C9": {STEPS: _alone(rows)},
        "C12": {STEPS: tp4_per_tp2, SLO: slo_ratios(4, 2)},
        "C13": {STEPS: tp8_per_tp4, SLO: slo_ratios(8, 4)},
        "C14": {STEPS: {"TP4/TP2": tp4_per_tp2, "TP8/TP4": tp8_per_tp4}, SLO: _pairs_win()},
        "C17": {STEPS: steps[64] / steps[4], ENERGY: tbt_ratio_of_serving()},
        "C18": {STEPS: at_tp8[64] / at_tp8[4]},
        "C19": {STEPS: {f"{b}/{a}": at_tp8[b] / at_tp8[a] for a, b in pairwise(BATCHES)}},
    }


def _cell(rows: pl.DataFrame, degree: int, batch: int, column: str) -> float:
    found = rows.filter(tensor_parallel=degree, batch_size=batch)
    return float(found[column].item())


def _largest(rows: pl.DataFrame, degree: int) -> float:
    """Throughput of the largest batch that fits."""
    of_degree = rows.filter(tensor_parallel=degree).sort("batch_size")
    return float(of_degree["throughput_per_s"][-1])


def _alone(rows: pl.DataFrame) -> Result:
    """Latencies of one request by degree."""
    return {
        name: {f"TP{d}": _cell(rows, d, 1, column) for d in DEGREES}
        for name, column in (("ttft_s", "prefill_time_s"), ("tbt_s", "decode_time_s"))
    }


def tbt_ratio_of_serving(model: str = "llama-3.1-70b-instruct") -> float:
    """Median TBT at a maximum batch of 64 to that at 8, on four H100s in steady serving."""
    rows = read_table(ENERGY).filter(
        model=model, accelerator="h100-sxm", n_accelerators=4, task="lm-arena-chat"
    )
    small, large = (rows.filter(max_batch_size=b)["median_tbt_s"].item() for b in (8, 64))
    return float(large / small)


def _slo_rates() -> dict[tuple[str, str, int], float]:
    """Rates of the A100 within the SLO by partition, workload and degree."""
    rows, _ = clean_slo(read_table(SLO))
    key = ("partition", "workload", "tensor_parallel", "max_throughput_per_s")
    return {row[:3]: row[3] for row in rows.filter(accelerator="a100").select(key).rows()}


def slo_ratios(above: int, below: int) -> dict[str, float | None]:
    """Ratio of rates within the SLO at two degrees, by ``partition/workload``."""
    rates = _slo_rates()
    return {
        f"{part}/{kind}": rates[part, kind, above] / least
        if (least := rates.get((part, kind, below)))
        else None
        for part in ("a", "b")
        for kind in FREESH_TYPES
    }


def _pairs_win() -> Result:
    """In how many cases two of the smaller degree serve more than one of the larger."""
    found = {}
    for above, below in ((4, 2), (8, 4)):
        known = [ratio for ratio in slo_ratios(above, below).values() if ratio is not None]
        name = f"2xTP{below} > TP{above}"
        found[name] = {"cases": len(known), "true": sum(ratio < 2 for ratio in known)}
    return found


def slo_orders() -> Result:
    """Whether SS serves most and LL least, by partition and degree."""
    rates, found = _slo_rates(), {}
    for part, degree in ((p, d) for p in ("a", "b") for d in DEGREES):
        served = {kind: rates.get((part, kind, degree), 0.0) for kind in FREESH_TYPES}
        found[f"{part}/TP{degree}"] = {
            "most": max(served, key=lambda kind: served[kind]),
            "ll_is_least": served["LL"] <= min(served.values()),
        }
    return found
