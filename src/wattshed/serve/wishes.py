"""What a client may wish for a request: a weight of energy, or the greenest endpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from wattshed.fleet import Fleet
from wattshed.records import Request
from wattshed.route.policy import Policy
from wattshed.route.wishes import Greenest, carbon_factors, weighted
from wattshed.serve.refused import RefusedError

LAMBDA, GREENEST = "x-wattshed-lambda", "x-wattshed-greenest"
SPOKEN = {"true": True, "false": False}


class Wish(NamedTuple):
    """What a request asks for; see `Request`."""

    energy_weight: float | None = None
    greenest: bool = False


NO_WISH = Wish()


def read_wish(headers: Mapping[str, str]) -> Wish:
    """The wish in the headers of a request.

    Raises
    ------
    RefusedError
        Naming header, value and cure.
    """
    if LAMBDA not in headers and GREENEST not in headers:
        return NO_WISH
    wish = Wish(_weight(headers.get(LAMBDA)), _greenest(headers.get(GREENEST)))
    if wish.greenest and wish.energy_weight is not None:
        found = f"{GREENEST}: 'true' beside {LAMBDA}: '{wish.energy_weight:g}'"
        raise RefusedError(400, f"{found}; send one of them", "invalid_value", param=GREENEST)
    return wish


def _weight(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 <= weight <= 1:
        message = f"{LAMBDA}: {text!r}; give the weight of energy, from 0 to 1"
        raise RefusedError(400, message, "invalid_value", param=LAMBDA)
    return weight


def _greenest(text: str | None) -> bool:
    found = SPOKEN.get((text or "false").strip().lower())
    if found is None:
        message = f"{GREENEST}: {text!r}; give true, or leave it out"
        raise RefusedError(400, message, "invalid_value", param=GREENEST)
    return found


class Wishes:
    """The policies that decide for requests with a wish.

    Parameters
    ----------
    fleet : Fleet
        As policies see it that serve late rather than not at all.
    epoch_s : float
        Time since 1970 at which the clock of the gateway was 0.
    """

    def __init__(self, fleet: Fleet, epoch_s: float) -> None:
        self._fleet, self._epoch_s = fleet, epoch_s
        self._weighted, self._by_energy = weighted(fleet), Greenest(fleet)
        self._by_carbon = Greenest(fleet, self._factors)

    def remember(self, sizes: int) -> None:
        """See `FilteredPolicy.remember`."""
        for policy in (self._weighted, self._by_energy, self._by_carbon):
            policy.remember(sizes)

    def policy(self, request: Request) -> tuple[str, Policy] | None:
        """What decides for a request, with its name in the ledger; None if it wishes nothing.

        Carbon decides where it is known of every deployment when the request comes, and energy
        otherwise.
        """
        if request.energy_weight is not None:
            return "weighted", self._weighted
        if not request.greenest:
            return None
        if self._known(request.arrival_s) is None:
            return "greenest:energy", self._by_energy
        return "greenest:carbon", self._by_carbon

    def _known(self, at_s: float) -> dict[str, float] | None:
        return carbon_factors(self._fleet, self._epoch_s + at_s)

    def _factors(self, at_s: float) -> Mapping[str, float]:
        return self._known(at_s) or {}
