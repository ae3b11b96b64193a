"""`wattshed replay`: a workload against a live gateway, reported as a simulation is."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli.limits import with_slo
from wattshed.cli.replayed import inputs_of, print_replay, replay_results, write_replay
from wattshed.cli.shared import (
    FiniteRange,
    errors_at_the_edge,
    folder_option,
    json_option,
    print_json,
    progress,
    seed_option,
    stoppable,
    workload_option_of,
)
from wattshed.cli.simulated import sources_of
from wattshed.cli.traffic import parse_arrivals, promise_options, traffic_options
from wattshed.records import Fleet

if TYPE_CHECKING:
    from wattshed.simulate.scenario import Arrivals

EXTRA = "a replay needs packages that are not installed: pip install 'wattshed[serve]'"


@click.command()
@click.option(
    "--url",
    default="http://127.0.0.1:8080",
    show_default=True,
    help="Address of wattshed serve, or of another OpenAI-compatible server.",
)
@click.option("--model", default="auto", show_default=True, help="Model that is asked for.")
@click.option(
    "--key-env",
    default=None,
    metavar="NAME",
    help="Environment variable that holds the API key.",
)
@workload_option_of("azure-conv-2023")
@traffic_options
@click.option(
    "--fleet",
    "fleet_source",
    default=None,
    metavar="FILE|NAME",
    help="The fleet behind the gateway: its promises, and what its idle replicas draw.",
)
@promise_options("Part of the promises from which on two attainments count as equal.")
@click.option(
    "--engine-speed",
    type=FiniteRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="How many times faster than their profiles the engines are (serve --demo --speed)."
    " Requests come so much faster, and all times are told in seconds of the engines.",
)
@click.option(
    "--prompt",
    type=click.Choice(["ids", "text"]),
    default="ids",
    show_default=True,
    help="Prompts of token ids have exactly as many tokens as the workload says; text suits"
    " engines that refuse ids.",
)
@click.option(
    "--free-lengths",
    is_flag=True,
    help="Do not ask for answers of exact length (ignore_eos, min_tokens).",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=FiniteRange(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Longest silence of an answer, in seconds.",
)
@click.option(
    "--max-error",
    type=FiniteRange(0, 1),
    default=0.05,
    show_default=True,
    metavar="PART",
    help="Part of the requests that may fail before no more are sent.",
)
@click.option(
    "--compare",
    "compared",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DIR|FILE",
    help="Lay it beside another run: what wattshed simulate or replay wrote with -o or --json."
    " Repeatable.",
)
@folder_option()
@seed_option
@json_option
def replay(
    *,
    url: str,
    model: str,
    key_env: str | None,
    workload_source: str,
    fleet_source: str | None,
    slos: tuple[str, ...],
    target: float,
    every_token: bool,
    engine_speed: float,
    prompt: str,
    free_lengths: bool,
    timeout_s: float,
    max_error: float,
    compared: tuple[Path, ...],
    folder: Path | None,
    seed: int,
    as_json: bool,
    **traffic: Any,
) -> None:
    """Send a workload to a gateway as it came, and report as wattshed simulate does.

    Requests are sent when they are due, whatever became of those before them; how late is
    measured. Energy is what the answers tell (usage.energy). Ctrl-C ends it with what there is.

    \b
    Examples:
      wattshed replay --fleet fleet.toml -o live
      wattshed replay --rate 2 --requests 200 --slo ttft=2,tbt=0.1
      wattshed simulate --fleet fleet.toml --policy frugal -o simulated
      wattshed replay --fleet fleet.toml --compare simulated
    """
    with errors_at_the_edge():
        check_packages()
        from wattshed.replay.compare import load_others
        from wattshed.replay.door import Door, check_url
        from wattshed.replay.knock import knock
        from wattshed.replay.run import replay_workload

        key, exact = key_of(key_env), not free_lengths
        place = check_url(url)
        door = Door(place, model, key, timeout_s, prompt, exact, engine_speed, max_error)
        fleet = fleet_of(fleet_source, slos)
        arrivals = arrivals_of(workload_source, fleet, (target, every_token), traffic)
        policy = knock(door) or "gateway"
        others = [other for source in compared for other in load_others(source, policy)]
        aim: dict[str, Any] = {"target": target, "every_token": every_token, "seed": seed}
        with sending() as report:
            found = replay_workload(
                door, arrivals, fleet, policy=policy, others=others, report=report, **aim
            )
        inputs = inputs_of(door, arrivals, fleet, {**aim, "compare": list(map(str, compared))})
        sources = sources_of(fleet or Fleet("", []), arrivals)
        if folder:
            write_replay(found, others, inputs, sources, folder)
    if as_json:
        print_json("replay", inputs, replay_results(found.results), sources)
    else:
        print_replay(found.results)
    if found.results.partial or found.results.policies[0].failed > max_error * len(found.table):
        raise click.exceptions.Exit(1)


def check_packages() -> None:
    """Say so where packages of the extra are missing.

    Raises
    ------
    ClickException
    """
    try:
        import wattshed.replay.send  # noqa: F401
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{EXTRA} ({error.name} is missing)") from None


def key_of(name: str | None) -> str:
    """The API key that a variable holds; it is shown nowhere.

    Raises
    ------
    ParameterError
    """
    from wattshed.errors import ParameterError

    if name is None:
        return ""
    key = os.environ.get(name, "").strip()
    if not key or not (key.isascii() and key.isprintable()):
        found = f"{name} holds no API key"
        raise ParameterError("--key-env", found, "name an environment variable that does")
    return key


def fleet_of(source: str | None, slos: tuple[str, ...]) -> Fleet | None:
    """The fleet behind the gateway, with other promises; None where nothing was said of it.

    Raises
    ------
    FleetError, FileError, ParameterError
    """
    from wattshed.fleet import load_fleet

    if source is not None:
        return with_slo(load_fleet(source), slos)
    return with_slo(Fleet("", []), slos) if slos else None


def arrivals_of(
    source: str, fleet: Fleet | None, aim: tuple[float, bool], traffic: dict[str, Any]
) -> Arrivals:
    """How requests come; at a rate instead of a load, which only simulations know.

    Raises
    ------
    ParameterError, FileError, TableError
    """
    from wattshed.errors import ParameterError
    from wattshed.simulate.fleet import at_load
    from wattshed.workload.table import read_workload

    arrivals = parse_arrivals(read_workload(source), **traffic)
    if arrivals.load is None:
        return arrivals
    if fleet is None or not fleet.deployments:
        cure = "name the fleet with --fleet, or give --rate"
        raise ParameterError("--load", f"{arrivals.load:g} of an unknown fleet", cure)
    return at_load(fleet, arrivals, *aim, None)[0]


@contextmanager
def sending() -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the requests that have ended; Ctrl-C ends with what there is so far."""
    with progress("replaying") as bar, stoppable() as check:

        def report(done: int, total: int) -> None:
            bar("requests answered", done, total)
            check()

        yield report
