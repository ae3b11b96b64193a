"""Claims about the clock, judged on figures alone: all of them rest on an assumed response."""

from __future__ import annotations

from wattshed.reproduce.greener_judging import (
    UNCHANGED,
    Judged,
    about,
    falls,
    percent,
    response,
    responses,
    rises,
    value,
    widest_spread,
)
from wattshed.reproduce.greener_settings import (
    BATCHES,
    CLOCKS_MHZ,
    HALF_MHZ,
    HIGHEST_MHZ,
    INPUT_TOKENS,
    LOWEST_MHZ,
    OUTPUT_TOKENS,
    TYPES,
)
from wattshed.reproduce.study import Result

LOWER_MHZ = CLOCKS_MHZ[:-1]
FOUR_FIFTHS_MHZ = 1600
LESS_ENERGY = 0.8


def half_clock(ours: float) -> Judged:
    """C1: throughput of SS at half the clock, relative to the highest."""
    return Judged(
        about(0.8, ours),
        f"At {HALF_MHZ} MHz SS loses {100 * (1 - ours):.0f} % of its highest throughput: below the"
        " knee short prompts and small batches, which wait for memory, slow down, too",
        {"throughput_ratio": ours},
    )


def half_clock_of_figure(figures: Result) -> Judged:
    """C1, from figure 3."""
    return half_clock(response(figures["figure3"], "SS")[HALF_MHZ])


def harmless_clocks(figures: Result) -> dict[str, float]:
    """Least power of each type, relative to the highest clock, at which nothing else changes."""
    found = {}
    for kind in TYPES:
        power, kept = response(figures["figure4"], kind), response(figures["figure3"], kind)
        slower = [response(figures[name], kind) for name in ("figure1", "figure2")]
        harmless = [
            power[clock]
            for clock in LOWER_MHZ
            if kept[clock] >= 1 - UNCHANGED and all(r[clock] <= 1 + UNCHANGED for r in slower)
        ]
        found[kind] = min(harmless, default=1.0)
    return found


