"""What the commands have in common: errors at the edge, JSON, options, progress."""

from __future__ import annotations

import math
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from wattshed import __version__
from wattshed.errors import InputError, WattshedError

if TYPE_CHECKING:
    from wattshed.plan.progress import Progress
    from wattshed.records import Provenance
    from wattshed.report.document import Document, Table

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON object on stdout, numbers in SI units."
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Seed of everything that chance plays a part in.",
)


def fleet_option_of(default: str) -> Callable[[F], F]:
    """``--fleet``, with the fleet that is taken without it."""
    return click.option(
        "--fleet",
        "fleet_source",
        default=default,
        show_default=True,
        metavar="FILE|NAME",
        help="fleet.toml, or a built-in fleet.",
    )


def workload_option_of(default: str) -> Callable[[F], F]:
    """``--workload``, with the workload that is taken without it."""
    return click.option(
        "--workload",
        "workload_source",
        default=default,
        show_default=True,
        metavar="FILE|NAME",
        help="CSV, Parquet or JSONL, an Azure or Mooncake trace, or a built-in workload.",
    )


fleet_option = fleet_option_of("hybrid-2024")
workload_option = workload_option_of("alpaca")


def folder_option(default: str | None = None) -> Callable[[F], F]:
    """``-o DIR``: where reports go."""
    return click.option(
        "-o",
        "--output",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        default=default,
        show_default=default is not None,
        metavar="DIR",
        help="Write tables (CSV), figures (SVG, PNG) and index.html there.",
    )


def finite(text: str | float) -> float:
    """The number that a text is.

    Raises
    ------
    ValueError
        Also for nan and inf.

    Examples
    --------
    >>> finite("1e3")
    1000.0
    """
    found = float(text)
    if not math.isfinite(found):
        raise ValueError(text)
    return found


class FiniteRange(click.FloatRange):
    """A range of numbers, which neither nan nor inf is in; the type of every option of a number."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """See `click.ParamType`; what is wrong is told in one line, as all bad input is."""
        where = max(param.opts, key=len) if param else "number"
        try:
            found = finite(value)
        except ValueError:
            wrong = f"{value!r} is not a finite number"
            raise BadInput(f"{where}: {wrong}; give {self._cure()}") from None
        try:
            return float(super().convert(found, param, ctx))
        except click.BadParameter:
            raise BadInput(f"{where}: {value!r} is out of range; give {self._cure()}") from None

    def _cure(self) -> str:
        """The range in words, e.g. ``a number above 0, up to 1``."""
        low = high = ""
        if self.min is not None:
            low = f" above {self.min:g}" if self.min_open else f" from {self.min:g}"
        if self.max is not None:
            closed = " to" if low and not self.min_open else ", up to"
            high = f"{', below' if self.max_open else closed} {self.max:g}"
        on = " on" if low and not self.min_open and not high else ""
        return f"a number{low}{high or on}"


class BadInput(click.ClickException):
    """An `InputError` at the edge: one line on stderr, exit status 2."""

    exit_code = 2


@contextmanager
def errors_at_the_edge() -> Iterator[None]:
    """Turn our exceptions into one line and the documented exit status."""
    try:
        yield
    except InputError as error:
        raise BadInput(str(error)) from error
    except WattshedError as error:
        raise click.ClickException(str(error)) from error


def print_json(
    schema: str,
    inputs: dict[str, Any],
    results: dict[str, Any],
    provenance: list[Provenance],
) -> None:
    """Print the envelope that every command shares."""
    envelope = {
        "schema": f"wattshed/{schema}/1",
        "created_by": f"wattshed {__version__}",
        "inputs": inputs,
        "results": results,
        "provenance": provenance,
    }
    sys.stdout.buffer.write(msgspec.json.encode(envelope, order="deterministic") + b"\n")


def print_tables(tables: list[Table]) -> None:
    """Print tables for people on stdout."""
    from rich.console import Console

    from wattshed.report.console import print_table

    console = Console()
    for table in tables:
        print_table(table, console)


def note(message: str) -> None:
    """Tell people something on stderr."""
    click.echo(message, err=True)


def write_folder(
    document: Document, folder: Path, extra: dict[str, bytes | str] | None = None
) -> None:
    """Write a report and say where it is."""
    from wattshed.report.folder import write_report

    write_report(document, folder, extra=extra)
    note(f"report: {folder / 'index.html'}")


@contextmanager
def progress(description: str) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, shown only to people."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[name]}"),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(description, total=None, name="")

        def report(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total or None, name=name)

        yield report


@contextmanager
def stoppable() -> Iterator[Callable[[], None]]:
    """Ctrl-C takes effect at the next check, where work can end with what it has.

    Yields the check, which raises KeyboardInterrupt then. A second Ctrl-C ends the program.
    """
    stop = False

    def asked(_signal: int, _frame: FrameType | None) -> None:
        nonlocal stop
        if stop:
            raise KeyboardInterrupt
        stop = True

    def check() -> None:
        if stop:
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, asked)
    try:
        yield check
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def planning() -> Iterator[Callable[[Progress], None]]:
    """A progress bar with bound and gap; Ctrl-C ends the search with what it has."""
    from wattshed.units import human_energy

    with progress("planning") as bar, stoppable() as check:

        def report(now: Progress) -> None:
            check()
            text = now.stage
            if now.bound_j is not None and now.gap is not None:
                gap = f", gap {now.gap:.1e}" if now.gap < 1 else ""
                text += f": at least {human_energy(now.bound_j)}{gap}; Ctrl-C takes the best so far"
            bar(text, now.done, now.total)

        yield report


def command_line() -> str:
    """The command with every option that was given, but those that only say where results go."""
    context = click.get_current_context()
    words = ["wattshed", context.info_name or ""]
    for option in context.command.params:
        given = context.get_parameter_source(option.name or "") == ParameterSource.COMMANDLINE
        if given and option.name not in ("folder", "as_json"):
            words += _as_given(option, context.params[option.name or ""])
    return shlex.join(words)


def _as_given(option: click.Parameter, value: Any) -> list[str]:
    name = max(option.opts, key=len)
    if isinstance(value, bool):
        return [name if value else max(option.secondary_opts or option.opts, key=len)]
    values = value if isinstance(value, tuple) else (value,)
    return [word for one in values for word in (name, str(one))]
