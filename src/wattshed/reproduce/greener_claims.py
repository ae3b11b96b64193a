"""The 23 claims: what was published, what we find, and on what the verdict rests."""

from __future__ import annotations

from collections.abc import Callable

from wattshed.data.catalog import read_table
from wattshed.reproduce.greener_clock_claims import CLOCK_CLAIMS, half_clock
from wattshed.reproduce.greener_judging import Judged
from wattshed.reproduce.greener_load import MAIN, STATIC, TEXTS
from wattshed.reproduce.greener_measured import ENERGY, SLO, STEPS
from wattshed.reproduce.greener_settings import SLO_FACTOR
from wattshed.reproduce.greener_size_claims import (
    doubled_batches,
    energy_of_degrees,
    flat_decode,
    growth_of_throughput,
    more_gpus_are_faster,
    order_of_types,
    saving_of_small_batches,
    sixteen_times_the_batch,
    throttling,
    two_small_beat_one_large,
)
from wattshed.reproduce.study import Result

CLAIMS = "greener-2024-claims"
SUPPORT: dict[str, tuple[str, ...]] = {
    "C7": (STEPS, SLO),
    "C9": (STEPS,),
    "C12": (STEPS, SLO),
    "C13": (STEPS, SLO),
    "C14": (STEPS, SLO),
    "C17": (STEPS, ENERGY),
    "C18": (STEPS,),
    "C19": (STEPS,),
}
"""Claims that measurements speak to, with their data sets. Those of others are modelled."""
SETTINGS = ("C22", "C23")
JUDGED_BY = {"C1": MAIN, "C7": MAIN, **dict.fromkeys(("C12", "C13", "C14", "C18", "C19"), STATIC)}
"""The reading of "highest throughput" that decides. Static batches where they were measured: a
measurement decides before a simulation of what the study does not say."""
OTHER_LOADS = {
    **{f"figure{n}": f"figure{n}_same_load" for n in (1, 2, 6, 7)},
    "figure11_same_load": "figure11",
}


def kind_of(claim: str) -> str:
    """What our figure is.

    Measured; derived from measured step times, without energy and at the highest clock; modelled,
    because the response to the clock is assumed and the energy of the H100 is a published prior;
    or a setting.
    """
    if claim in SETTINGS:
        return "setting"
    if claim == "C9":
        return "measured"
    return "derived" if claim in SUPPORT else "modelled"


def published_claims() -> dict[str, Result]:
    """Statement, figure and published figures of each claim."""
    found: dict[str, Result] = {}
    for row in read_table(CLAIMS).iter_rows(named=True):
        claim = found.setdefault(
            row["claim"],
            {"statement": row["statement"], "figure": row["figure"], "type": row["type"]},
        )
        figures = claim.setdefault("published", {})
        if row["published"] is not None:
            figures[row["quantity"]] = row["published"]
    return found


def judge_claims(figures: Result, readings: Result, measured: Result) -> dict[str, Judged]:
    """Verdict on each claim by the reading that decides, in the order of the study."""
    found = judge_figures(figures) | {
        "C4": throttling(),
        "C9": more_gpus_are_faster(measured["C9"][STEPS]),
        "C17": flat_decode(),
        **{claim: _setting(claim) for claim in SETTINGS},
    }
    for claim, reading in JUDGED_BY.items():
        found[claim] = judge_reading(claim, readings, reading)
    return {claim: found[claim] for claim in published_claims()}


FIGURE_CLAIMS = CLOCK_CLAIMS | {"C15": energy_of_degrees, "C21": saving_of_small_batches}
"""Claims that are judged on the figures: all rest on something assumed."""


def judge_figures(figures: Result) -> dict[str, Judged]:
    """Verdicts on the claims that rest on the simulated figures."""
    return {claim: judge(figures) for claim, judge in FIGURE_CLAIMS.items()}


def _setting(claim: str) -> Judged:
    why = "A setting, not a finding: taken over"
    if claim == "C22":
        return Judged(None, f"{why}, but for vLLM: the measured engine is an older one")
    return Judged(None, f"{why}, for TP8 and the highest clock", {"slo_factor": SLO_FACTOR})


def _growth(published: float, low: int, high: int) -> Callable[[Result, str], Judged]:
    claim = "C12" if low == 2 else "C13"
    return lambda found, reading: growth_of_throughput(
        published, found[claim][reading]["value"], low, high
    )


BY_READING: dict[str, Callable[[Result, str], Judged]] = {
    "C1": lambda found, reading: half_clock(found["C1"][reading]["value"]),
    "C7": lambda found, reading: order_of_types(found["C7"][reading]),
    "C12": _growth(1.75, 2, 4),
    "C13": _growth(1.4, 4, 8),
    "C14": lambda found, reading: two_small_beat_one_large(
        found["C12"][reading]["value"], found["C13"][reading]["value"]
    ),
    "C18": lambda found, reading: sixteen_times_the_batch(found["C18"][reading]["value"]),
    "C19": lambda found, reading: doubled_batches(
        {name: by[reading]["value"] for name, by in found["C19"].items()}
    ),
}


def judge_reading(claim: str, readings: Result, reading: str) -> Judged:
    """Verdict on a claim about throughput under one reading of it."""
    return BY_READING[claim](readings, reading)


def tabulate_claims(
    figures: Result, readings: Result, measured: Result, sensitivity: Result
) -> list[Result]:
    """Records of all claims, see `docs/reference/files.md`."""
    judged = judge_claims(figures, readings, measured)
    other = judge_figures(figures | {name: figures[at] for name, at in OTHER_LOADS.items()})
    return [
        {
            "id": claim,
            **published,
            "ours": found.ours,
            "kind": kind_of(claim),
            "supported_by": list(SUPPORT.get(claim, ())),
            "measured": measured.get(claim, {}),
            "verdict": found.verdict,
            "why": found.why + _by(claim) + _elsewhere(claim, found, other),
            "judged_by": JUDGED_BY.get(claim),
            "by_reading": _by_reading(claim, readings),
            "at_other_load": _brief(other[claim]) if claim in LOADED else None,
            "sensitivity": sensitivity.get(claim, []),
        }
        for (claim, published), found in zip(
            published_claims().items(), judged.values(), strict=True
        )
    ]


def _by(claim: str) -> str:
    """Which reading of the throughput decided, if there are several."""
    return f" ({TEXTS[JUDGED_BY[claim]]})" if claim in JUDGED_BY else ""


def _elsewhere(claim: str, found: Judged, other: dict[str, Judged]) -> str:
    """Whether the other reading of medium load turns the verdict."""
    if claim not in LOADED or other[claim].verdict == found.verdict:
        return ""
    return f"; at one load for all clocks it {other[claim].verdict}"


LOADED = ("C3", "C5", "C6", "C10", "C11", "C16")
"""Claims on latencies at medium load."""


def _by_reading(claim: str, readings: Result) -> Result:
    if claim not in BY_READING:
        return {}
    return {reading: _brief(judge_reading(claim, readings, reading)) for reading in TEXTS}


def _brief(judged: Judged) -> Result:
    return {"ours": judged.ours, "verdict": judged.verdict}
