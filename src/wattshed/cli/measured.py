"""What `wattshed measure` prints."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.measuring import JOURNAL, RUNS
from wattshed.cli.shared import note, print_json, print_tables

if TYPE_CHECKING:
    from wattshed.measure.campaign.design import Campaign
    from wattshed.measure.campaign.journal import Journal
    from wattshed.measure.campaign.run import Outcome


def print_plan(campaign: Campaign, like: str | None, *, as_json: bool) -> None:
    """What would be measured: cells in order, trials, and time if a profile is known.

    Raises
    ------
    ProfileError, FileError
    """
    import msgspec

    from wattshed.measure.campaign.outlook import describe
    from wattshed.profiles import load_profile
    from wattshed.report.document import Table
    from wattshed.units import human_duration

    found = describe(campaign, load_profile(like) if like else None)
    if as_json:
        results = {name: getattr(found, name) for name in found.__dataclass_fields__}
        print_json("measure-plan", {"campaign": campaign}, msgspec.to_builtins(results), [])
        return
    rows: list[list[Any]] = [
        [c.input_tokens, c.output_tokens, c.batch_size, c.clock_mhz, c.power_limit_w]
        for c in found.cells
    ]
    columns = ["input tokens", "output tokens", "batch", "clock (MHz)", "power limit (W)"]
    print_tables([Table("cells", "Cells, in the order of the first round", columns, rows)])
    trials = f"{found.at_least} to {found.at_most} trials of {found.most_cells} cells"
    most = "at most " if campaign.is_adaptive else ""
    time = ""
    if found.seconds is not None:
        time = f", {human_duration(found.seconds[0])} to {human_duration(found.seconds[1])}"
    click.echo(f"{most}{trials}{time}")


def print_outcome(outcome: Outcome, into: Path, *, as_json: bool) -> None:
    """Means by cell for people or as JSON, and what failed."""
    campaign = outcome.journal.manifest.campaign
    cells = cell_results(outcome.journal)
    failed = [
        {"cell": str(campaign.cells[f.cell]), "trial": f.trial, "reason": f.reason}
        for f in outcome.failed
    ]
    if as_json:
        results = {
            "cells": cells,
            "failed": failed,
            "stopped": outcome.stopped,
            "journal": str(into / JOURNAL),
            "runs": str(into / RUNS),
        }
        manifest = outcome.journal.manifest
        inputs = {
            "campaign": campaign,
            "opened": manifest.inputs,
            "engine": manifest.driver,
            "meters": manifest.meters,
        }
        print_json("measure", inputs, results, [])
    else:
        _print_cells(cells)
    for each in failed:
        note(f"failed: {each['cell']}: {each['reason']}")
    note(f"runs: {into / RUNS}")


def cell_results(journal: Journal) -> list[dict[str, Any]]:
    """Means and half-widths of their 95 % intervals, by cell; None where one is not known."""
    import math

    import msgspec

    from wattshed.measure.campaign.stopping import half_width, mean

    found = []
    for index, samples in sorted(journal.samples.items()):
        runtime = [s.runtime_s for s in samples]
        energy = [s.energy_j for s in samples if s.energy_j is not None]
        complete = len(energy) == len(samples)
        half = [half_width(runtime), half_width(energy) if complete else math.inf]
        found.append(
            {
                **msgspec.to_builtins(journal.manifest.campaign.cells[index]),
                "trials": len(samples),
                "runtime_s": mean(runtime),
                "runtime_half_width_s": half[0] if math.isfinite(half[0]) else None,
                "energy_j": mean(energy) if complete else None,
                "energy_half_width_j": half[1] if math.isfinite(half[1]) else None,
            }
        )
    return found


def _print_cells(cells: list[dict[str, Any]]) -> None:
    from wattshed.report.document import Table

    shown = {
        "input_tokens": "input tokens",
        "output_tokens": "output tokens",
        "batch_size": "batch",
        "clock_mhz": "clock (MHz)",
        "power_limit_w": "power limit (W)",
        "trials": "trials",
        "runtime_s": "runtime (s)",
        "runtime_half_width_s": "± (s)",
        "energy_j": "energy per query (J)",
        "energy_half_width_j": "± (J)",
    }
    names = [
        name
        for name in shown
        if name not in ("batch_size", "clock_mhz", "power_limit_w")
        or len({cell[name] for cell in cells}) > 1
    ]
    rows = [[cell[name] for name in names] for cell in cells]
    print_tables(
        [
            Table(
                "measured",
                "Measured cells",
                [shown[name] for name in names],
                rows,
                note="±: half of the 95 % interval of the mean, by Student's t over the trials",
            )
        ]
    )
