"""Which policies decide: one that is obeyed, one to fall back on, and one that is only recorded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from wattshed.errors import ParameterError
from wattshed.fleet import Fleet
from wattshed.plan.files import load_plan, planned_fleet
from wattshed.records import Decision, Endpoint, Request, Served
from wattshed.route.outlook import Outlooks
from wattshed.route.policy import Attentive, FilteredPolicy, Policy, Tell, Telling
from wattshed.route.registry import find_policy, load_policy
from wattshed.serve.canary import CANARY, Canary
from wattshed.serve.wishes import Wishes
from wattshed.simulate.naming import check_policy, threshold_rule, without_slo

SIZES = 4096
"""Sizes of requests for which each policy keeps its predictions: a gateway runs for ever.

With four deployments an outlook takes about 830 bytes and the cost of a query alone 320. Eight can
be there (the account of what was weighed, three for wishes, and policies with a rule of their own:
policy, default, shadow and canary), six of them with costs of queries alone: 35 MB.
`receipt.REMEMBERED` for each deployment: 33 MB.
"""
PROMISING = ("frugal", "packed")
"""Policies that are told the promises: they serve late rather than not at all."""


class Choice(msgspec.Struct, frozen=True):
    """What was decided.

    Attributes
    ----------
    policy : str
        That was obeyed.
    shadow : Decision or None
        Of the policy that is only recorded.
    arm : str or None
        Group of the request where a canary is on trial.
    tell : callable or None
        Computes what was weighed.
    """

    decision: Decision
    policy: str
    shadow: Decision | None = None
    arm: str | None = None
    tell: Tell | None = None


class Decider:
    """Asks the policies. It holds no socket and no clock, so that it can be replayed.

    Parameters
    ----------
    fleet : Fleet
    policy : str
        Named as ``wattshed simulate`` names it: ``single:DEPLOYMENT`` and
        ``threshold:SMALL,LARGE,T_IN`` are names, too.
    default : str
        What decides once `switch_off` was called.
    shadow : str, optional
        Decides, too, and is not obeyed.
    plan : str or Path, optional
        plan.json of the fleet, for the policy ``prices``.
    canary : Canary, optional
        Decides for a part of the requests.
    epoch_s : float
        Time since 1970 at which the clock of requests was 0: for what carbon is caused when.

    Raises
    ------
    ParameterError, FileError

    Attributes
    ----------
    active : str
        Policy that is obeyed now.
    is_off : bool
        Whether it was switched off.
    outlooks : Outlooks
        By energy, of the fleet as policies see it.
    """

    def __init__(
        self,
        fleet: Fleet,
        policy: str = "frugal",
        *,
        default: str = "least-loaded",
        shadow: str | None = None,
        plan: str | Path | None = None,
        canary: Canary | None = None,
        epoch_s: float = 0.0,
    ) -> None:
        self._wishes = Wishes(without_slo(fleet), epoch_s)
        names = [policy, default, *([canary.policy] if canary else [])]
        self._policies = {name: make_policy(name, fleet, plan) for name in dict.fromkeys(names)}
        self._attentive = {n: p for n, p in self._policies.items() if isinstance(p, Attentive)}
        self._telling = {n: p for n, p in self._policies.items() if isinstance(p, Telling)}
        self._shadow = None if shadow is None else make_policy(shadow, fleet, plan)
        self._told = self._shadow if isinstance(self._shadow, Attentive) else None
        self._wishes.remember(SIZES)
        self.outlooks = Outlooks(without_slo(fleet), remembered=SIZES)
        for each in [*self._policies.values(), self._shadow]:
            if isinstance(each, FilteredPolicy):
                each.share(self.outlooks)
                each.remember(SIZES)
        self.policy, self.default, self.shadow, self.canary = policy, default, shadow, canary
        self.active, self.is_off = policy, False

    def switch_off(self) -> None:
        """Let the default decide."""
        self.active, self.is_off = self.default, True

    def switch_on(self) -> None:
        """Let the policy decide again."""
        self.active, self.is_off = self.policy, False

    def decide(self, request: Request, endpoints: Sequence[Endpoint], now_s: float) -> Choice:
        """Where a request goes; see `Policy.decide`."""
        name, decides, arm = self._who(request)
        decision = decides.decide(request, endpoints, now_s)
        telling = self._telling.get(name) if decision.endpoint else None
        tell = telling.told() if telling else None
        shadow = None
        # Of a request that waits it would remember what nobody tells it the end of.
        if self._shadow is not None and _may_go(decision, endpoints):
            shadow = self._shadow.decide(request, endpoints, now_s)
        return Choice(decision, name, shadow, arm, tell)

    def _who(self, request: Request) -> tuple[str, Policy, str | None]:
        """The policy that decides for a request, and the group that it is in.

        What is switched off is all of it, wishes included; and who wishes is in no group.
        """
        name, arm, canary = self.active, None, self.canary
        if self.is_off:
            return name, self._policies[name], None
        wished = self._wishes.policy(request)
        if wished is not None:
            return *wished, None
        if canary is not None:
            arm = canary.group(request.id)
            name = canary.policy if arm == CANARY else name
        return name, self._policies[name], arm

    def finished(self, served: Served, policy: str, shadow: Decision | None = None) -> None:
        """Tell the policy that decided what became of the request, and the shadow.

        The shadow learns from what it would have done, too. Of what went elsewhere nobody knows
        what would have become: it hears that the request is over, and can forget it.

        Parameters
        ----------
        served : Served
        policy : str
            That was obeyed.
        shadow : Decision, optional
            What the shadow decided when the request was sent for the last time.
        """
        if policy in self._attentive:
            self._attentive[policy].finished(served)
        if self._told is not None and shadow is not None:
            there, own = served.endpoint, shadow.endpoint
            other = Served(served.id, own or there, served.finished_s)
            self._told.finished(served if own == there else other)


def _may_go(decision: Decision, endpoints: Sequence[Endpoint]) -> bool:
    """Whether a request is sent where a policy names."""
    return any(e.name == decision.endpoint and e.healthy for e in endpoints)


def make_policy(text: str, fleet: Fleet, plan: str | Path | None = None) -> Policy:
    """A policy by its name, as the simulator has it: it refuses no request for its SLO.

    Raises
    ------
    ParameterError, FileError
    """
    check_policy(text, fleet)
    name, _, detail = text.partition(":")
    if name == "prices":
        return _planned(fleet, plan)
    settings: dict[str, Any] = {}
    if name in PROMISING:
        settings["promises"] = fleet.slo
    if name == "single":
        settings["deployment"] = detail
    if name == "threshold":
        rule = threshold_rule(fleet, detail)
        settings = {key: getattr(rule, key) for key in rule.__struct_fields__}
    return load_policy(name, fleet=without_slo(fleet), **settings)


def _planned(fleet: Fleet, plan: str | Path | None) -> Policy:
    if plan is None:
        raise ParameterError("policy prices", "no plan", "give the plan.json with --plan")
    file = load_plan(plan)
    if file.plan.rule is None:
        raise ParameterError("plan", f"{plan} has no rule", "plan without --robust")
    return find_policy("prices")(without_slo(planned_fleet(file, fleet)), rule=file.plan.rule)
