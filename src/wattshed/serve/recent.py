"""What has ended lately: a bounded window of flat records, for those who look at the gateway."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from threading import Lock

import msgspec
from msgspec import structs

from wattshed.serve.call import Call, Weighed, mean_gap_s

MOST = 10_000
"""Records that are kept."""
UNWEIGHED = Weighed({}, {}, {}, {})


class Ended(msgspec.Struct, frozen=True, gc=False):
    """A request that has ended.

    Attributes
    ----------
    end_s : float
        On the clock of the gateway.
    sent_s, first_s, whole_s : float or None
        From its arrival until it was sent, to its first token, where that was seen, and to its end.
    step_s : float or None
        Mean time between its tokens, where they were seen.
    input_tokens, output_tokens : int or None
    joules, idle_joules, method, boundary
        Of its receipt; None where there is none.
    kept : bool or None
        Whether its promise was kept; None where nothing was promised, or not seen.
    own_j, even_j, shadow_j : float or None
        Predicted at the decision: where it went, the mean of the endpoints that it could have gone
        to, and where the shadow policy would have sent it.
    simulated : bool
        Whether the engine says that it is simulated.
    id : str
    tried : tuple of str
        Endpoints that failed it.
    watched : bool
        Whether the endpoint has a meter.
    """

    end_s: float
    endpoint: str
    policy: str
    outcome: str
    sent_s: float | None = None
    first_s: float | None = None
    step_s: float | None = None
    whole_s: float | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    joules: float | None = None
    idle_joules: float | None = None
    method: str = ""
    boundary: str = ""
    kept: bool | None = None
    own_j: float | None = None
    even_j: float | None = None
    shadow_j: float | None = None
    simulated: bool = False
    id: str = ""
    tried: tuple[str, ...] = ()
    watched: bool = False


class Metered(msgspec.Struct, frozen=True, gc=False):
    """What meters said of a request, in place of what its receipt modelled.

    Attributes
    ----------
    endpoints : tuple of str
        Where it was, and is no more: one that failed it, and the one that served it.
    whole : bool
        Whether all of its time there was metered.
    """

    joules: float
    idle_joules: float | None
    method: str
    boundary: str
    endpoints: tuple[str, ...]
    whole: bool = True

    def __add__(self, other: Metered) -> Metered:
        idle = None
        if self.idle_joules is not None and other.idle_joules is not None:
            idle = self.idle_joules + other.idle_joules
        return Metered(
            self.joules + other.joules,
            idle,
            max(self.method, other.method),  # as the ledger has it
            max(self.boundary, other.boundary),
            self.endpoints + other.endpoints,
            self.whole and other.whole,
        )


class Recent:
    """Keeps the latest records.

    Parameters
    ----------
    most : int
        How many of them.

    Attributes
    ----------
    simulated : set of str
        Addresses of engines that have said of an answer that it is simulated: an endpoint may get
        another one when the fleet is read again.
    followers : list of callable
        Told of each record.
    """

    def __init__(self, most: int = MOST) -> None:
        self._records: deque[Ended] = deque(maxlen=most)
        self._metered: dict[str, Metered] = {}
        self._lock = Lock()
        self.simulated: set[str] = set()
        self.followers: list[Callable[[Ended], None]] = []

    def observe(self, call: Call) -> None:
        """Keep what became of a request."""
        found = ended(call)
        if found.simulated and call.target is not None:
            self.simulated.add(call.target.url)
        self._records.append(found)
        for follow in self.followers:
            follow(found)

    def meter(self, request: str, found: Metered) -> None:
        """Keep what was metered of a request at an endpoint; any thread may say so."""
        with self._lock:
            before = self._metered.get(request)
            self._metered[request] = found if before is None else before + found
            while len(self._metered) > MOST:
                del self._metered[next(iter(self._metered))]

    def records(self) -> list[Ended]:
        """In the order of their ends."""
        return list(self._records)

    def metered(self) -> dict[str, Metered]:
        """What was metered, by request."""
        with self._lock:
            return dict(self._metered)

    @property
    def overflows(self) -> bool:
        """Whether older records were dropped."""
        return len(self._records) == self._records.maxlen


def ended(call: Call) -> Ended:
    """The record of a request."""
    used, receipt, choice, target = call.used, call.receipt, call.choice, call.target
    began_s, outcome, first_s = call.request.arrival_s, call.outcome, call.first_s
    weighed = call.weighed or UNWEIGHED
    joules = weighed.joules
    shadow = choice.shadow.endpoint if choice and choice.shadow else None
    return Ended(
        call.end_s or 0.0,
        target.name if target else "",
        choice.policy if choice else "",
        outcome,
        None if call.sent_s is None else call.sent_s - began_s,
        None if first_s is None else first_s - began_s,
        mean_gap_s(call) if first_s is not None and used and used.output_tokens > 1 else None,
        None if call.end_s is None else call.end_s - began_s,
        used.input_tokens if used else None,
        used.output_tokens if used else None,
        receipt.joules if receipt else None,
        receipt.idle_joules if receipt else None,
        receipt.method if receipt else "",
        receipt.boundary if receipt else "",
        call.kept if outcome == "served" else None,
        joules.get(target.deployment.name) if target else None,
        even_joules(joules, weighed.load),
        joules.get(deployment_of(shadow)) if shadow else None,
        call.simulated,
        call.id,
        tuple(call.tried) if call.tried else (),
        target is not None and target.watch is not None,
    )


def with_meters(records: Sequence[Ended], metered: Mapping[str, Metered]) -> list[Ended]:
    """Records, with the energies that were metered where all of them were."""
    return [_with_meter(r, metered.get(r.id)) for r in records]


def _with_meter(record: Ended, found: Metered | None) -> Ended:
    if found is None or not found.whole or record.endpoint not in found.endpoints:
        return record
    return structs.replace(
        record,
        joules=found.joules,
        idle_joules=found.idle_joules,
        method=found.method,
        boundary=found.boundary,
    )


def even_joules(joules: Mapping[str, float], open_endpoints: Iterable[str]) -> float | None:
    """What a request takes in the mean if it goes to any endpoint that is open, each as likely."""
    total_j, number = 0.0, 0
    for deployment, k in _open_by_deployment(tuple(open_endpoints)):
        energy_j = joules.get(deployment)
        if energy_j is not None:
            total_j += energy_j * k
            number += k
    return total_j / number if number else None


@lru_cache(maxsize=1024)
def _open_by_deployment(endpoints: tuple[str, ...]) -> list[tuple[str, int]]:
    """How many endpoints each deployment has; remembered, because the same are mostly open."""
    return list(Counter(map(deployment_of, endpoints)).items())


def deployment_of(endpoint: str) -> str:
    """Endpoints are named DEPLOYMENT/NUMBER."""
    return endpoint.rpartition("/")[0]
