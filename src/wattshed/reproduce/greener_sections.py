"""Sections of the report on the study of clocks, parallelism and batches: figures 1 to 15."""

from __future__ import annotations

from typing import Literal

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.greener_judging import HOLDS
from wattshed.reproduce.greener_load import (
    MAIN,
    REQUESTS,
    SEEDS,
    TEXTS,
    WARM_UP,
)
from wattshed.reproduce.greener_settings import HIGHEST_MHZ, INPUT_TOKENS, OUTPUT_TOKENS
from wattshed.reproduce.study import Result, cell

UNITS = {
    "ttft_s": ("s", "TTFT"),
    "tbt_s": ("s", "TBT"),
    "power_w": ("W", "power"),
    "energy_j": ("J", "energy of a request"),
    "throughput_per_s": ("requests/s", "throughput"),
}
"""Unit and short name of a quantity."""


def setup_section(results: Result) -> Section:
    """What was simulated, and the SLO of each type."""
    lengths = ", ".join(
        f"{letter} {INPUT_TOKENS[letter]} and {OUTPUT_TOKENS[letter]}" for letter in INPUT_TOKENS
    )
    rows: list[list[Cell]] = [
        [kind, cell(limit["ttft_s"], 4), cell(limit["tbt_s"], 4)]
        for kind, limit in results["slo"].items()
    ]
    return Section(
        "What was simulated",
        [
            "One replica of Llama-2-70B on 2, 4 or 8 H100s, with the step times that"
            " splitwise-steps has for them, continuous batching and chunked prefill. Requests of"
            f" one type have one length each (input and output tokens: {lengths}). The maximum"
            " batch is 64 unless told, and 32 at TP2, the largest that was measured there.",
            "The SLO is five times the TTFT and the TBT of the request alone at TP8 and"
            f" {HIGHEST_MHZ} MHz, for all settings that serve this type. The highest throughput is"
            f" the highest rate of arrivals that keeps it ({TEXTS[MAIN]}), found by bisection with"
            f" {SEEDS} replications of {REQUESTS} requests, of which the first {WARM_UP} are not"
            " counted, on the same arrivals for all settings. Medium load is half of that, of each"
            " setting and clock its own. Power is the mean over time, not its peak.",
            "Every step time below the highest clock is modelled: decode slows below a knee,"
            " prefill with the clock. The energy of the H100 is a published prior, scaled to what"
            " the same engine drew on the A100. Nothing was fitted to the study.",
        ],
        [Table("slo", "SLO by type", ["type", "TTFT (s)", "TBT (s)"], rows)],
    )


def types_section(results: Result) -> Section:
    """Figures 1 to 5."""
    return _figures_section(results, "Workload types: figures 1 to 5", range(1, 6), "workload type")


def degrees_section(results: Result) -> Section:
    """Figures 6 to 10."""
    section = _figures_section(
        results, "Tensor parallelism: figures 6 to 10", range(6, 11), "degree"
    )
    tables = [
        by_type_table(results, "C12", "TP4 to TP2"),
        by_type_table(results, "C13", "TP8 to TP4"),
    ]
    return Section(section.heading, section.paragraphs, [*section.tables, *tables], section.charts)


def batches_section(results: Result) -> Section:
    """Figures 11 to 15."""
    return _figures_section(
        results, "Maximum batch: figures 11 to 15", range(11, 16), "maximum batch"
    )


def _figures_section(results: Result, heading: str, numbers: range, series: str) -> Section:
    figures = {f"figure{n}": results["figures"][f"figure{n}"] for n in numbers}
    return Section(
        heading,
        [
            "Charts show ratios to the reference in their label, as the study normalises;"
            " throughput in requests per second, with 95 % intervals over replications. Tables hold"
            " the values."
        ],
        [figure_table(name, figure, series) for name, figure in figures.items()],
        [figure_chart(name, figure) for name, figure in figures.items()],
    )


def figure_title(name: str, figure: Result) -> str:
    """Such as ``Figure 3: highest throughput within the SLO``."""
    return f"Figure {name.removeprefix('figure')}: {figure['title']}"


def figure_table(name: str, figure: Result, series: str) -> Table:
    """Values of a figure, a series a row."""
    unit, _ = UNITS[figure["quantity"]]
    rows: list[list[Cell]] = [
        [label, *(cell(value, 4) for value in found["value"])]
        for label, found in figure["series"].items()
    ]
    return Table(
        name,
        f"{figure_title(name, figure)} ({unit})",
        [series, *(f"{clock} MHz" for clock in figure["clock_mhz"])],
        rows,
        note=f"Load: {figure['load']}.",
    )


def figure_chart(name: str, figure: Result) -> Chart:
    """Throughputs as they are, everything else as ratios."""
    unit, short = UNITS[figure["quantity"]]
    absolute = figure["quantity"] == "throughput_per_s"
    clocks = [float(clock) for clock in figure["clock_mhz"]]
    return Chart(
        name,
        f"{_sentence(figure['title'])}: the study's figure {name.removeprefix('figure')}",
        "clock (MHz)",
        f"{short} ({unit})" if absolute else f"{short} / {figure['reference']}",
        [_line(label, clocks, found, absolute) for label, found in figure["series"].items()],
        y_scale="log2" if figure["quantity"] == "energy_j" else "linear",
    )


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def _line(label: str, clocks: list[float], found: Result, absolute: bool) -> Series:
    """One curve; lines of their own for long inputs, because nine colours are hard to tell."""
    style: Literal["line", "line+markers"] = "line" if label.startswith("L") else "line+markers"
    if not absolute:
        return Series(label, clocks, found["ratio"], style=style)
    return Series(label, clocks, found["value"], found["low"], found["high"], style=style)