def free_power(figures: Result) -> Judged:
    """C2: less power without any harm."""
    found = harmless_clocks(figures)
    enough = sum(ratio <= 0.8 * 1.1 for ratio in found.values())
    next_below = LOWER_MHZ[-1]
    power, ttft = (response(figures[f], "MM")[next_below] for f in ("figure4", "figure1"))
    return Judged(
        enough > len(TYPES) / 2,
        f"{enough} of {len(TYPES)} types have such a clock; already at {next_below} MHz, for"
        f" {percent(power - 1)} power, MM has {percent(ttft - 1)} TTFT",
        {"power_ratio": sorted(found.values())[len(TYPES) // 2], "types": float(enough)},
    )


def inputs_and_clock(figures: Result) -> Judged:
    """C3: TTFT over input and clock."""
    figure = figures["figure1"]
    clock = sum(falls(figure["series"][kind]["value"]) for kind in TYPES)
    length = sum(rises(value(figure, i + o) for i in INPUT_TOKENS) for o in OUTPUT_TOKENS)
    extra = {k: value(figure, k, LOWEST_MHZ) - value(figure, k) for k in TYPES}
    matters = sum(rises(extra[i + o] for i in INPUT_TOKENS) for o in OUTPUT_TOKENS)
    return Judged(
        clock == len(TYPES) and length == matters == len(OUTPUT_TOKENS),
        f"TTFT grows with the input for {length} of 3 outputs and at every lower clock for {clock}"
        f" of {len(TYPES)} types, but the clock matters more to longer inputs for {matters} of 3:"
        " prompts of 100 and 500 tokens take the same time at TP8",
        {"types_slower": float(clock), "outputs_in_order": float(matters)},
    )


def long_outputs_wait(figures: Result) -> Judged:
    """C5: TTFT over the output at half the clock and less."""
    figure = figures["figure1"]
    low = [clock for clock in CLOCKS_MHZ if clock <= HALF_MHZ]
    longer = [
        value(figure, i + "L", clock) / value(figure, i + "S", clock) - 1
        for i in INPUT_TOKENS
        for clock in low
    ]
    count = sum(more > 0 for more in longer)
    return Judged(
        count == len(longer),
        f"At {' and '.join(str(c) for c in low)} MHz long outputs change TTFT by"
        f" {percent(min(longer))} to {percent(max(longer))} against short ones",
        {"least_change": min(longer), "largest_change": max(longer)},
    )


def tbt_of_all_lengths(figures: Result) -> Judged:
    """C6: one response of TBT for all lengths."""
    spread, clock = widest_spread(figures["figure2"])
    return Judged(
        spread <= 0.1,
        f"The responses of the nine types lie up to {100 * spread:.0f} % apart, at {clock} MHz:"
        " prompts that are processed beside decoding follow the clock",
        {"widest_spread": spread},
    )


def best_clocks(figures: Result) -> dict[str, tuple[int, int, int]]:
    """Best clock of each type for power, for energy and for throughput."""

    def best(figure: str, kind: str, sign: float) -> int:
        curve = response(figures[figure], kind)
        return min(curve, key=lambda clock: sign * curve[clock])

    return {
        k: (best("figure4", k, 1), best("figure5", k, 1), best("figure3", k, -1)) for k in TYPES
    }


def three_best_clocks(figures: Result) -> Judged:
    """C8: power, energy and performance want different clocks."""
    found = best_clocks(figures)
    count = sum(len(set(clocks)) == len(clocks) for clocks in found.values())
    power, energy, speed = found["MM"]
    return Judged(
        count > len(TYPES) / 2,
        f"So it is for {count} of {len(TYPES)} types; for MM least power is at {power} MHz, least"
        f" energy at {energy}, most throughput at {speed}",
        {"types": float(count), "mm_energy_mhz": float(energy)},
    )


def ttft_of_all_degrees(figures: Result) -> Judged:
    """C10: one response of TTFT for all degrees."""
    spread, clock = widest_spread(figures["figure6"])
    return Judged(
        spread <= 0.1,
        f"The responses of TP2, TP4 and TP8 lie up to {100 * spread:.0f} % apart, at {clock} MHz;"
        " of a request alone they are equal, by assumption",
        {"widest_spread": spread},
    )


def tbt_of_degrees(figures: Result) -> Judged:
    """C11: TBT follows the clock less at higher degrees."""
    curves = responses(figures["figure7"])
    ordered = [clock for clock in LOWER_MHZ if falls(c[clock] for c in curves.values())]
    shown = ", ".join(f"{name} {percent(c[LOWEST_MHZ] - 1)}" for name, c in curves.items())
    return Judged(
        len(ordered) == len(LOWER_MHZ),
        f"TBT at {LOWEST_MHZ} MHz: {shown}; in the order claimed at {len(ordered)} of"
        f" {len(LOWER_MHZ)} lower clocks",
        {"clocks_in_order": float(len(ordered))},
    )


def batches_and_waiting(figures: Result) -> Judged:
    """C16: TTFT over the largest batch, at the load of the smallest one."""
    same, low = figures["figure11_same_load"], figures["figure11_low_load"]

    def growth(figure: Result, clock: int) -> float:
        return value(figure, str(BATCHES[-1]), clock) / value(figure, str(BATCHES[0]), clock) - 1

    at_highest, at_lowest = growth(same, HIGHEST_MHZ), growth(same, LOWEST_MHZ)
    at_low_load = growth(low, HIGHEST_MHZ)
    return Judged(
        at_highest < 0 and at_lowest < at_highest and at_low_load > 0,
        f"From batch 4 to 64 TTFT changes by {percent(at_highest, 1)} at the highest clock, by"
        f" {percent(at_lowest, 1)} at the lowest and by {percent(at_low_load, 1)} at very low load,"
        " where our batches are never full",
        {"highest_clock": at_highest, "lowest_clock": at_lowest, "low_load": at_low_load},
    )


def four_fifths_clock(figures: Result) -> Judged:
    """C20: 1.6 GHz for 2 GHz."""
    kept = {b: response(figures["figure13"], str(b))[FOUR_FIFTHS_MHZ] for b in BATCHES}
    needed = {b: response(figures["figure15"], str(b))[FOUR_FIFTHS_MHZ] for b in BATCHES}
    both = sum(about(1.0, kept[b]) and needed[b] < LESS_ENERGY for b in BATCHES)
    same = sum(about(1.0, ratio) for ratio in kept.values())
    return Judged(
        both > len(BATCHES) / 2,
        f"{same} of {len(BATCHES)} batches keep their throughput within 10 %, {both} of them for"
        f" less than 80 % of the energy; the least is {100 * min(needed.values()):.0f} %",
        {
            "energy_ratio": sorted(needed.values())[len(BATCHES) // 2],
            "throughput_ratio": sorted(kept.values())[len(BATCHES) // 2],
            "batches": float(both),
        },
    )


CLOCK_CLAIMS = {
    "C1": half_clock_of_figure,
    "C2": free_power,
    "C3": inputs_and_clock,
    "C5": long_outputs_wait,
    "C6": tbt_of_all_lengths,
    "C8": three_best_clocks,
    "C10": ttft_of_all_degrees,
    "C11": tbt_of_degrees,
    "C16": batches_and_waiting,
    "C20": four_fifths_clock,
}
"""Claims by what judges them, from figures as `simulate_figures` makes them."""
