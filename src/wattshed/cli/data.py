"""`wattshed data`: what is built in, with its source and licence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from wattshed.cli.shared import errors_at_the_edge, json_option, print_json, print_tables

if TYPE_CHECKING:
    from wattshed.data.catalog import Dataset
    from wattshed.records import Deployment
    from wattshed.report.document import Cell

ENGINE_COLUMNS = ("max_batch", "chunk_tokens", "kv_tokens", "clock")


@click.group()
def data() -> None:
    """List and show what is built in.

    \b
    Examples:
      wattshed data list
      wattshed data show alpaca
      wattshed data show wilkins-2024 --rows 20
    """


@data.command("list")
@json_option
def list_(as_json: bool) -> None:
    """List the built-in runs, workloads, rates, signals, profiles, fleets and tables."""
    from wattshed.data.catalog import list_datasets
    from wattshed.report.document import Table

    datasets = list_datasets()
    if as_json:
        print_json("data-list", {}, {"datasets": datasets}, [])
        return
    rows: list[list[Cell]] = [[d.name, d.kind, d.title] for d in datasets]
    print_tables([Table("data", "Built in", ["name", "kind", "what it is"], rows)])


@data.command()
@click.argument("name")
@click.option(
    "--rows", type=click.IntRange(min=0), default=5, show_default=True, help="Rows to show."
)
@json_option
def show(name: str, rows: int, as_json: bool) -> None:
    """Show source, licence, treatment and first rows of the built-in data set NAME.

    \b
    Examples:
      wattshed data show azure-conv-2023
      wattshed data show eia-2022-carbon --rows 24
      wattshed data show wilkins-2024-profiles --rows 3
    """
    from wattshed.data.catalog import find_dataset, provenance_of

    with errors_at_the_edge():
        dataset = find_dataset(name)
        columns, total, first = _content(dataset, rows)
    if as_json:
        content = {"columns": columns, "rows": total, "first": first}
        inputs = {"name": name, "rows": rows}
        print_json("data-show", inputs, {"dataset": dataset, **content}, [provenance_of(name)])
        return
    _print_dataset(dataset, total)
    if first:
        from wattshed.report.document import Table

        print_tables([Table(name, f"first {len(first)} of {total} rows", columns, first)])


def _content(dataset: Dataset, rows: int) -> tuple[list[str], int, list[list[Cell]]]:
    """Columns, number of rows and first rows of a data set."""
    if dataset.kind == "profiles":
        from wattshed.profiles import energy_model, load_profiles

        profiles = load_profiles()
        columns = ["name", "kind", "boundary", "energy form", "runtime form", "cells"]
        first: list[list[Cell]] = [
            [p.name, p.kind, p.boundary, energy_model(p).form, p.runtime.form, p.cells]
            for p in profiles[:rows]
        ]
        return columns, len(profiles), first
    if dataset.kind == "iteration-profiles":
        return _iteration_profiles(rows)
    if dataset.kind == "fleet":
        from wattshed.fleet import load_fleet

        deployments = load_fleet(dataset.name).deployments
        columns = ["deployment", "profile", "replicas", "max_output_tokens", *ENGINE_COLUMNS]
        first = [
            [d.name, d.profile.name, d.replicas, d.max_output_tokens, *_engine(d)]
            for d in deployments[:rows]
        ]
        return columns, len(deployments), first
    from wattshed.data.catalog import read_table

    frame = read_table(dataset.name)
    return frame.columns, frame.height, [list(row) for row in frame.head(rows).rows()]


def _engine(deployment: Deployment) -> list[Cell]:
    """Engine settings, defaults included; empty for a profile of single queries."""
    from wattshed.engines.model import UNLIMITED
    from wattshed.records import IterationProfile
    from wattshed.serving import engine_settings

    if not isinstance(deployment.profile, IterationProfile):
        return [None] * len(ENGINE_COLUMNS)
    found = engine_settings(deployment)
    kv: Cell = "unlimited" if found.kv_tokens == UNLIMITED else found.kv_tokens
    return [found.max_batch, found.chunk_tokens, kv, found.clock]


def _iteration_profiles(rows: int) -> tuple[list[str], int, list[list[Cell]]]:
    from wattshed.iterations import load_iteration_profiles

    profiles = load_iteration_profiles()
    columns = ["name", "cells", "time form", "energy form", "energy is", "held-out error %"]
    first: list[list[Cell]] = [
        [
            p.name,
            p.cells,
            p.decode_time_s.form,
            p.decode_energy_j.form,
            p.decode_energy_j.kind,
            p.held_out[0].median_ape_pct,
        ]
        for p in profiles[:rows]
    ]
    return columns, len(profiles), first


def _print_dataset(dataset: Dataset, total: int) -> None:
    for label, value in (
        ("name", f"{dataset.name} ({dataset.kind}, {total} rows)"),
        ("what", dataset.title),
        ("source", dataset.source),
        ("commit", dataset.commit or "-"),
        ("licence", dataset.licence),
        ("figures", dataset.data_kind),
        ("done", dataset.done),
    ):
        click.echo(f"{label:>8}  {value}")
    click.echo()
