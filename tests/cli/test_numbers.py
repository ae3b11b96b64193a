"""Numbers in options: what cannot be meant is refused in one line, before anything is done."""

from __future__ import annotations

import math
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.cli.shared import BadInput, FiniteRange

TEXTS = [
    ["plan", "--runtime-budget", "{}"],
    ["plan", "--runtime-budget", "chat={}x"],
    ["plan", "--energy-budget", "{}x"],
    ["plan", "--slo", "e2e={}"],
    ["plan", "--slo", "chat:ttft=1,tbt={}"],
    ["plan", "--idle-power", "a100={}"],
    ["replay", "--slo", "tbt={}"],
    ["simulate", "--slo", "ttft={}"],
    ["simulate", "--clocks", "0.5,{}"],
    ["simulate", "--fail", "a100-tp8/0@{}"],
    ["simulate", "--drain", "a100-tp8/0@5-{}"],
    ["simulate", "--rates", "servegen-rates#m-large", "--window", "{}:3600"],
    ["simulate", "--rates", "servegen-rates#m-large", "--window", "0:{}"],
    ["measure", "--grid", "joint", "--engine", "simulated", "--stop", "relative:{}"],
    ["measure", "--grid", "joint", "--engine", "simulated", "--clock", "{}"],
]
"""Commands that end with an option whose text holds a number, at ``{}``."""


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    if not isinstance(command, click.Group):
        yield path, command
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        below = command.get_command(context, name)
        assert below is not None
        yield from commands(below, (*path, name))


def number_options() -> list[tuple[tuple[str, ...], click.Option]]:
    return [
        (path, option)
        for path, command in commands(main)
        for option in command.params
        if isinstance(option, click.Option) and isinstance(option.type, click.types.FloatParamType)
    ]


def outside(kind: click.types.ParamType) -> list[str]:
    """Numbers that a range does not hold, its open ends included."""
    assert isinstance(kind, FiniteRange), "give the option a FiniteRange"
    low = [] if kind.min is None else [kind.min - 1, *([kind.min] if kind.min_open else [])]
    high = [] if kind.max is None else [kind.max + 1, *([kind.max] if kind.max_open else [])]
    return [f"{value:g}" for value in (*low, *high)]


def refusal(arguments: list[str]) -> str:
    """The one line that tells why a command did nothing."""
    done = CliRunner().invoke(main, arguments)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    return line


@pytest.mark.parametrize(
    ("path", "option"),
    [pytest.param(p, o, id=" ".join((*p, o.opts[0]))) for p, o in number_options()],
)
def test_every_option_of_a_number_refuses_what_is_none_or_out_of_range(
    path: tuple[str, ...], option: click.Option
) -> None:
    for text in ("nan", "inf", "-inf", "1e999", "many", *outside(option.type)):
        line = refusal([*path, option.opts[0], text])
        assert line.startswith(f"Error: {max(option.opts, key=len)}: '{text}' is ")
        assert "; give a number" in line


def test_there_are_such_options() -> None:
    assert {path[0] for path, _ in number_options()} >= {"plan", "simulate", "replay", "serve"}


@pytest.mark.parametrize("arguments", TEXTS, ids=" ".join)
@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_a_number_within_a_text_is_finite(arguments: list[str], number: str) -> None:
    *before, text = arguments
    line = refusal([*before, text.format(number)])
    for part in (before[-1], number, "; give "):
        assert part in line


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (FiniteRange(), "a number"),
        (FiniteRange(min=0), "a number from 0 on"),
        (FiniteRange(min=0, min_open=True), "a number above 0"),
        (FiniteRange(0.1, 600), "a number from 0.1 to 600"),
        (FiniteRange(0, 1, min_open=True), "a number above 0, up to 1"),
        (FiniteRange(0, 1, min_open=True, max_open=True), "a number above 0, below 1"),
    ],
)
def test_the_cure_tells_the_range(kind: FiniteRange, words: str) -> None:
    with pytest.raises(BadInput) as refused:
        kind.convert(math.nan, None, None)
    assert refused.value.message == f"number: nan is not a finite number; give {words}"
