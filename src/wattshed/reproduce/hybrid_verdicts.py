"""What holds of the hybrid-cluster study and what does not."""

from __future__ import annotations

from wattshed.report.document import Cell, Section, Table
from wattshed.reproduce.hybrid_figures import SWEEPS
from wattshed.reproduce.hybrid_optimum import IDLE_W
from wattshed.reproduce.hybrid_totals import LARGE_ONLY, SMALL_ONLY
from wattshed.reproduce.study import Result, cell


def verdict_section(results: Result) -> Section:
    """Each claim with its verdict."""
    table = Table(
        slug="verdicts",
        title="Claims and what became of them",
        columns=["claim", "published", "ours", "verdict"],
        rows=_verdict_rows(results),
    )
    return Section("What holds and what does not", [results["headline"]["verdict"]], [table])


def _verdict_rows(results: Result) -> list[list[Cell]]:
    return [
        _means_row(results),
        _workload_row(results),
        *_total_rows(results),
        *_saving_rows(results),
    ]


def _means_row(results: Result) -> list[Cell]:
    points = [point for figure in SWEEPS for point in results[figure]["points"]]
    published = sum(point["mean_runtime_s"]["published"] is not None for point in points)
    worst = max(
        deviation
        for figure in SWEEPS
        for deviation in results[figure]["largest_deviation_pct"].values()
    )
    return ["figures 1 and 2 (points)", published, len(points), f"reproduce within {worst:.3f} %"]


def _workload_row(results: Result) -> list[Cell]:
    output_tokens = results["figure3"]["checksums"]["alpaca"]["sum_output_tokens"]
    return [
        "the workload is Alpaca (output tokens)",
        int(output_tokens["published"]),
        int(output_tokens["ours"]),
        "no: the code loads alpaca-gpt4",
    ]


def _total_rows(results: Result) -> list[list[Cell]]:
    def row(claim: str, figure: str, key: str, verdict: str) -> list[Cell]:
        totals = next(v for k, v in results[figure].items() if k.startswith("total_"))
        found = totals[key]
        return [claim, cell(found["published"], 4), cell(found["ours"], 4), verdict]

    def within(figure: str) -> str:
        return f"reproduces within {results[figure]['largest_deviation_pct']:.1f} %"

    return [
        row("figure 4a at T_in = 32 (kWh)", "figure4a", "32", within("figure4a")),
        row("figure 4b, A100 only (token s)", "figure4b", LARGE_ONLY, within("figure4b")),
        row(
            "figure 5a at T_out = 32 (kWh)",
            "figure5a_as_published",
            "32",
            within("figure5a_as_published") + ", weighted with input lengths",
        ),
        row(
            "figure 5b, M1 Pro only (token s)",
            "figure5b",
            SMALL_ONLY,
            f"does not: up to {results['figure5b']['largest_deviation_pct']:.0f} % off",
        ),
    ]


def _saving_rows(results: Result) -> list[list[Cell]]:
    head, optimum = results["headline"], results["joint_optimum"]
    published_in = cell(head["t_in_32_saving_published_pct"], 3)
    published_out = cell(head["t_out_32_saving_published_pct"], 3)
    joint = head["joint_t_in_32_saving_pct"]
    idle = "significant" if optimum["significant_at_60_w_idle"] else "not significant"
    consistent = f"{head['t_in_32_saving_consistent_pct']:.1f} % on consistent token totals"
    corrected = f"{head['t_out_32_saving_corrected_pct']:.2f} % on output lengths"
    interval = f"{optimum['interval']['low']:.1f} to {optimum['interval']['high']:.1f} %"
    return [
        [
            "saving at T_in = 32 (%)",
            published_in,
            cell(head["t_in_32_saving_pct"], 3),
            f"reproduces; {consistent}",
        ],
        [
            "saving at T_out = 32 (%)",
            published_out,
            cell(head["t_out_32_saving_pct"], 3),
            f"reproduces, by a slip; {corrected}",
        ],
        ["headline saving (%)", head["claimed_saving_pct"], None, "no script computes it"],
        [
            "saving at T_in = 32, both axes charged (%)",
            None,
            cell(joint, 3),
            "costs energy" if joint < 0 else "saves energy",
        ],
        [
            "best possible saving of a hybrid cluster (%)",
            None,
            cell(optimum["saving_pct"], 3),
            f"{interval}; {idle} with {IDLE_W:g} W of sunk idle power",
        ],
    ]
