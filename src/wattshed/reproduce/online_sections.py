"""Sections of the online-routing report: flaws, the letter of the study, and prices."""

from __future__ import annotations

from wattshed.report.document import Cell, Section, Table
from wattshed.reproduce.online_as_coded_sections import policy_label
from wattshed.reproduce.online_policies import (
    CODED,
    FOR_FORECASTS,
    FORECAST,
    KNOWN,
    QUEUE_AWARE,
    RANDOM,
    ROUND_ROBIN,
    ZETAS_SHOWN,
)
from wattshed.reproduce.online_verdicts import find
from wattshed.reproduce.study import Result, cell

PRICED = (KNOWN, FORECAST, FOR_FORECASTS)
ARRIVALS = {
    "ticks-52": "10 per tick, 52/s",
    "poisson-52": "Poisson, 52/s",
    "poisson-5.2": "Poisson, 5.2/s",
}
RELEASE = {"oldest": "oldest only", "any": "any finished"}


def flaw_section(results: Result) -> Section:
    """The same policies where flaws are mended one by one."""
    return Section(
        "What each flaw costs",
        [
            "Arrivals, slots and instances are mended one by one. Policies that do not look at the"
            " system choose as before, and need the same energy: only the waiting changes. With"
            " slots that any finished query frees, there is next to none for them, all to"
            " Llama-2-70B aside where it has 3,000 instances. The accumulators' own choices"
            " change with what they are told, and with them their energy; there they begin"
            " each ζ without memory.",
        ],
        [_flaw_table(results, "wait_s", "Mean wait (s)", "wait"), _flaw_energy(results)],
    )


def _scenarios(results: Result) -> list[tuple[str, str, str]]:
    keys = ((r["arrivals"], r["release"], r["instances"]) for r in results["policies"])
    return list(dict.fromkeys(keys))


def _flaw_table(
    results: Result, quantity: str, title: str, slug: str, *, only_accumulated: bool = False
) -> Table:
    scenarios = _scenarios(results)
    found: dict[str, dict[tuple[str, str, str], float]] = {}
    for row in results["policies"]:
        if row["zeta"] in (None, *ZETAS_SHOWN) and (
            row["zeta"] is not None or not only_accumulated
        ):
            key = row["arrivals"], row["release"], row["instances"]
            found.setdefault(policy_label(row), {})[key] = row["ours"][quantity]["mean"]
    rows: list[list[Cell]] = [
        [label, *(cell(values[s], 4) if values[s] > 5e-3 else 0.0 for s in scenarios)]
        for label, values in found.items()
    ]
    columns = ["policy"]
    for arrivals, release, instances in scenarios:
        pool = "3,000 of 70B" if instances == "divided" else "12,000 of 70B"
        columns.append(f"{ARRIVALS[arrivals]}; {RELEASE[release]}; {pool}")
    orders = results["orders"]
    note = (
        f"Means over {orders['elsewhere']} orders; over {orders['swept']} or"
        f" {orders['always']} in the first column, the study's own system."
    )
    return Table(f"flaws-{slug}", title, columns, rows, note=note)


def _flaw_energy(results: Result) -> Table:
    title = "Energy of the accumulators (kWh)"
    return _flaw_table(results, "energy_kwh", title, "energy", only_accumulated=True)


def printed_section(results: Result) -> Section:
    """Algorithm 1 to the letter."""
    rows: list[list[Cell]] = [
        [
            row["zeta"],
            cell(row["largest_total_after_60"]["median"], 2),
            cell(row["queries_until_overflow"]["median"], 5),
            cell(100 * row["share_of_most"]["mean"], 4),
            ", ".join(row["most_to"]),
        ]
        for row in results["printed"]
    ]
    columns = [
        "ζ",
        "largest total after 60 queries",
        "queries until it overflows",
        "share of one model until then (%)",
        "which model, over orders",
    ]
    return Section(
        "Algorithm 1 as printed",
        [
            "The printed algorithm adds the minimum to the total of the model that it chose. The"
            " minimum contains that total already, so it doubles with each query. Once it is"
            " negative, as any query below the last ones of its model makes it, it is the least for"
            " good: one model gets every query until the number overflows (double precision).",
        ],
        [Table("printed", "Algorithm 1 to the letter", columns, rows, note="Medians over orders.")],
    )


def prices_section(results: Result) -> Section:
    """A plan's prices in the same systems."""
    robin, known = find(results, ROUND_ROBIN), find(results, KNOWN)
    made = find(results, FOR_FORECASTS)
    saving = 100 * (1 - known["ours"]["energy_kwh"]["mean"] / robin["ours"]["energy_kwh"]["mean"])
    return Section(
        "A plan's prices, query by query",
        [
            "The least energy at round robin's published accuracy comes with one price, of"
            " accuracy-weighted tokens. As a rule for single queries it needs"
            f" {known['ours']['energy_kwh']['mean']:.1f} kWh at"
            f" {known['ours']['accuracy_pct']['mean']:.2f} %, {saving:.0f} % less than round robin,"
            " in every system: it looks at the query only. This knows output lengths, as the"
            " study's algorithms do. With the mean length of queries of alike input for a forecast"
            " (by powers of two, from the workload itself) the same prices miss the accuracy;"
            " prices made for such forecasts need"
            f" {made['ours']['energy_kwh']['mean']:.1f} kWh at"
            f" {made['ours']['accuracy_pct']['mean']:.2f} %. Prices of accuracy do not look at"
            " queues: what they wait for is the oldest query of Llama-2-13B or 70B, where only that"
            " one may leave.",
        ],
        [_price_table(results)],
    )


def _price_table(results: Result) -> Table:
    rows: list[list[Cell]] = []
    shown: list[tuple[str, dict[str, object]]] = [
        (name, {}) for name in (*PRICED, ROUND_ROBIN, RANDOM)
    ]
    shown += [(CODED, {"experiment": QUEUE_AWARE, "zeta": zeta}) for zeta in ZETAS_SHOWN]
    for name, where in shown:
        for arrivals, release, instances in (
            ("ticks-52", "oldest", "as_coded"),
            ("poisson-52", "any", "divided"),
            ("poisson-5.2", "any", "divided"),
        ):
            system = {"arrivals": arrivals, "release": release, "instances": instances}
            row = find(results, name, **where, **system)
            figures = (row["ours"][key]["mean"] for key in ("energy_kwh", "accuracy_pct"))
            times = (row["ours"][key]["mean"] for key in ("service_s", "wait_s"))
            where_served = f"{ARRIVALS[arrivals]}; {RELEASE[release]}"
            rows.append(
                [
                    policy_label(row),
                    where_served,
                    *(cell(f, 5) for f in (*figures, *times)),
                    *(cell(100 * share, 3) for share in row["shares"].values()),
                ]
            )
    columns = [
        "policy",
        "system",
        "energy (kWh)",
        "accuracy, token-weighted (%)",
        "service time (s)",
        "wait (s)",
        *(f"{name} (%)" for name in results["instances"]["as_coded"]),
    ]
    highlight = [index for index, row in enumerate(rows) if row[0] == KNOWN]
    note = "Poisson systems: any finished query frees its slot, 3,000 instances of Llama-2-70B."
    return Table("prices", "Policies as coded and mended", columns, rows, highlight, note)
