"""Claims about workload types, parallelism and batches, judged at the highest clock."""

from __future__ import annotations

from wattshed.reproduce.greener_judging import Judged, about, falls, percent, value
from wattshed.reproduce.greener_settings import (
    BATCHES,
    DEGREES,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    highest_power_per_gpu_w,
    step_ratio,
)
from wattshed.reproduce.study import Result


def throttling() -> Judged:
    """C4: no limit of power is in the model."""
    power_w = highest_power_per_gpu_w()
    return Judged(
        None,
        f"Our model has no power limit to throttle at, and draws {power_w:.0f} W per GPU at most,"
        " after a prior scaled to an older engine",
        {"highest_power_per_gpu_w": power_w},
    )


def order_of_types(served: Result) -> Judged:
    """C7: throughputs by type, as ``{TYPE: {value, ...}}``."""
    rate = {kind: found["value"] for kind, found in served.items()}
    inputs = sum(falls(rate[i + o] for i in INPUT_TOKENS) for o in OUTPUT_TOKENS)
    outputs = sum(falls(rate[i + o] for o in OUTPUT_TOKENS) for i in INPUT_TOKENS)
    most, least = max(rate, key=lambda k: rate[k]), min(rate, key=lambda k: rate[k])
    return Judged(
        inputs == outputs == 3 and (most, least) == ("SS", "LL"),
        f"{most} serves {rate[most]:.3g}/s, {least} {rate[least]:.3g}/s; throughput falls with the"
        f" input for {inputs} of 3 outputs and with the output for {outputs} of 3 inputs",
        {"ss_per_ll": rate["SS"] / rate["LL"]},
    )


def more_gpus_are_faster(alone: Result) -> Judged:
    """C9: measured latencies of one request, as ``{ttft_s: {TP2: ...}, tbt_s: ...}``."""
    steps = {
        name: [alone[name][f"TP{a}"] / alone[name][f"TP{b}"] for a, b in ((2, 4), (4, 8))]
        for name in ("ttft_s", "tbt_s")
    }
    every = [ratio for ratios in steps.values() for ratio in ratios]
    shown = "; ".join(
        f"{name[:-2].upper()} "
        + "/".join(f"{1e3 * alone[name][f'TP{d}']:.1f}" for d in DEGREES)
        + " ms"
        for name in steps
    )
    return Judged(
        all(1 < ratio < 2 for ratio in every),
        f"A request alone, at TP2/TP4/TP8: {shown}, so by less than the GPUs everywhere, but TBT"
        " does not fall from TP4 to TP8",
        {
            f"{name[:-2]}_tp{a}_per_tp{b}": r
            for name, rs in steps.items()
            for (a, b), r in zip(((2, 4), (4, 8)), rs, strict=True)
        },
    )


def growth_of_throughput(published: float, ours: float, low: int, high: int) -> Judged:
    """C12, C13: throughput of one degree to that of another."""
    return Judged(
        about(published, ours),
        f"TP{high} serves {percent(ours - 1)} against TP{low}, the study says"
        f" {percent(published - 1)}",
        {"throughput_ratio": ours},
    )


def two_small_beat_one_large(tp4_per_tp2: float, tp8_per_tp4: float) -> Judged:
    """C14: follows from C12 and C13."""
    return Judged(
        max(tp4_per_tp2, tp8_per_tp4) < 2,
        f"TP4 serves {tp4_per_tp2:.2f} times what TP2 does, TP8 {tp8_per_tp4:.2f} times what TP4"
        " does; two replicas of the smaller serve twice as much",
        {"tp4_per_tp2": tp4_per_tp2, "tp8_per_tp4": tp8_per_tp4},
    )


def energy_of_degrees(figures: Result) -> Judged:
    """C15: energy of TP2 and TP8 over the same time, and requests."""
    energy = value(figures["figure9"], "TP2") / value(figures["figure9"], "TP8")
    served = value(figures["figure8"], "TP2") / value(figures["figure8"], "TP8")
    each = value(figures["figure10"], "TP2") / value(figures["figure10"], "TP8")
    return Judged(
        about(0.6, energy) and about(0.4, served),
        f"Over the same time TP2 needs {100 * (1 - energy):.0f} % less and serves"
        f" {100 * (1 - served):.0f} % fewer; a request needs {each:.2f} times the energy of TP8,"
        f" where the study's figures say {0.6 / 0.4:.1f}",
        {"energy_ratio": energy, "throughput_ratio": served, "energy_per_request_ratio": each},
    )


def flat_decode() -> Judged:
    """C17: a decode step of 64 sequences to one of 4."""
    ours = step_ratio()
    return Judged(
        about(1.0, ours), f"A step of 64 takes {ours:.2f} times one of 4", {"tbt_ratio": ours}
    )


def sixteen_times_the_batch(ours: float) -> Judged:
    """C18: throughput of batch 64 to that of batch 4."""
    return Judged(
        about(7.0, ours),
        f"Batches of 64 serve {ours:.2f} times what batches of 4 do",
        {"throughput_ratio": ours},
    )


def doubled_batches(ours: dict[str, float]) -> Judged:
    """C19: throughput of each batch to that of half the batch; ours is the largest."""
    shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in ours.items())
    return Judged(
        max(ours.values()) < 2,
        f"Batch to half the batch: {shown}",
        {"throughput_ratio": max(ours.values())},
    )


def saving_of_small_batches(figures: Result) -> Judged:
    """C21: energy over the batch at a load that batches of 4 serve."""
    figure = figures["figure15_low_load"]
    largest = value(figure, str(BATCHES[-1]))
    saving = {b: 1 - value(figure, str(b)) / largest for b in BATCHES[:-1]}
    best = max(saving, key=lambda b: saving[b])
    return Judged(
        about(0.15, saving[best]),
        f"At one low load a maximum of {best} changes the energy by {percent(-saving[best], 1)},"
        f" one of 4 by {percent(-saving[4], 1)}: the fewer share a step, the more it costs each",
        {"largest_saving": saving[best]},
    )
