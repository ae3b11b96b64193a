"""The arrays that compiled code works on: what it is told, what it remembers, what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.simulate.model import (
    Array,
    BatchingDeployment,
    Deployment,
    OneQueryDeployment,
    Requests,
)

IDLE, PREFILL, DECODE, QUERY = range(4)
STATES = ("idle", "prefill", "decode", "query")
"""What a replica does: nothing; a step with prompts in it; decoding alone; one query alone."""
ROUND_ROBIN, DRAW, LEAST_OUTSTANDING, POWER_OF_TWO = range(4)
"""Policies, see `wattshed.simulate.routing`."""
NEXT, LAST, ADMISSIONS, RUNS = range(4)
"""Entries of `World.cursor`: next request, last replica in turn, admissions, runs recorded."""

Records = NDArray[np.void]

KIND = np.dtype(
    [
        ("first", "i8"),  # its replicas: first, and one after the last
        ("end", "i8"),
        ("max_batch", "i8"),
        ("chunk", "i8"),
        ("kv", "i8"),
        ("context", "i8"),
        ("row", "i8"),  # of `World.alone` if it serves one query at a time, else -1
        ("tree", "i8"),  # its tournament in `World.load_tree`: begin and end
        ("tree_end", "i8"),
        ("weight", "f8"),  # for the policies that draw
        ("s_context", "f8"),  # rates of time ...
        ("s_prompt", "f8"),
        ("s_pair", "f8"),
        ("j_context", "f8"),  # ... and of energy, per context token, prompt token, prompt pair
        ("j_prompt", "f8"),
        ("j_pair", "f8"),
    ]
)
REPLICA = np.dtype(
    [
        ("kind", "i8"),
        ("slot", "i8"),  # where its places for sequences begin
        ("activity", "i8"),  # one of STATES
        ("begun_s", "f8"),  # of the block under way
        ("steps", "i8"),
        ("prompts", "i8"),
        ("prefill_j", "f8"),  # cost of the step with prompts that is under way
        ("done", "i8"),  # steps so far
        ("batch", "i8"),  # decoding sequences
        ("held", "i8"),  # their context tokens in the next step
        ("own_j", "f8"),  # summed cost of one decoding sequence, without the fixed part
        ("shared_j", "f8"),  # summed share of one sequence in the fixed part
        ("partial", "i8"),  # request whose prompt (or only query) is under way, else -1
        ("partial_done", "i8"),
        ("joins", "i8"),  # prompts that this step finishes
        ("head", "i8"),  # of the waiting line
        ("tail", "i8"),
        ("peaks", "i8"),  # entries in use, see wattshed.simulate.peaks
        ("time_s", "f8", (4,)),  # by state; idle is left to the caller
        ("energy_j", "f8", (4,)),
    ]
)
REQUEST = np.dtype(
    [
        ("arrival_s", "f8"),
        ("start_s", "f8"),
        ("first_s", "f8"),
        ("finish_s", "f8"),  # while it is served: when it lost its place
        ("own_j", "f8"),
        ("shared_j", "f8"),
        ("longest_s", "f8"),  # between two tokens
        ("admitted", "i8"),  # order of admission
        ("inputs", "i4"),
        ("outputs", "i4"),
        ("produced", "i4"),  # tokens before it last began to decode
        ("preemptions", "i4"),
        ("replica", "i4"),  # -1 if rejected
        ("behind", "i4"),  # who waits next
    ]
)
SLOT = np.dtype([("key", "i8"), ("request", "i4"), ("joining", "i4")])
"""Heap of the sequences by the step after which they are finished; requests about to join."""
PEAK = np.dtype([("since", "i8"), ("gap", "f8")])
RUN = np.dtype(
    [("gap", "f8"), ("growth", "f8"), ("steps", "i4"), ("sequences", "i4"), ("replica", "i4")]
)
ALONE = np.dtype([("runtime_s", "f8"), ("energy_j", "f8"), ("first_s", "f8")])


class World(NamedTuple):
    """All there is: deployments (K), replicas (N), requests (Q)."""

    kinds: Any  # KIND (K,)
    seconds: Array  # (K, B + 1): time of a step by batch
    joules: Array  # (K, B + 1)
    replicas: Any  # REPLICA (N,)
    requests: Any  # REQUEST (Q,)
    alone: Any  # ALONE (rows, Q)
    draws: Array  # (Q, 2), or (0, 2) for a policy that draws nothing
    slots: Any  # SLOT
    peaks: Any  # PEAK
    boundary: Array  # (N,) s: when the block under way ends, inf if there is none
    boundary_tree: NDArray[np.int32]
    load: Array  # (N,): requests that were sent there and are not finished
    load_tree: NDArray[np.int32]
    cursor: NDArray[np.int64]


def lay_out(
    deployments: Sequence[Deployment], requests: Requests, weight: Array, draws: Array
) -> World:
    """Nothing has happened yet."""
    kinds, seconds, joules = _kinds(deployments)
    kinds["weight"] = weight
    trees = [tournament(d.replicas) for d in deployments]
    kinds["tree_end"] = np.cumsum([len(tree) for tree in trees])
    kinds["tree"] = kinds["tree_end"] - [len(tree) for tree in trees]
    replicas = _replicas(kinds)
    n, slots = len(replicas), int(kinds["max_batch"][replicas["kind"]].sum())
    return World(
        kinds,
        seconds,
        joules,
        replicas,
        _requests(requests),
        _alone(deployments, len(requests)),
        draws,
        np.zeros(slots, SLOT),
        np.zeros(2 * slots + 2 * n, PEAK),
        np.full(n, np.inf),
        tournament(n),
        np.zeros(n),
        np.concatenate(trees),
        np.array([0, n - 1, 0, 0]),
    )


def tournament(size: int) -> NDArray[np.int32]:
    """Leaves 0 ... size - 1 (-1 beyond) and winners of a tournament in which all are equal."""
    width = 1 << max(size - 1, 0).bit_length()
    tree = np.full(2 * width, -1, np.int32)
    tree[width : width + size] = np.arange(size)
    for node in range(width - 1, 0, -1):
        tree[node] = tree[2 * node]
    return tree


def _kinds(deployments: Sequence[Deployment]) -> tuple[Records, Array, Array]:
    kinds = np.zeros(len(deployments), KIND)
    kinds["end"] = np.cumsum([d.replicas for d in deployments])
    kinds["first"] = kinds["end"] - [d.replicas for d in deployments]
    kinds["row"] = np.cumsum([isinstance(d, OneQueryDeployment) for d in deployments]) - 1
    widest = max((d.max_batch for d in deployments if isinstance(d, BatchingDeployment)), default=0)
    tables = np.zeros((2, len(deployments), widest + 1))
    for k, d in enumerate(deployments):
        if isinstance(d, BatchingDeployment):
            limits = (d.max_batch, d.chunk_tokens, d.kv_tokens, d.max_context_tokens, -1)
            kinds[["max_batch", "chunk", "kv", "context", "row"]][k] = limits
            kinds[["s_context", "s_prompt", "s_pair"]][k] = d.time.rates
            kinds[["j_context", "j_prompt", "j_pair"]][k] = d.energy.rates
            tables[:, k, : d.max_batch + 1] = d.time.by_batch, d.energy.by_batch
    return kinds, tables[0], tables[1]


def _replicas(kinds: Records) -> Records:
    counts = kinds["end"] - kinds["first"]
    replicas = np.zeros(int(counts.sum()), REPLICA)
    replicas["kind"] = np.repeat(np.arange(len(kinds)), counts)
    batch = kinds["max_batch"][replicas["kind"]]
    replicas["slot"] = np.cumsum(batch) - batch
    for name in ("partial", "head", "tail"):
        replicas[name] = -1
    return replicas


def _requests(requests: Requests) -> Records:
    rows = np.zeros(len(requests), REQUEST)
    rows["arrival_s"] = requests.arrival_s
    rows["inputs"], rows["outputs"] = requests.input_tokens, requests.output_tokens
    for name in ("start_s", "first_s", "finish_s"):
        rows[name] = np.nan
    for name in ("replica", "behind"):
        rows[name] = -1
    return rows


def _alone(deployments: Sequence[Deployment], queries: int) -> Records:
    given = [d for d in deployments if isinstance(d, OneQueryDeployment)]
    rows = np.zeros((len(given), queries), ALONE)
    for row, d in zip(rows, given, strict=True):
        row["runtime_s"], row["energy_j"] = d.runtime_s, d.energy_j
        row["first_s"] = np.nan if d.first_token_s is None else d.first_token_s
    return rows
