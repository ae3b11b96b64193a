"""`wattshed fit`: runs to profiles."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.shared import (
    errors_at_the_edge,
    json_option,
    note,
    print_json,
    print_tables,
    progress,
    seed_option,
    write_folder,
)

if TYPE_CHECKING:
    from wattshed.records import Profile, QueryModel


@click.command()
@click.argument("runs", default="wilkins-2024")
@click.option(
    "-o",
    "--output",
    "path",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the profiles there (JSON), for `wattshed plan`.",
)
@click.option(
    "--report",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write tables and index.html there.",
)
@click.option(
    "--form",
    default="auto",
    show_default=True,
    help="auto (least leave-one-cell-out error), bilinear, phase, roofline or kv-phase.",
)
@click.option("--system", multiple=True, help="Fit only this system. Repeatable.")
@click.option("--model", multiple=True, help="Fit only this model. Repeatable.")
@click.option("--drop", multiple=True, metavar="FLAG", help="Leave rows with FLAG out, too.")
@click.option("--keep", multiple=True, metavar="FLAG", help="Keep rows with FLAG after all.")
@click.option(
    "--pause-correction/--no-pause-correction",
    default=True,
    show_default=True,
    help="Take the 2 s pause of rows flagged pause_2s off their runtime.",
)
@click.option(
    "--experiment",
    default="auto",
    show_default=True,
    help="auto (the grid where there is one), all, or names joined by +, e.g. input+output.",
)
@click.option(
    "--boundary",
    type=click.Choice(["auto", "accelerator", "host"]),
    default="auto",
    show_default=True,
    help="What energy covers; auto takes the host in where it was measured.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=0, max=10_000),
    default=200,
    show_default=True,
    help="Bootstrap draws for intervals; 0 for none.",
)
@seed_option
@json_option
def fit(
    *,
    runs: str,
    path: Path | None,
    folder: Path | None,
    form: str,
    system: tuple[str, ...],
    model: tuple[str, ...],
    drop: tuple[str, ...],
    keep: tuple[str, ...],
    pause_correction: bool,
    experiment: str,
    boundary: str,
    draws: int,
    seed: int,
    as_json: bool,
) -> None:
    """Fit energy and runtime models e(m, n), r(m, n) to RUNS.

    RUNS is a CSV, Parquet or JSONL file in the runs format, or the name of built-in
    runs; `wattshed import` makes one from other tools' files. Without energy in it, the
    runtime alone is fitted. Every form is scored by leaving one cell out at a time; the
    best is kept.

    \b
    Examples:
      wattshed fit                                   all built-in profiles
      wattshed fit runs.csv -o profiles.json
      wattshed fit --system swing-a100 --model llama-2-7b --form phase
      wattshed fit --experiment input+output --json
    """
    from wattshed.fit.campaign import Options, fit_profiles
    from wattshed.fit.rules import DROPPED
    from wattshed.runs import read_runs

    dropped = tuple(flag for flag in dict.fromkeys((*DROPPED, *drop)) if flag not in keep)
    options = Options(form, dropped, pause_correction, experiment, boundary, draws, seed)
    with errors_at_the_edge():
        measured = read_runs(runs)
        measured = measured.only("system", system) if system else measured
        measured = measured.only("model", model) if model else measured
        with progress("fitting") as on_progress:
            profiles = fit_profiles(measured, options, on_progress=on_progress)
        if path:
            from wattshed.profiles import save_profiles

            save_profiles(profiles, path, inputs={runs: measured.content_hash}, seed=seed)
            note(f"profiles: {path}")
        if folder:
            from wattshed.documents import fit_document

            command = f"wattshed fit {runs}"
            write_folder(fit_document(profiles, measured.provenance, command, seed), folder)
    from wattshed.report.fit_document import fit_summary_tables, fit_warnings, without_energy

    if (missing := without_energy(profiles)) is not None:
        note(missing)
    if as_json:
        inputs = {"runs": runs, "sha256": measured.content_hash, "options": options}
        results = {"profiles": [profile_results(p) for p in profiles]}
        print_json("fit", inputs, results, measured.provenance)
        return
    print_tables(fit_summary_tables(profiles))
    for warning in fit_warnings(profiles):
        note(f"warning: {warning}")


def profile_results(profile: Profile) -> dict[str, Any]:
    """A profile as `--json` shows it: without its bootstrap draws."""
    return {
        "name": profile.name,
        "system": profile.system,
        "model": profile.model,
        "boundary": profile.boundary,
        "kind": profile.kind,
        "cells": profile.cells,
        "trials": profile.trials,
        "rules": profile.rules,
        "energy": _model(profile, profile.energy) if profile.energy else None,
        "runtime": _model(profile, profile.runtime),
    }


def _model(profile: Profile, model: QueryModel) -> dict[str, Any]:
    return {
        "form": model.form,
        "forms": model.forms,
        "skipped": model.skipped,
        "coefficients": model.coefficients,
        "intervals": model.intervals,
        "regression": model.regression,
        "domain": profile.domain,
    }
