"""Options of `wattshed simulate` that take more than a number: traffic, outages, contenders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from wattshed.cli.shared import FiniteRange, finite
from wattshed.errors import ParameterError

if TYPE_CHECKING:
    from wattshed.fleet import Fleet
    from wattshed.simulate.model import Outage
    from wattshed.simulate.scenario import Arrivals
    from wattshed.workload.table import Workload

F = TypeVar("F", bound=Callable[..., object])

OPTIONS = (
    click.option(
        "--rate",
        type=FiniteRange(min=0, min_open=True),
        default=None,
        metavar="R",
        help="Draw arrivals at this mean rate, requests per second. Without --rate, --load and"
        " --rates, the arrivals of the workload are replayed.",
    ),
    click.option(
        "--load",
        type=FiniteRange(min=0, min_open=True),
        default=None,
        metavar="PART",
        help="Draw arrivals at this part of the highest rate at which least-loaded routing at the"
        " highest clock keeps the promises, e.g. 0.7.",
    ),
    click.option(
        "--requests",
        type=int,
        default=None,
        metavar="N",
        help="How many; of a replay the first so many.  [default: as many as the workload has, or"
        " as the rates give]",
    ),
    click.option(
        "--cv",
        type=FiniteRange(min=0),
        default=1.0,
        show_default=True,
        help="Coefficient of variation of the times between drawn arrivals: 1 is Poisson, more"
        " comes in bursts, 0 is evenly spaced.",
    ),
    click.option(
        "--speed",
        type=FiniteRange(min=0, min_open=True),
        default=1.0,
        show_default=True,
        help="Of a replay: 2 lets the same requests come in half the time.",
    ),
    click.option(
        "--rates",
        "rates_source",
        default=None,
        metavar="FILE|NAME",
        help="Draw arrivals along a rate curve: a file with start_s and rate_per_s, or a built-in"
        " one such as servegen-rates#m-large.",
    ),
    click.option(
        "--scale",
        type=FiniteRange(min=0, min_open=True),
        default=1.0,
        show_default=True,
        help="Factor of these rates.",
    ),
    click.option(
        "--window",
        default=None,
        metavar="A:B",
        help="Part of these rates, in seconds on their own time; either end may be left out.",
    ),
)


def promise_options(target: str) -> Callable[[F], F]:
    """Options of the promises that are to be kept, with what the target is for."""
    options = (
        click.option(
            "--slo",
            "slos",
            multiple=True,
            metavar="[CLASS:]KEY=S,...",
            help="Latency that is promised, instead of the fleet's [slo.CLASS]: ttft, tbt and e2e"
            " in seconds. Without CLASS, for all requests whose class has none. Repeatable.",
        ),
        click.option(
            "--target",
            type=FiniteRange(0, 1, min_open=True),
            default=0.99,
            show_default=True,
            help=target,
        ),
        click.option(
            "--every-token",
            is_flag=True,
            help="The limit between tokens holds for each of them, not for the mean of a request.",
        ),
    )

    def add(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def traffic_options(command: F) -> F:
    """Every option that `parse_arrivals` reads."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def parse_arrivals(
    workload: Workload,
    *,
    rate: float | None,
    load: float | None,
    requests: int | None,
    cv: float,
    speed: float,
    rates_source: str | None,
    scale: float,
    window: str | None,
) -> Arrivals:
    """How requests come, from the options of the same names.

    Raises
    ------
    ParameterError, FileError, TableError
    """
    from wattshed.simulate.scenario import Arrivals
    from wattshed.workload.rates import read_rates

    _one_of({"--rate": rate, "--load": load, "--rates": rates_source})
    if rates_source is None and (window is not None or scale != 1):
        option = "--scale" if window is None else "--window"
        raise ParameterError(option, "no rates", "give --rates FILE|NAME, which it is a part of")
    replayed = rate is None and load is None and rates_source is None
    if replayed and (workload.aggregated or workload.span_s is None):
        cure = "give --rate R, --load PART or --rates FILE|NAME to draw arrivals"
        raise ParameterError(workload.name, "has no arrivals to replay", cure)
    _refuse_idle(replayed, cv, speed)
    start_s, end_s = parse_window(window)
    curve = None if rates_source is None else read_rates(rates_source)
    return Arrivals(workload, requests, rate, cv, speed, curve, scale, start_s, end_s, load)


