"""What a simulation finds: one row per request, one per replica, and an account that closes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import Array, Deployment
from wattshed.simulate.gaps import Gaps
from wattshed.simulate.layout import (
    IDLE,
    IN_TRANSIT,
    LOST,
    OFF,
    REJECTED,
    SERVED,
    SERVING,
    SLEEP,
    World,
)
from wattshed.simulate.model import Requests

AT_REST = (IDLE, SLEEP, OFF)


@dataclass(frozen=True)
class Timeline:
    """Energy over time, in bins (B) of equal width; within a block of steps power is its mean.

    Attributes
    ----------
    edges_s : array (B + 1,)
    by_replica_j : array (N, B)
    by_state_j : array (states, B)
    """

    edges_s: Array
    by_replica_j: Array
    by_state_j: Array


class Timed:
    """Latencies of requests (Q) from when they arrived, or were due."""

    requests: Requests
    first_token_s: Array
    finish_s: Array

    @property
    def ttft_s(self) -> Array:
        """From arrival to the first token, (Q,)."""
        return self.first_token_s - self.requests.arrival_s

    @property
    def e2e_s(self) -> Array:
        """From arrival to the last token, (Q,)."""
        return self.finish_s - self.requests.arrival_s

    @property
    def tpot_s(self) -> Array:
        """Mean time between the tokens of a request, (Q,); nan with one token."""
        later = self.requests.output_tokens - 1.0
        span = self.finish_s - self.first_token_s
        return np.asarray(span / np.where(later > 0, later, np.nan))


@dataclass(frozen=True)
class Simulation(Timed):
    """Requests (Q) as they were served by replicas (N).

    Times of requests that were not served are nan; energy is what was spent on them in any case.
    Times count from the same zero as arrivals; replicas are on from 0 to `end_s`.

    Attributes
    ----------
    requests : Requests
    replica : int array (Q,)
        Where each request went; -1 if it was rejected because no deployment can serve it.
    fate : int array (Q,)
        See `FATES`.
    start_s, first_token_s, finish_s : arrays (Q,)
        When it was first admitted, and when its first and its last token were there. A first
        token is nan where a deployment does not say when it comes.
    prefill_energy_j, decode_energy_j : arrays (Q,)
        What the request adds to the steps that it takes part in, above their static power: its
        prompt; its tokens, its context, its place in the batch. One query alone is all decode.
    static_energy_j : array (Q,)
        Its equal share in the static energy of each of these steps.
    longest_gap_s : array (Q,)
        Longest time between two of its tokens; 0 with one token, nan where it is not known.
    preemptions : int array (Q,)
        How often it lost its place to make room in the KV cache and was computed again.
    retries : int array (Q,)
        How often its replica failed before its first token, and it was sent once more.
    deployment : int array (N,)
        Of each replica.
    time_s, energy_j : arrays (N, states)
        Of each replica by state, see `STATES`.
    timeline : Timeline
    gaps : Gaps or None
        All times between tokens, if they were asked for.
    end_s : float
        When the last request was served, or arrived; or when the simulation was stopped.
    partial : bool
        It was stopped before its end.
    names : tuple of str
        Of the deployments.
    policy : str
    seed : int
    """

    requests: Requests
    replica: NDArray[np.int32]
    fate: NDArray[np.int32]
    start_s: Array
    first_token_s: Array
    finish_s: Array
    prefill_energy_j: Array
    decode_energy_j: Array
    static_energy_j: Array
    longest_gap_s: Array
    preemptions: NDArray[np.int32]
    retries: NDArray[np.int32]
    deployment: NDArray[np.int64]
    time_s: Array
    energy_j: Array
    timeline: Timeline
    gaps: Gaps | None
    end_s: float
    partial: bool
    names: tuple[str, ...]
    policy: str
    seed: int

    @property
    def served(self) -> NDArray[np.bool_]:
        """Which requests were served, (Q,)."""
        return np.asarray(self.fate == SERVED)

    @property
    def rejected(self) -> int:
        """Requests that no deployment can serve."""
        return int((self.fate == REJECTED).sum())

    @property
    def lost(self) -> int:
        """Requests whose replica failed while they were served."""
        return int((self.fate == LOST).sum())

    @property
    def wait_s(self) -> Array:
        """From arrival to admission, (Q,)."""
        return self.start_s - self.requests.arrival_s

    @property
    def dynamic_energy_j(self) -> Array:
        """What each request adds, (Q,)."""
        return self.prefill_energy_j + self.decode_energy_j

    @property
    def request_energy_j(self) -> Array:
        """Dynamic and static energy together, (Q,)."""
        return self.dynamic_energy_j + self.static_energy_j

    @property
    def serving_energy_j(self) -> float:
        """Of all replicas while they had something to do."""
        return float(self.energy_j[:, SERVING].sum())

    @property
    def idle_energy_j(self) -> float:
        """Of all replicas while they had nothing to do: idle, asleep or off."""
        return float(self.energy_j[:, AT_REST].sum())

    @property
    def transition_energy_j(self) -> float:
        """Of all replicas while they woke up or booted."""
        return float(self.energy_j[:, IN_TRANSIT].sum())

    @property
    def total_energy_j(self) -> float:
        """Integral of the power of all replicas."""
        return float(self.timeline.by_replica_j.sum())

    @property
    def imbalance(self) -> float:
        """Energy of requests, rest and transitions, less the integral of power, relative to it.

        The one is summed by request and state, the other by replica over time: what differs is
        rounding.
        """
        by_request = float(self.request_energy_j.sum())
        account = by_request + self.idle_energy_j + self.transition_energy_j
        return (account - self.total_energy_j) / max(self.total_energy_j, 1e-300)


def conclude(
    deployments: list[Deployment],
    requests: Requests,
    world: World,
    gaps: Gaps | None,
    policy: str,
    seed: int,
    partial: bool,
) -> Simulation:
    """Turn what was found into a record, and say what is not known."""
    rows, replicas = world.requests, world.replicas
    time_s = replicas["time_s"].copy()
    first_s, finish_s = rows["first_s"].copy(), rows["finish_s"].copy()
    finish_s[rows["fate"] != SERVED] = np.nan
    end_s = float(time_s.sum(axis=1).max(initial=0.0))
    with np.errstate(invalid="ignore"):
        first_s[first_s > end_s * (1 + 1e-12)] = np.nan
    bins = world.bins_j.shape[1]
    edges_s = np.arange(bins + 1) * world.bin_s[0]
    return Simulation(
        requests,
        rows["replica"].copy(),
        rows["fate"].copy(),
        rows["start_s"].copy(),
        first_s,
        finish_s,
        rows["prefill_j"].copy(),
        rows["decode_j"].copy(),
        rows["shared_j"].copy(),
        _longest_gap(world),
        rows["preemptions"].copy(),
        rows["retries"].copy(),
        replicas["kind"].copy(),
        time_s,
        replicas["energy_j"].copy(),
        Timeline(edges_s, world.bins_j, world.stack_j),
        gaps,
        end_s,
        partial,
        tuple(d.name for d in deployments),
        policy,
        seed,
    )


def _longest_gap(world: World) -> Array:
    """Longest gaps (Q,): known for batches, even where queries are served alone."""
    rows = world.requests
    replica = rows["replica"]
    longest: Array = rows["longest_s"].copy()
    alone = (world.kinds["row"] >= 0)[world.replicas["kind"][replica]] & (replica >= 0)
    later = rows["outputs"][alone] - 1
    span = rows["finish_s"][alone] - rows["first_s"][alone]
    longest[alone] = np.where(later > 0, span / np.maximum(later, 1), 0.0)
    longest[rows["fate"] != SERVED] = np.nan
    return longest
