"""`wattshed demo`."""

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


@click.command()
@folder_option("wattshed-demo")
@seed_option
@json_option
def demo(*, folder: Path, seed: int, as_json: bool) -> None:
    """Fit three systems on built-in measurements, assign a workload, and report.

    Llama-2-7B on an M1 Pro, an A100 and a V100, and the queries of Alpaca: which belong
    where, what that saves, and how sure that is.

    \b
    Examples:
      wattshed demo
      wattshed demo -o /tmp/demo --json
    """
    from wattshed.cli.fit import profile_results
    from wattshed.cli.plan import plan_results
    from wattshed.demo import run_demo
    from wattshed.report.fit_document import fit_summary_tables
    from wattshed.report.plan_document import plan_summary_tables

    with errors_at_the_edge():
        with progress("fitting") as on_progress:
            found = run_demo(seed=seed, on_progress=on_progress)
        write_folder(found.document, folder)
    if as_json:
        results = {
            "profiles": [profile_results(p) for p in found.profiles],
            "plan": plan_results(found.plan),
        }
        print_json("demo", {"seed": seed}, results, found.document.sources)
        return
    print_tables([*fit_summary_tables(found.profiles), *plan_summary_tables(found.plan)])
    click.echo(found.plan.verdict)
    for warning in found.plan.warnings:
        note(f"warning: {warning}")
