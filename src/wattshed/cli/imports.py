"""`wattshed import`: results of other tools as runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from wattshed.cli.shared import (
    BadInput,
    FiniteRange,
    errors_at_the_edge,
    json_option,
    note,
    print_json,
    print_tables,
)

if TYPE_CHECKING:
    import polars as pl

    from wattshed.measure.importers.registry import ImportedRuns, Shape
    from wattshed.report.document import Cell, Table


@click.command("import")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the runs there (.csv, .parquet or .jsonl), for `wattshed fit`.",
)
@click.option("--system", help="Kind of machine that served; no tool says it.")
@click.option("--model", help="Language model, instead of the file's.")
@click.option("--accelerator", help="Its accelerator, instead of the file's.")
@click.option(
    "--n-accelerators", type=click.IntRange(min=1), help="How many of them served; 1 if unknown."
)
@click.option("--tensor-parallel", type=click.IntRange(min=1), help="Degree of tensor parallelism.")
@click.option("--engine", help="What served, with its version.")
@click.option(
    "--batch-size",
    type=FiniteRange(min=1),
    help="Queries in one batch, instead of the concurrency that the file says.",
)
@click.option(
    "--input-tokens",
    type=click.IntRange(min=1),
    help="Of the queries, where the file does not say it.",
)
@click.option(
    "--output-tokens",
    type=click.IntRange(min=1),
    help="Of the queries, where the file does not say it.",
)
@click.option(
    "--rows",
    type=click.Choice(["auto", "requests", "mean"]),
    default="auto",
    show_default=True,
    help="One row a request, or the mean of a benchmark; auto takes the mean where it has energy.",
)
@click.option(
    "--energy",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="AIPerf's gpu_telemetry_export.jsonl of the same benchmark, or the study's power samples.",
)
@click.option(
    "--recorded",
    type=click.Choice(["total", "generated"]),
    default="total",
    show_default=True,
    help="What the study of 2024 counted in its column of tokens: input and output, or output.",
)
@click.option(
    "--package-idle",
    type=FiniteRange(min=0, min_open=True),
    metavar="W",
    help="Idle power of a CPU package, taken off its energy; for the study of 2024 on Intel.",
)
@click.option(
    "--zone",
    metavar="NAME",
    help="Time zone of the machine, as America/Chicago; for the study's timecharts of uProf.",
)
@json_option
def import_(
    *,
    files: tuple[Path, ...],
    output: Path | None,
    system: str | None,
    model: str | None,
    accelerator: str | None,
    n_accelerators: int | None,
    tensor_parallel: int | None,
    engine: str | None,
    batch_size: float | None,
    input_tokens: int | None,
    output_tokens: int | None,
    rows: Shape,
    energy: Path | None,
    recorded: Literal["total", "generated"],
    package_idle: float | None,
    zone: str | None,
    as_json: bool,
) -> None:
    """Make runs from FILES, results of another tool, which are recognised by their content.

    A file is of AIPerf, vllm bench serve, guidellm, the ML.ENERGY benchmark or codecarbon, or of
    the study of 2024, on its M1 or its NVIDIA machines. Most measure no energy of single requests:
    what they know of a whole benchmark goes into one row, the mean of its requests, and a flag says
    how it was shared.

    \b
    Examples:
      wattshed import profile_export.jsonl --system my-h100 --model llama -o runs.csv
      wattshed import */profile_export_aiperf.json --system my-h100 -o runs.csv
      wattshed import profile_export.jsonl --energy gpu_telemetry_export.jsonl \\
        --system my-h100 --model llama
      wattshed import benchmarks.json --system my-h100 -o runs.parquet
      wattshed import emissions.csv --system my-pc --model llama \\
        --input-tokens 32 --output-tokens 128
      wattshed import MODEL-M1-Pro.csv --energy MODEL-M1-Pro-power.csv -o runs.csv
      wattshed import MODEL-palmetto-v100-1.csv --package-idle 37.5 -o runs.csv
      wattshed import MODEL-argonne-swing-1.csv --energy timechart.csv \\
        --zone America/Chicago -o runs.csv
    """
    from wattshed.measure.importers.registry import (
        STUDY,
        STUDY_CUDA,
        Tokens,
        import_runs,
        together,
    )
    from wattshed.measure.importers.study_2024_cuda import Host
    from wattshed.runs import write_runs

    if energy and len(files) > 1:
        raise BadInput(f"--energy: one file for {len(files)} benchmarks; import them one by one")
    with errors_at_the_edge():
        each = [
            import_runs(
                file,
                system=system,
                rows=rows,
                energy=energy,
                tokens=Tokens(input_tokens, output_tokens, recorded),
                host=Host(package_idle, zone),
                model=model,
                accelerator=accelerator,
                n_accelerators=n_accelerators,
                tensor_parallel=tensor_parallel,
                engine=engine,
                batch_size=batch_size,
            )
            for file in files
        ]
        found = together(each)
        tools = {one.tool for one in each}
        _refuse_idle("--package-idle", package_idle is not None, tools & {STUDY_CUDA})
        _refuse_idle("--zone", zone is not None, tools & {STUDY_CUDA})
        _refuse_idle("--recorded", recorded != "total", tools & {STUDY, STUDY_CUDA})
        if output:
            write_runs(found.table, output)
            note(f"runs: {output}")
    for line in found.notes:
        note(f"note: {line}")
    if as_json:
        _print_json(files, found, {"rows": rows, "energy": str(energy) if energy else None})
    else:
        print_tables([_summary(found)])


def _refuse_idle(option: str, given: bool, tools: set[str]) -> None:
    """An option that would do nothing is a mistake."""
    if given and not tools:
        raise BadInput(
            f"{option}: is for files of the study of 2024, of which none is; leave it out"
        )


def _print_json(files: tuple[Path, ...], found: ImportedRuns, asked: dict[str, str | None]) -> None:
    from msgspec import structs

    from wattshed.data.catalog import users_own
    from wattshed.files import sha256

    provenance = [structs.replace(users_own(file), kind=found.kind) for file in files]
    results = {
        "tool": found.tool,
        "kind": found.kind,
        "notes": found.notes,
        "runs": found.table.to_dicts(),
    }
    read = [{"name": str(file), "sha256": sha256(file)} for file in files]
    print_json("import", {"files": read, **asked}, results, provenance)


def _summary(found: ImportedRuns) -> Table:
    """One row for each deployment and experiment."""
    from wattshed.report.document import Table
    from wattshed.runs import SETTINGS

    keys = [k for k in (*SETTINGS, "experiment") if k in found.table.columns]
    rows = [_summary_row(group) for group in found.table.partition_by(keys, maintain_order=True)]
    columns = ["system", "model", "batch", "experiment", "rows", "input tokens", "output tokens"]
    return Table(
        "imported",
        f"Runs of {found.tool} ({found.kind})",
        [*columns, "mean runtime (s)", "mean energy (J)"],
        rows,
        note="A dash: not known.",
    )


def _summary_row(group: pl.DataFrame) -> list[Cell]:
    def value(name: str) -> Cell:
        found: Cell = group[name][0] if name in group.columns else None
        return found

    def span(name: str) -> str:
        low, high = min(group[name]), max(group[name])
        return f"{low}" if low == high else f"{low}–{high}"

    def mean(name: str) -> Cell:
        found: Cell = group[name].mean() if name in group.columns else None  # type: ignore[assignment]
        return found

    settings = [value(name) for name in ("system", "model", "batch_size", "experiment")]
    tokens = [span(name) for name in ("input_tokens", "output_tokens")]
    return [*settings, group.height, *tokens, mean("runtime_s"), mean("accelerator_energy_j")]