def _one_of(given: dict[str, float | str | None]) -> None:
    """Where arrivals come from is said once."""
    names = [name for name, value in given.items() if value is not None]
    if len(names) > 1:
        first, second = names[:2]
        raise ParameterError(first, f"{second} is {given[second]}, too", "give one of the two")


def _refuse_idle(replayed: bool, cv: float, speed: float) -> None:
    """An option that would do nothing is a mistake."""
    if replayed and cv != 1:
        raise ParameterError("--cv", f"{cv:g} for a replay", "give --rate R to draw arrivals")
    if not replayed and speed != 1:
        cure = "leave out --rate, --load and --rates to replay the workload"
        raise ParameterError("--speed", f"{speed:g} for drawn arrivals", cure)


def parse_window(text: str | None) -> tuple[float | None, float | None]:
    """Start and end of ``A:B``, None where nothing stands.

    Raises
    ------
    ParameterError

    Examples
    --------
    >>> parse_window("86400:"), parse_window(None)
    ((86400.0, None), (None, None))
    """
    if text is None:
        return None, None
    first, colon, last = text.partition(":")
    try:
        found = (finite(first) if first else None), (finite(last) if last else None)
    except ValueError:
        colon = ""
    if not colon:
        raise ParameterError("--window", repr(text), "give A:B in seconds, e.g. 0:86400")
    return found


def parse_outages(
    fleet: Fleet, fails: tuple[str, ...], drains: tuple[str, ...]
) -> tuple[Outage, ...]:
    """Outages of ``--fail`` and ``--drain``.

    Raises
    ------
    ParameterError
    """
    given = [("--fail", text) for text in fails] + [("--drain", text) for text in drains]
    return tuple(_outage(fleet, option, text) for option, text in given)


def _outage(fleet: Fleet, option: str, text: str) -> Outage:
    from wattshed.simulate.model import Outage

    name, _, times = text.rpartition("@")
    start, dash, end = times.partition("-")
    try:
        start_s, end_s = finite(start), finite(end) if dash else float("inf")
    except ValueError:
        cure = "give REPLICA@START or REPLICA@START-END in seconds, e.g. a100-tp8/0@600-1200"
        raise ParameterError(option, repr(text), cure) from None
    if not 0 <= start_s < end_s:
        cure = "let it begin at 0 or later, and end after that"
        raise ParameterError(option, repr(text), cure)
    return Outage(_replica(fleet, option, name), start_s, end_s, drains=option == "--drain")


def _replica(fleet: Fleet, option: str, name: str) -> int:
    """Number of a replica through the fleet."""
    known = [(d.name, number) for d in fleet.deployments for number in range(d.replicas)]
    deployment, _, number = name.rpartition("/")
    if number.isdigit() and (deployment, int(number)) in known:
        return known.index((deployment, int(number)))
    last = ", ".join(f"{d.name}/0 to {d.name}/{d.replicas - 1}" for d in fleet.deployments)
    raise ParameterError(option, f"no replica {name!r}", f"use one of {last}")


def parse_names(option: str, values: tuple[str, ...]) -> tuple[str, ...]:
    """Names of comma lists, each once; ``threshold:SMALL,LARGE,T_IN`` is one name.

    Raises
    ------
    ParameterError

    Examples
    --------
    >>> parse_names("--policy", ("frugal,threshold:a,b,64", "random"))
    ('frugal', 'threshold:a,b,64', 'random')
    """
    names = []
    for value in values:
        parts = [part.strip() for part in value.split(",")]
        while parts:
            length = 3 if parts[0].startswith("threshold:") else 1
            names.append(",".join(parts[:length]))
            del parts[:length]
    if not all(names):
        raise ParameterError(option, repr(",".join(values)), "give names with commas between them")
    return tuple(dict.fromkeys(names))


def parse_clocks(text: str | None) -> tuple[float, ...] | None:
    """Fractions of ``0.5,0.75,1``.

    Raises
    ------
    ParameterError
    """
    if text is None:
        return None
    cure = "give fractions of the highest clock, above 0 and at most 1, e.g. 0.5,0.75,1"
    try:
        clocks = tuple(finite(part) for part in text.split(","))
    except ValueError:
        raise ParameterError("--clocks", repr(text), cure) from None
    if not all(0 < clock <= 1 for clock in clocks):
        raise ParameterError("--clocks", repr(text), cure)
    return clocks
