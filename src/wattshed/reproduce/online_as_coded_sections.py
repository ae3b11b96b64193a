"""Sections of the online-routing report on the study's own system."""

from __future__ import annotations

from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.reproduce.online_policies import CODED, ONLINE, QUEUE_AWARE, ZETAS_SHOWN
from wattshed.reproduce.online_verdicts import AS_CODED, COMPARED, find
from wattshed.reproduce.study import Result, cell

ALGORITHMS = {ONLINE: "algorithm 1", QUEUE_AWARE: "algorithm 2 (queue-aware)"}


def policy_label(row: Result) -> str:
    """A policy for people, with its ζ."""
    if row["zeta"] is None:
        return str(row["name"])
    return f"{ALGORITHMS[row['experiment']]}, ζ = {row['zeta']:g}"


def _as_coded(results: Result) -> list[Result]:
    """Rows of the study's system that tables show."""
    return [
        row
        for row in results["policies"]
        if all(row[key] == value for key, value in AS_CODED.items())
        and row["zeta"] in (None, *ZETAS_SHOWN)
    ]


def published_section(results: Result) -> Section:
    """The study's system as coded, beside what it published."""
    orders, instances = results["orders"], results["instances"]
    slots = ", ".join(f"{count:,} of {name}" for name, count in instances["as_coded"].items())
    divided = instances["divided"]["llama-2-70b"]
    return Section(
        "The study's system as coded",
        [
            f"Ten queries come at each tick of 1/{results['rate_per_s']:.4f} s. They are sent to"
            f" {slots} instances, one query at a time in each. Of the queries that an instance pool"
            " works on, only the one that began first may leave, and it leaves at a tick, after"
            " that tick's ten queries. The accumulators add a query's cost ζ ê - (1 - ζ) â when it"
            " is sent and take it off, scaled anew, when it leaves; ê and â are scaled by the least"
            " and the most of the last 100 queries of each model. All totals return to 0 when the"
            " chosen model holds 0, 10, 20, ... or 100 queries, so from its 101st on at each"
            " that it gets. Algorithm 2 adds 0.1 for each query that waits. The scripts run"
            " one ζ after the other, from 0 to 1, and keep those 100 queries from one ζ to"
            " the next; so do we.",
            f"The built-in workload has {results['queries']:,} of the study's"
            f" {results['published_queries']:,} queries, with reconstructed lengths and no order."
            " Energies are compared after multiplication with the ratio of the numbers of queries,"
            f" {results['energy_scale']:.4f}; the other figures are means and stand as they are."
            " Round robin, random and the accumulators at ζ = 0 are served in"
            f" {orders['always']} random orders (all to one model and prices,"
            f" and other ζ, in {orders['swept']}). What the study says of all"
            " queries on one model is without waiting and is compared so.",
            "The study reserves four accelerators for an instance of Llama-2-70B, which leaves"
            f" {divided:,} instances; its online scripts do not divide.",
        ],
        [_energy_table(results), _time_table(results)],
        [_zeta_chart(results)],
    )


def _beside(row: Result, key: str) -> list[Cell]:
    """Published, ours as mean, low and high, and deviations of mean and median."""
    published = (row["published"] or {}).get(key)
    ours = row["ours"][COMPARED[key]]
    off = [(row[d] or {}).get(key) for d in ("deviation_pct", "median_deviation_pct")]
    figures = (published, ours["mean"], ours["low"], ours["high"])
    return [*(cell(figure, 5) for figure in figures), *(cell(d, 2) for d in off)]


def _columns(what: str, unit: str) -> list[str]:
    return [
        f"{what} published ({unit})",
        f"{what} mean ({unit})",
        "low",
        "high",
        "mean off by (%)",
        "median off by (%)",
    ]


def _energy_table(results: Result) -> Table:
    rows: list[list[Cell]] = [
        [
            policy_label(row),
            row["orders"],
            *_beside(row, "energy_kwh"),
            cell((row["published"] or {}).get("accuracy_pct"), 4),
            cell(row["ours"]["accuracy_pct"]["mean"], 4),
        ]
        for row in _as_coded(results)
    ]
    columns = [
        "policy",
        "orders",
        *_columns("energy", "kWh"),
        "accuracy published (%)",
        "accuracy mean (%)",
    ]
    note = "Energies of the reconstructed workload, scaled to the published number of queries."
    return Table("as-coded-energy", "Energy and accuracy as coded", columns, rows, note=note)


def _time_table(results: Result) -> Table:
    rows: list[list[Cell]] = [
        [
            policy_label(row),
            *_beside(row, "service_s"),
            cell((row["published"] or {}).get("wait_s"), 4),
            cell(row["ours"]["wait_s"]["mean"], 4),
            cell((row["published"] or {}).get("runtime_s"), 5),
            cell(row["ours"]["runtime_s"]["mean"], 5),
        ]
        for row in _as_coded(results)
    ]
    columns = [
        "policy",
        *_columns("service time", "s"),
        "wait published (s)",
        "wait mean (s)",
        "without waiting published (s)",
        "without waiting mean (s)",
    ]
    return Table("as-coded-times", "Service time as coded: waiting and running", columns, rows)