def by_type_table(results: Result, claim: str, pair: str) -> Table:
    """How much a degree serves more than the one below, by type."""
    found = results["readings"][f"{claim}_by_type"]
    rows: list[list[Cell]] = [
        [kind, *(cell(found[reading][kind]["value"], 3) for reading in found)]
        for kind in next(iter(found.values()))
    ]
    return Table(
        f"{claim.lower()}-by-type",
        f"Throughput of {pair}, by type",
        ["type", *(TEXTS[reading] for reading in found)],
        rows,
    )


def readings_section(results: Result) -> Section:
    """How much ratios of throughputs hang on what "within the SLO" means."""
    readings = results["readings"]
    columns = {
        "C1: SS at half the clock": readings["C1"],
        "C12: TP4 to TP2": readings["C12"],
        "C13: TP8 to TP4": readings["C13"],
        "C18: batch 64 to 4": readings["C18"],
        **{f"C19: {name.replace('/', ' to ')}": found for name, found in readings["C19"].items()},
    }
    rows: list[list[Cell]] = [
        [text, *(_shown(found[reading]) for found in columns.values())]
        for reading, text in TEXTS.items()
    ]
    full = results["full_batches"]
    kept: list[list[Cell]] = [
        [
            name,
            cell(found["throughput_per_s"], 4),
            cell(100 * found["ttft_within"], 3),
            cell(100 * found["tbt_within"], 3),
        ]
        for name, found in full.items()
    ]
    return Section(
        "What highest throughput within the SLO means",
        [
            "The study says neither how requests arrive nor which part of them must keep the SLO."
            " With random arrivals and a bound on nearly all requests, a small batch serves little"
            " of what it could, because some requests always meet a full batch; the larger the"
            " batch, the rarer that is. Ratios of batches then say more about waiting than about"
            " the machine. Arrivals at equal distances take that away, and keep the SLO.",
            "Static batches were measured, on the same model and GPUs, and rest on no arrivals."
            " Where they decide a claim, they do so here; the other readings stand beside them."
            " They keep no SLO on TTFT: the prompts of the whole batch are processed first.",
        ],
        [
            Table("readings", "Ratios of throughputs by reading", ["reading", *columns], rows),
            Table(
                "full-batches",
                "Always full batches: what keeps the SLO",
                ["degree, batch", "requests/s", "TTFT within (%)", "TBT within (%)"],
                kept,
                note="TTFT from the start of each request. Equal requests that start together end"
                " together, so their prompts meet again and again.",
            ),
        ],
    )


def _shown(found: Result) -> str:
    """Value with its interval, if it has one."""
    if found["low"] is None:
        return f"{found['value']:.3g}"
    return f"{found['value']:.3g} ({found['low']:.3g} to {found['high']:.3g})"


def sensitivity_section(results: Result) -> Section:
    """Verdicts under other assumptions, and the exponents that C20 asks for."""
    found = results["sensitivity"]
    names = [row["assumed"] for row in next(iter(found.values()))]
    rows: list[list[Cell]] = [
        [name, *(_short(found[claim][i]["verdict"]) for claim in found)]
        for i, name in enumerate(names)
    ]
    exponents = results["c20_least_exponent"]
    least: list[list[Cell]] = [
        [batch, *(cell(exponents[power][batch], 3) for power in exponents)]
        for batch in exponents["scaled"]
    ]
    changed = [claim for claim in found if len({r["verdict"] for r in found[claim]}) > 1]
    return Section(
        "What the verdicts hang on",
        [
            "One assumption changed at a time, one replication each: the knee below which decode"
            " slows down, the exponent with which dynamic energy follows the clock, short prompts"
            " that follow it instead of waiting for memory as decoding does, and the power of the"
            " prior as published."
            f" {_listed(changed)} change with one of them.",
            "Energy of a request is A + B φ^γ in the exponent γ, so the least exponent at which"
            " 1.6 GHz needs less than 80 % of the energy follows exactly; a dash where none does,"
            " because the static power alone needs more. Most batches need"
            f" {_of_most(exponents['scaled'])}, or {_of_most(exponents['unscaled'])} with the power"
            " of the prior as published.",
        ],
        [
            Table("sensitivity", "Does the claim hold, by assumption", ["assumed", *found], rows),
            Table(
                "c20-exponents",
                "C20: least exponent of the dynamic energy",
                ["maximum batch", "scaled prior, as in the profiles", "prior as published"],
                least,
            ),
        ],
    )


def _short(verdict: str) -> str:
    return "yes" if verdict == HOLDS else "no"


def _of_most(exponents: dict[str, float | None]) -> str:
    """Least exponent that is enough for most of the batches."""
    known = sorted(found for found in exponents.values() if found is not None)
    most = len(exponents) // 2
    return f"{known[most]:.1f} or more" if len(known) > most else "more than any"


def _listed(claims: list[str]) -> str:
    """Such as ``C1, C5 and C10``."""
    return " and ".join(part for part in (", ".join(claims[:-1]), *claims[-1:]) if part) or "None"
