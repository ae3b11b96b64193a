"""What a simulation finds: one row per request, one per replica, and an account that closes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.simulate.gaps import Gaps
from wattshed.simulate.layout import IDLE, World
from wattshed.simulate.model import Array, Deployment, Requests


@dataclass(frozen=True)
class Simulation:
    """Requests (Q) as they were served by replicas (N).

    Times of requests that were not served are nan, their energy is 0. Times count from the same
    zero as arrivals; replicas are on from 0 to `end_s`.

    Attributes
    ----------
    requests : Requests
    replica : int array (Q,)
        Where each request went; -1 if it was rejected because no deployment can serve it.
    start_s, first_token_s, finish_s : arrays (Q,)
        When it was first admitted, and when its first and its last token were there. A first
        token is nan where a deployment does not say when it comes.
    own_energy_j : array (Q,)
        What the request adds to the steps that it takes part in: its tokens, its context, its
        place in the batch.
    shared_energy_j : array (Q,)
        Its equal share in what each of these steps costs whatever is in it.
    longest_gap_s : array (Q,)
        Longest time between two of its tokens; 0 with one token, nan where it is not known.
    preemptions : int array (Q,)
        How often it lost its place to make room in the KV cache and was computed again.
    deployment : int array (N,)
        Of each replica.
    time_s, energy_j : arrays (N, 4)
        Of each replica by state, see `STATES`.
    gaps : Gaps or None
        All times between tokens, if they were asked for.
    end_s : float
        When the last request was served, or arrived.
    names : tuple of str
        Of the deployments.
    policy : str
    seed : int
    """

    requests: Requests
    replica: NDArray[np.int32]
    start_s: Array
    first_token_s: Array
    finish_s: Array
    own_energy_j: Array
    shared_energy_j: Array
    longest_gap_s: Array
    preemptions: NDArray[np.int32]
    deployment: NDArray[np.int64]
    time_s: Array
    energy_j: Array
    gaps: Gaps | None
    end_s: float
    names: tuple[str, ...]
    policy: str
    seed: int

    @property
    def rejected(self) -> int:
        """Requests that no deployment can serve."""
        return int((self.replica < 0).sum())

    @property
    def wait_s(self) -> Array:
        """From arrival to admission, (Q,)."""
        return self.start_s - self.requests.arrival_s

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

    @property
    def request_energy_j(self) -> Array:
        """Own energy and share together, (Q,)."""
        return self.own_energy_j + self.shared_energy_j

    @property
    def idle_energy_j(self) -> float:
        """Of all replicas while they had nothing to do."""
        return float(self.energy_j[:, IDLE].sum())

    @property
    def total_energy_j(self) -> float:
        """Integral of the power of all replicas."""
        return float(self.energy_j.sum())

    @property
    def imbalance(self) -> float:
        """Energy of requests and idling, less the integral of power, relative to the latter.

        The one is summed by request, the other by replica: what differs is rounding.
        """
        by_request = float(self.request_energy_j.sum()) + self.idle_energy_j
        return (by_request - self.total_energy_j) / max(self.total_energy_j, 1e-300)


def conclude(
    deployments: list[Deployment],
    requests: Requests,
    world: World,
    gaps: Gaps | None,
    policy: str,
    seed: int,
) -> Simulation:
    """Turn what was found into a record; adds idling, and says what is not known."""
    rows, replicas = world.requests, world.replicas
    replica = rows["replica"].copy()
    end = max(requests.arrival_s.max(initial=0.0), np.nanmax(rows["finish_s"], initial=0.0))
    time, energy = replicas["time_s"].copy(), replicas["energy_j"].copy()
    # Below 0 by rounding only: no replica is busy for longer than the whole.
    time[:, IDLE] = np.maximum(end - time.sum(axis=1), 0.0)
    idle_power_w = np.array([d.idle_power_w for d in deployments])
    energy[:, IDLE] = idle_power_w[replicas["kind"]] * time[:, IDLE]
    return Simulation(
        requests,
        replica,
        rows["start_s"].copy(),
        rows["first_s"].copy(),
        rows["finish_s"].copy(),
        rows["own_j"].copy(),
        rows["shared_j"].copy(),
        _longest_gap(world, replica),
        rows["preemptions"].copy(),
        replicas["kind"].copy(),
        time,
        energy,
        gaps,
        float(end),
        tuple(d.name for d in deployments),
        policy,
        seed,
    )


def _longest_gap(world: World, replica: NDArray[np.int32]) -> Array:
    """Longest gaps (Q,): known for batches, even where queries are served alone."""
    rows = world.requests
    longest: Array = rows["longest_s"].copy()
    alone = (world.kinds["row"] >= 0)[world.replicas["kind"][replica]] & (replica >= 0)
    later = rows["outputs"][alone] - 1
    span = rows["finish_s"][alone] - rows["first_s"][alone]
    longest[alone] = np.where(later > 0, span / np.maximum(later, 1), 0.0)
    longest[replica < 0] = np.nan
    return longest