def _zeta_chart(results: Result) -> Chart:
    series = []
    for experiment, label in ALGORITHMS.items():
        rows = [
            r
            for r in results["policies"]
            if r["experiment"] == experiment and r["zeta"] is not None and r["published"]
        ]
        zeta = [r["zeta"] for r in rows]
        ours = [r["ours"]["energy_kwh_scaled"] for r in rows]
        series += [
            Series(
                f"{label}, median and range",
                zeta,
                [o["median"] for o in ours],
                low=[o["low"] for o in ours],
                high=[o["high"] for o in ours],
            ),
            Series(
                f"{label}, published",
                zeta,
                [r["published"]["energy_kwh"] for r in rows],
                style="markers",
            ),
        ]
    return Chart(
        slug="zeta",
        title="Energy over ζ, as coded",
        x_label="ζ (1: energy alone, 0: accuracy alone)",
        y_label="energy of the workload (kWh)",
        series=series,
        note="The range is that over orders of the queries.",
    )


def order_section(results: Result) -> Section:
    """Why figures hang on the order of the queries."""
    robin, aware = results["round_robin_orders"], results["queue_aware_orders"]
    service = robin["service_s"]
    low, high = aware["quartiles_kwh_scaled"]
    alone = find(results, CODED, experiment=ONLINE, zeta=1.0)
    small, middle = alone["shares"]["llama-2-7b"], alone["shares"]["llama-2-13b"]
    return Section(
        "What hangs on the order of the queries",
        [
            f"Round robin waits only for Llama-2-7B ({robin['wait_by_model_s']['llama-2-7b']:.0f} s"
            " on average; 0 for the other two). Its third of the queries would take all 800"
            f" slots in {robin['slots_filled_in_s']:.0f} s, and"
            f" {100 * robin['share_longer']:.1f} % of the queries run for longer, up to"
            f" {robin['longest_runtime_s']:.0f} s. While one of these is the oldest, no slot"
            " becomes free, so how long the rest wait depends on how closely such queries"
            f" follow each other. Over {robin['orders']} orders the mean service time is"
            f" {service['mean']:.2f} s (95 % interval of the mean {service['mean_low']:.2f}"
            f" to {service['mean_high']:.2f} s; 95 % of the orders lie between"
            f" {service['p2_5']:.1f} and {service['p97_5']:.1f} s). The published"
            f" {robin['published_service_s']:.2f} s is not in the interval of the mean, but"
            f" it is one order's, and {100 * robin['orders_below_published']:.0f} % of ours"
            " lie below it.",
            _about_the_tail(results["round_robin_tails"]),
            "Queue-aware routing at ζ = 0 swings. Nearly all queries go to Llama-2-70B until its"
            " 12,000 slots are taken and those that wait outweigh the costs; then to the others"
            " until slots become free. In the median order its share of 1,000 successive queries"
            f" goes from {100 * aware['least_to_70b_of_1000']:.0f} to"
            f" {100 * aware['most_to_70b_of_1000']:.0f} %. Few swings fit into the workload, so"
            f" where the last one ends matters: half of the orders lie between {low:.0f} and"
            f" {high:.0f} kWh, {100 * aware['orders_within_2_pct']:.0f} % within 2 % of the"
            f" published {aware['published_energy_kwh']:.1f}, and the lowest at"
            f" {aware['energy_kwh_scaled']['low']:.0f}.",
            "Without a view of the queues nothing ends a swing. Costs compare a query with the last"
            " ones of the same model, and no model with another, so which model gets most is"
            f" settled by accident. At ζ = 1, {100 * small:.0f} % of the queries went to Llama-2-7B"
            f" and {100 * middle:.0f} % to Llama-2-13B over all orders, in most of them all"
            " to one of the two; published is all to Llama-2-7B.",
        ],
        [_tail_table(results["round_robin_tails"])],
    )


def _about_the_tail(rows: list[Result]) -> str:
    """What the built-in workload lacks, and what that does to round robin."""
    without, *longer = rows
    off = [row["deviation_pct"]["service_s"] for row in rows]
    energy = max(abs(row["deviation_pct"]["energy_kwh"]) for row in rows)
    return (
        "It also hangs on a few long answers. The built-in workload lacks"
        f" {without['added_queries']} of the study's queries, and its longest answers were read"
        f" off a drawing: the last {longer[-1]['tail_answers']} share one length. The study's"
        f" totals are known. With {without['added_queries']} queries more, at even quantiles of"
        f" the lengths, {without['missing_tokens']:,} output tokens are missing, and round robin's"
        f" mean service time is off by {off[0]:+.1f} %. Wherever among the longest answers these"
        f" tokens are put, it is longer: off by {min(off[1:]):+.1f} to {max(off[1:]):+.1f} %,"
        f" while the energy is off by {energy:.1f} % at most. The workload as it is known does"
        " not settle whether the published mean is met within 1 %."
    )


def _tail_table(rows: list[Result]) -> Table:
    cells: list[list[Cell]] = [
        [
            "missing" if row["from_tokens"] is None else f"{row['from_tokens']} or more",
            row["tail_answers"],
            row["longest_answer_tokens"],
            *(cell(row["ours"]["service_s"][key], 4) for key in ("mean", "low", "high")),
            cell(row["ours"]["wait_s"]["mean"], 3),
            cell(row["deviation_pct"]["service_s"], 2),
            cell(row["deviation_pct"]["energy_kwh"], 2),
        ]
        for row in rows
    ]
    columns = [
        "missing tokens lie in answers of",
        "answers",
        "longest (tokens)",
        "service mean (s)",
        "low",
        "high",
        "wait mean (s)",
        "service off by (%)",
        "energy off by (%)",
    ]
    note = (
        f"Over {rows[0]['orders']} orders; low and high are orders. Tokens are shared in"
        " exponential parts, the longest answer gets most."
    )
    return Table("tails", "Round robin with the study's totals", columns, cells, note=note)
