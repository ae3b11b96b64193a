"""`wattshed measure`: energy and runtime of queries on this machine, cell by cell."""

from __future__ import annotations

from pathlib import Path

import click

from wattshed.cli.shared import (
    FiniteRange,
    errors_at_the_edge,
    json_option,
    note,
    progress,
    seed_option,
)


@click.command()
@click.option(
    "--engine",
    required=True,
    metavar="NAME[:ARGUMENT]",
    help="What answers: openai:URL, transformers:FOLDER, simulated:PROFILE; or"
    " transformers:llama-7b and other architectures, with random weights.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="A setting of the engine; it names those that it knows. Repeatable.",
)
@click.option(
    "--meter",
    "meters",
    multiple=True,
    default=("auto",),
    show_default=True,
    metavar="NAME[:ARGUMENT]",
    help="auto (every meter of this machine that works), none (runtime only), or nvml, rapl,"
    " zeusd:HOST:PORT and the others. Repeatable.",
)
@click.option(
    "--grid",
    default=None,
    metavar="NAME",
    help="vary-input (8 to 2048 input tokens, 32 output tokens), vary-output (8 to 4096 output"
    " tokens, 32 input tokens), joint (all pairs of both), or adaptive:PROFILE (those pairs where"
    " it is least certain whether PROFILE takes less energy).",
)
@click.option("--input", "inputs", default=None, metavar="M,...", help="Input tokens of the cells.")
@click.option(
    "--output", "outputs", default=None, metavar="N,...", help="Output tokens of the cells."
)
@click.option(
    "--batch", default="1", show_default=True, metavar="B,...", help="Equal queries at once."
)
@click.option(
    "--kv-cache/--no-kv-cache",
    "kv_cache",
    default=None,
    help="With or without a key-value cache, where the engine lets one choose.",
)
@click.option(
    "--clock",
    "clocks",
    default=None,
    metavar="MHZ,...",
    help="Lock the accelerators' clock, and put back what was there. Each is a cell of its own.",
)
@click.option(
    "--power-limit",
    "power_limits",
    default=None,
    metavar="W,...",
    help="Limit the power of each accelerator, and put back what was there. Each is a cell.",
)
@click.option(
    "--gpus",
    default="nvml",
    show_default=True,
    metavar="NAME[:INDEX,...]",
    help="Whose clock and power limit are set (nvml), and whose temperature is guarded (nvml or"
    " amdsmi).",
)
@click.option(
    "--stop",
    default="relative:5%",
    show_default=True,
    metavar="RULE",
    help="When a cell is done: relative:PERCENT (mean energy known so well), paper (mean runtime"
    " known to 0.5 s, as in the first study) or decision:PROFILE (certain whether PROFILE takes"
    " less energy there). Always with 95 % confidence.",
)
@click.option(
    "--min-trials",
    type=click.IntRange(min=1),
    default=None,
    help="Of a cell.  [default: 3; paper: 2]",
)
@click.option(
    "--max-trials", type=click.IntRange(min=1), default=25, show_default=True, help="Of a cell."
)
@click.option(
    "--max-cells",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Of an adaptive grid.",
)
@click.option(
    "--warm-up",
    type=click.IntRange(min=0),
    default=3,
    show_default=True,
    help="Queries before the first trial, which count nowhere.",
)
@click.option(
    "--idle",
    "idle_s",
    type=FiniteRange(min=0),
    default=30.0,
    show_default=True,
    metavar="S",
    help="Length of the idle baselines before and after, with the model loaded.",
)
@click.option(
    "--window",
    "window_s",
    type=FiniteRange(min=0),
    default=None,
    metavar="S",
    help="Repeat shorter queries until a trial lasts so long: counters are read some ten times a"
    " second only. 0 for single queries.  [default: 5; paper: 0]",
)
@click.option(
    "--interval",
    "interval_s",
    type=FiniteRange(min=0, min_open=True),
    default=0.005,
    show_default=True,
    metavar="S",
    help="Between two readings of a meter.",
)
@click.option(
    "--guard",
    "max_temperature_c",
    type=FiniteRange(min=0, min_open=True),
    default=None,
    metavar="CELSIUS",
    help="Let the accelerators cool down before a trial if they are hotter.",
)
@click.option(
    "-o",
    "--folder",
    "into",
    type=click.Path(path_type=Path, file_okay=False),
    default=None,
    metavar="DIR",
    help="Write journal.jsonl, runs.csv and certificate.json there.",
)
@click.option("--traces", is_flag=True, help="Keep every reading of every trial there, too.")
@click.option(
    "--resume", is_flag=True, help="Go on with the campaign in that folder: same options as before."
)
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be measured, and end.")
@click.option(
    "--like",
    default=None,
    metavar="PROFILE",
    help="With --plan: estimate the time from the profile of a similar machine.",
)
@seed_option
@json_option
def measure(
    *,
    engine: str,
    settings: tuple[str, ...],
    meters: tuple[str, ...],
    grid: str | None,
    inputs: str | None,
    outputs: str | None,
    batch: str,
    kv_cache: bool | None,
    clocks: str | None,
    power_limits: str | None,
    gpus: str,
    stop: str,
    min_trials: int | None,
    max_trials: int,
    max_cells: int,
    warm_up: int,
    idle_s: float,
    window_s: float | None,
    interval_s: float,
    max_temperature_c: float | None,
    into: Path | None,
    traces: bool,
    resume: bool,
    only_plan: bool,
    like: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Measure what queries cost on this machine: a campaign of trials over a grid of cells.

    Cells are visited in random order, round by round, until each mean is known well enough.
    Every trial is on disk before the next begins: a campaign that was broken off, even by a
    crash, goes on with --resume. The runs are what `wattshed fit` reads.

    \b
    From nothing to a profile:
      wattshed doctor
      wattshed measure --engine transformers:models/llama --grid joint -o campaign
      wattshed fit campaign/runs.csv -o profiles.json

    \b
    Examples:
      wattshed measure --engine openai:http://localhost:8000/v1 --meter nvml --grid vary-input -o in
      wattshed measure --engine simulated:splitwise/h100-80gb-tp8/llama-2-70b --grid joint -o try
      wattshed measure --engine transformers:llama-100m --input 8,128 --output 32 --batch 1,4 -o few
      wattshed measure --engine openai:http://localhost:8000/v1 --grid joint --plan
    """
    from wattshed.cli.measured import print_outcome, print_plan
    from wattshed.cli.measuring import Wanted, campaign_of, carry_out

    with errors_at_the_edge():
        wanted = Wanted(engine, settings, meters, gpus, kv_cache, resume=resume, traces=traces)
        campaign = campaign_of(
            grid=grid,
            axes=(inputs, outputs, batch, clocks, power_limits),
            stop=stop,
            trials=(min_trials, max_trials),
            kv_cache=kv_cache,
            max_cells=max_cells,
            max_temperature_c=max_temperature_c,
            others={
                "warm_up": warm_up,
                "idle_s": idle_s,
                "interval_s": interval_s,
                "window_s": (0.0 if stop == "paper" else 5.0) if window_s is None else window_s,
                "seed": seed,
            },
        )
        if only_plan:
            print_plan(campaign, like, as_json=as_json)
            return
        if into is None:
            raise click.UsageError("give -o DIR, where the runs go, or --plan")
        with progress("measuring") as on_progress:
            outcome = carry_out(campaign, wanted, into, on_progress)
        print_outcome(outcome, into, as_json=as_json)
    if outcome.stopped:
        note(f"stopped: the trials so far are in {into}; the same command with --resume goes on")
    if outcome.stopped or outcome.failed:
        raise click.exceptions.Exit(1)
