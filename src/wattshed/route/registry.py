"""Policies by name: those of the package, and those that others register."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from wattshed.errors import ParameterError
from wattshed.fleet import Fleet, load_fleet
from wattshed.plan.files import PlanFile, load_plan, planned_fleet
from wattshed.records import PriceRule
from wattshed.route import accumulated, zoo
from wattshed.route.frugal import frugal, packed
from wattshed.route.policy import Policy

GROUP = "wattshed.policies"
"""Entry points of other packages: a name, and a factory that takes a fleet and settings."""

POLICIES: dict[str, Callable[..., Policy]] = {
    "accumulated-coded": accumulated.accumulated_coded,
    "accumulated-printed": accumulated.accumulated_printed,
    "frugal": frugal,
    "least-loaded": zoo.least_loaded,
    "packed": packed,
    "power-of-two": zoo.power_of_two,
    "prices": zoo.prices,
    "random": zoo.random,
    "round-robin": zoo.round_robin,
    "single": zoo.single,
    "threshold": zoo.threshold,
}


def load_policy(
    name: str, *, fleet: str | Path | Fleet, plan: str | Path | None = None, **settings: Any
) -> Policy:
    """Make a policy from files.

    Parameters
    ----------
    name : str
        In `POLICIES`, or registered by another package under ``wattshed.policies``.
    fleet : str, Path or Fleet
        Of `load_fleet`.
    plan : str or Path, optional
        A plan.json of that fleet. The fleet's SLOs and idle power are then as planned; a policy
        that takes a rule, as ``prices`` does, gets the plan's.
    **settings
        The policy's own.

    Raises
    ------
    FileError, FleetError, ParameterError
        For example because the fleet has changed since it was planned.

    Examples
    --------
    >>> import wattshed as ws
    >>> from wattshed.records import Endpoint, Request
    >>> rule = ws.plan_workload(ws.load_fleet("hybrid-2024"), ws.read_workload("alpaca")).rule
    >>> policy = ws.load_policy("prices", fleet="hybrid-2024", rule=rule)
    >>> endpoints = [Endpoint("a", "a100"), Endpoint("m", "m1-pro")]
    >>> policy.decide(Request("1", 16, expected_output_tokens=32), endpoints, now_s=0.0).endpoint
    'm'
    >>> policy.decide(Request("2", 16, expected_output_tokens=200), endpoints, now_s=0.0).endpoint
    'a'
    """
    make = find_policy(name)
    loaded = fleet if isinstance(fleet, Fleet) else load_fleet(fleet)
    signature = inspect.signature(make)
    if plan is not None:
        file = load_plan(plan)
        loaded = planned_fleet(file, loaded)
        if "rule" in signature.parameters:
            settings.setdefault("rule", _rule_of(file))
    try:
        signature.bind(loaded, **settings)
    except TypeError as error:
        known = [key for key in signature.parameters if key != "fleet"]
        cure = f"it takes {', '.join(known)}" if known else "it takes none"
        if "rule" in known:
            cure += "; plan=PATH reads the rule of a plan.json"
        raise ParameterError(f"policy {name}", f"settings: {error}", cure) from None
    return make(loaded, **settings)


def _rule_of(file: PlanFile) -> PriceRule | None:
    """The rule of a plan for the fits, which are what a policy predicts with."""
    if file.plan.robust is not None:
        raise ParameterError(
            "plan",
            f"was made with --robust {file.inputs.robust}: its prices hold with energies averaged"
            " over draws",
            "plan without --robust",
        )
    return file.plan.rule


def find_policy(name: str) -> Callable[..., Policy]:
    """Find the factory of a policy.

    Raises
    ------
    ParameterError
        If there is none of that name.
    """
    if name in POLICIES:
        return POLICIES[name]
    others = {point.name: point for point in entry_points(group=GROUP)}
    if name in others:
        make: Callable[..., Policy] = others[name].load()
        return make
    known = ", ".join(sorted({*POLICIES, *others}))
    raise ParameterError("policy", f"{name!r} is unknown", f"use one of {known}")
