"""What holds of the study of clocks, parallelism and batches, and what does not."""

from __future__ import annotations

from wattshed.report.document import Cell, Section, Table
from wattshed.reproduce.greener_judging import FAILS, HOLDS, OPEN, VERDICTS
from wattshed.reproduce.greener_load import TEXTS
from wattshed.reproduce.study import Result

WORDS = {
    "throughput_ratio": "throughput ratio",
    "power_ratio": "power ratio",
    "energy_ratio": "energy ratio",
    "tbt_ratio": "TBT ratio",
    "largest_saving": "saving",
    "slo_factor": "factor",
}
"""Quantities as people read them; others as they are."""


def abstract(results: Result) -> str:
    """The findings in one paragraph."""
    by_id = {claim["id"]: claim for claim in results["claims"]}
    listed = {v: [c for c in by_id if by_id[c]["verdict"] == v] for v in VERDICTS}
    ratios = {claim: by_id[claim]["ours"]["throughput_ratio"] for claim in ("C12", "C13", "C18")}
    p99 = results["readings"]["C18"]["p99"]["value"]
    alike = results["readings"]["C18"]["even"]["value"]
    turned = [c for c in by_id if by_id[c]["by_reading"] and _turns(by_id[c], "p99")]
    derived = sum(claim["kind"] in ("measured", "derived") for claim in by_id.values())
    return (
        f"Of 23 claims {len(listed[HOLDS])} hold in our model ({', '.join(listed[HOLDS])}),"
        f" {len(listed[FAILS])} do not, and {len(listed[OPEN])} cannot be decided or are settings"
        f" ({', '.join(listed[OPEN])}). {derived} rest on measured step times; the others on an"
        " assumed response to the clock or a modelled power. Batches of 64 serve"
        f" {ratios['C18']:.2f} times what batches of 4 do (published 7), TP4 {ratios['C12']:.2f}"
        f" times what TP2 does (1.75), TP8 {ratios['C13']:.2f} times what TP4 does (1.40). Such"
        f" ratios hang on the reading of the SLO: the first is {alike:.2f} with even arrivals, and"
        f" {p99:.0f} where 99 % of random arrivals must keep it, which turns {', '.join(turned)}."
    )


def verdict_section(results: Result) -> Section:
    """Each claim with its verdict, and what stands beside it."""
    claims = results["claims"]
    rows: list[list[Cell]] = [
        [
            f"{claim['id']}. {claim['statement']}",
            _figures(claim["published"]),
            _figures({name: claim["ours"].get(name) for name in claim["published"]}),
            claim["kind"],
            claim["verdict"],
            claim["why"],
        ]
        for claim in claims
    ]
    columns = ["claim", "published", "ours", "kind", "verdict", "why"]
    note = (
        "Ratios count as published if they lie within 10 %. Kind: measured; derived from measured"
        " step times; modelled; setting."
    )
    verdicts = Table("verdicts", "Claims and what became of them", columns, rows, note=note)
    return Section(
        "What holds and what does not",
        [abstract(results)],
        [verdicts, _beside_table(claims), _measured_table(claims)],
    )


def _figures(values: Result) -> str:
    return "; ".join(
        f"{WORDS.get(name, name)} {value:.3g}"
        for name, value in values.items()
        if value is not None
    )


def _beside_table(claims: list[Result]) -> Table:
    """Claims whose verdict another reading turns."""
    rows: list[list[Cell]] = [
        [claim["id"], claim["verdict"], _turned(claim) or "none", _load(claim)]
        for claim in claims
        if claim["by_reading"] or claim["at_other_load"]
    ]
    return Table(
        "verdicts-by-reading",
        "Where another reading turns the verdict",
        ["claim", "verdict", "turned by", "at one load for all clocks or batches"],
        rows,
    )


def _turned(claim: Result) -> str:
    return "; ".join(TEXTS[name] for name in claim["by_reading"] if _turns(claim, name))


def _turns(claim: Result, reading: str) -> bool:
    """Whether another reading of the SLO gives another verdict."""
    return bool(claim["by_reading"][reading]["verdict"] != claim["verdict"])


def _load(claim: Result) -> Cell:
    return claim["at_other_load"]["verdict"] if claim["at_other_load"] else None


def _measured_table(claims: list[Result]) -> Table:
    """What built-in measurements say, beside ours."""
    rows: list[list[Cell]] = [
        [claim["id"], _figures(claim["published"]), _figures(claim["ours"]), dataset, _brief(found)]
        for claim in claims
        for dataset, found in claim["measured"].items()
    ]
    return Table(
        "measured",
        "Measurements beside ours",
        ["claim", "published", "ours", "data set", "measured"],
        rows,
        note="freesh-slo: A100s, partition/workload; lengths are not stated there.",
    )


def _brief(found: object) -> str:
    """Figures of a data set in one line."""
    if isinstance(found, bool):
        return "yes" if found else "no"
    if isinstance(found, float):
        return f"{found:.3g}"
    if isinstance(found, dict):
        return ", ".join(f"{name} {_brief(value)}" for name, value in found.items())
    return "–" if found is None else str(found)
