"""Options that limit a plan: what they are called and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from wattshed.cli.shared import FiniteRange, finite
from wattshed.errors import ParameterError

if TYPE_CHECKING:
    from wattshed.fleet import Fleet
    from wattshed.plan.limits import Bound, Limits

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--runtime-budget",
        "runtime_budgets",
        multiple=True,
        metavar="[CLASS=]X",
        help="Largest mean runtime, of all queries or of an SLO class: seconds, or a multiple of"
        " the reference such as 1.1x. Finds λ. Repeatable.",
    ),
    click.option(
        "--energy-budget",
        metavar="X",
        help="Largest energy: joules, or a multiple of the reference such as 0.98x.",
    ),
    click.option(
        "--accuracy-floor", type=FiniteRange(0, 1), default=None, help="Smallest accuracy."
    ),
    click.option(
        "--accuracy-measure",
        default="query-mean",
        show_default=True,
        help="What the floor bounds: query-mean or token-weighted.",
    ),
    click.option(
        "--slo",
        "slos",
        multiple=True,
        metavar="[CLASS:]KEY=S,...",
        help="Latency that a query served alone must keep, instead of the fleet's [slo.CLASS]:"
        " ttft, tbt and e2e in seconds. Without CLASS, for all queries whose class has none."
        " Repeatable.",
    ),
    click.option(
        "--horizon",
        type=FiniteRange(min=0, min_open=True),
        default=None,
        metavar="S",
        help="Seconds in which the workload must be served: limits each deployment's busy time to"
        " replicas x horizon x utilisation.",
    ),
)


def limit_options(command: F) -> F:
    """Every option that `parse_limits` and `with_slo` read."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def parse_limits(
    runtime_budgets: tuple[str, ...],
    energy_budget: str | None,
    accuracy_floor: float | None,
    accuracy_measure: str,
    horizon: float | None,
) -> Limits:
    """Limits from the options of the same names.

    Raises
    ------
    ParameterError
    """
    from wattshed.plan.limits import Limits

    by_class: dict[str, Bound] = {}
    for text in runtime_budgets:
        name, _, value = text.rpartition("=")
        if name in by_class:
            raise ParameterError("--runtime-budget", f"{text!r} is a second one", "give one each")
        by_class[name] = _bound("--runtime-budget", value, "seconds, or a multiple such as 1.1x")
    return Limits(
        horizon_s=horizon,
        runtime=by_class.pop("", None),
        class_runtime=by_class,
        energy=None
        if energy_budget is None
        else _bound("--energy-budget", energy_budget, "joules, or a multiple such as 0.98x"),
        accuracy_floor=accuracy_floor,
        accuracy_measure=accuracy_measure,
    )


def _bound(option: str, text: str, cure: str) -> Bound:
    from wattshed.plan.limits import Bound

    try:
        return Bound(finite(text.removesuffix("x")), text.endswith("x"))
    except ValueError:
        raise ParameterError(option, repr(text), f"give {cure}") from None


def parse_weight(minimize: str | None, energy_weight: float | None) -> float:
    """λ from ``--minimize`` and ``--lambda``, of which at most one may be given.

    Raises
    ------
    ParameterError
    """
    named = {None: 1.0, "energy": 1.0, "runtime": 0.0}
    if minimize not in named:
        raise ParameterError("--minimize", repr(minimize), "give energy or runtime")
    if energy_weight is None:
        return named[minimize]
    if minimize is not None:
        raise ParameterError(
            "--minimize", f"--lambda is {energy_weight:g}, too", "give one of the two"
        )
    return energy_weight


def with_slo(fleet: Fleet, slos: tuple[str, ...]) -> Fleet:
    """A fleet with the SLOs given by ``--slo`` instead of its own.

    Raises
    ------
    ParameterError
    """
    from msgspec import structs

    from wattshed.fleet import DEFAULT_CLASS, Slo

    promises = dict(fleet.slo)
    for text in slos:
        name, _, keys = text.rpartition(":")
        limits = {}
        for part in keys.split(","):
            key, _, value = part.partition("=")
            try:
                limits[f"{key.strip()}_s"] = finite(value)
            except ValueError:
                limits = {}
        if not limits or not set(limits) <= set(Slo.__struct_fields__) or min(limits.values()) <= 0:
            cure = "give [CLASS:]ttft=S,tbt=S,e2e=S, some of them, with seconds above 0"
            raise ParameterError("--slo", repr(text), cure)
        promises[name or DEFAULT_CLASS] = Slo(**limits)
    return structs.replace(fleet, slo=promises)
