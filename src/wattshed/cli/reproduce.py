"""`wattshed reproduce`."""

from __future__ import annotations

from pathlib import Path

import click

from wattshed.cli.shared import (
    errors_at_the_edge,
    folder_option,
    json_option,
    note,
    print_json,
    print_tables,
    progress,
    seed_option,
    write_folder,
)

STUDY_NAMES = ("hybrid-2024", "offline-2024", "online-2024", "greener-2024")


@click.command()
@click.argument("study", type=click.Choice(STUDY_NAMES))
@folder_option()
@seed_option
@json_option
def reproduce(*, study: str, folder: Path | None, seed: int, as_json: bool) -> None:
    """Recompute the figures and tables of a STUDY from its data, beside what it printed.

    \b
      hybrid-2024   Hybrid Heterogeneous Clusters (e-Energy 2024): figures 1 to 5, thresholds
      offline-2024  Offline Energy-Optimal LLM Serving (HotCarbon 2024): models, ANOVA, ζ
      online-2024   Online routing (dissertation, 2024): accumulated costs, queues, a plan's prices
      greener-2024  Towards Greener LLMs (2024): clocks, parallelism, batches; 23 claims (30 s)

    \b
    Examples:
      wattshed reproduce hybrid-2024
      wattshed reproduce offline-2024 -o report --json
    """
    from wattshed.reproduce import STUDIES

    with errors_at_the_edge():
        with progress(f"reproducing {study}"):
            found = STUDIES[study](seed=seed)
        if folder:
            write_folder(found.document, folder)
    if as_json:
        inputs = {"study": study, "seed": seed, "sha256": found.inputs}
        print_json("reproduce", inputs, found.results, found.provenance)
        return
    for section in found.document.sections:
        print_tables(section.tables)
    click.echo(found.document.abstract)
    if not folder:
        note("(-o DIR writes the figures and the whole report)")
