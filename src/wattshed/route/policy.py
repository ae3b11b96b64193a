"""The seam: what a policy is, and how one is made of a filter that all share and a pick."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, runtime_checkable

from wattshed.fleet import Fleet
from wattshed.records import Decision, Endpoint, PriceRule, Request, Served, Told
from wattshed.route.outlook import Outlook, Outlooks
from wattshed.route.refusal import why_none

Pick = Callable[[Request, Outlook, list[Endpoint]], Decision]
"""Picks one of the endpoints that may serve a request; there is at least one."""


class Policy(Protocol):
    """Decides where a request goes: a function of values, without I/O and without a clock.

    A policy that needs memory holds it itself; making it anew resets it.
    """

    def decide(self, request: Request, endpoints: Sequence[Endpoint], now_s: float) -> Decision:
        """Where a request goes.

        Parameters
        ----------
        request : Request
        endpoints : sequence of Endpoint
            In any order, which plays no part.
        now_s : float

        Returns
        -------
        Decision
            An endpoint that is healthy and whose deployment may serve the request, or None with
            the reason.
        """
        ...


@runtime_checkable
class Attentive(Policy, Protocol):
    """A policy that learns from what has become of requests; others need no such method.

    Whoever asks a policy tells it, too: ``if isinstance(policy, Attentive)``, when the last
    token of a request that it sent somewhere is out.
    """

    def finished(self, served: Served) -> None:
        """A request has finished; one that the policy does not know plays no part."""
        ...


Tell = Callable[[], Told]
"""Computes what a decision predicted, when somebody asks."""


@runtime_checkable
class Telling(Policy, Protocol):
    """A policy that can tell what it predicted; others need no such method."""

    def told(self) -> Tell | None:
        """Of the last decision, if it chose. Nothing is computed before it is called."""
        ...


class FilteredPolicy:
    """Keeps to the endpoints that may serve a request, and picks one of them.

    An endpoint may serve a request if it is healthy, its deployment's token limits admit the
    forecast, a query served there alone keeps the SLO of its class, and it would end by the
    deadline if it began now.

    Parameters
    ----------
    fleet : Fleet
    pick : Pick
    rule : PriceRule, optional
        By which deployments are ranked; by energy unless told.

    Raises
    ------
    ParameterError
        If the rule is of other deployments.
    """

    def __init__(self, fleet: Fleet, pick: Pick, rule: PriceRule | None = None) -> None:
        self.fleet = fleet
        self.outlooks = Outlooks(fleet, rule)
        self._pick, self._by_energy = pick, rule is None

    def remember(self, sizes: int) -> None:
        """Keep predictions for this many sizes of requests, and forget the oldest."""
        self.outlooks.remembered = sizes

    def share(self, outlooks: Outlooks) -> None:
        """Use outlooks on the same fleet by energy, if its own are by energy, too."""
        if self._by_energy:
            self.outlooks = outlooks

    def decide(self, request: Request, endpoints: Sequence[Endpoint], now_s: float) -> Decision:
        """Where a request goes; see `Policy`."""
        outlook = self.outlooks.of(request)
        found = open_endpoints(request, outlook, endpoints, now_s)
        if not found:
            return Decision(None, why_none(self.fleet, request, outlook, endpoints, now_s))
        return self._pick(request, outlook, found)


def open_endpoints(
    request: Request, outlook: Outlook, endpoints: Sequence[Endpoint], now_s: float
) -> list[Endpoint]:
    """The endpoints that may serve a request, in the given order."""
    runtime_s = outlook.runtime_s
    found = [e for e in endpoints if e.healthy and e.deployment in runtime_s]
    if request.deadline_s is None:
        return found
    left_s = request.arrival_s + request.deadline_s - now_s
    return [e for e in found if runtime_s[e.deployment] <= left_s]


def send_to_first(order: Iterable[str], outlook: Outlook, found: list[Endpoint]) -> Decision:
    """The least loaded endpoint of the first deployment in `order` that has one."""
    there = {e.deployment for e in found}
    first = next(name for name in order if name in there)
    endpoint = min((e for e in found if e.deployment == first), key=load_and_name)
    return Decision(endpoint.name, "", {k: c for k, c in outlook.cost_j.items() if k in there})


def load_and_name(endpoint: Endpoint) -> tuple[int, str]:
    """By which the least loaded endpoint is the least; the name breaks ties."""
    return endpoint.running + endpoint.waiting, endpoint.name
