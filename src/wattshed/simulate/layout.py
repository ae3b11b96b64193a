"""The arrays that compiled code works on: what it is told, what it remembers, what it finds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import Array, BatchingDeployment, Deployment, OneQueryDeployment
from wattshed.engines.tables import tabulate
from wattshed.simulate.model import Outage, Requests

IDLE, PREFILL, DECODE, QUERY, SLEEP, WAKE, OFF, BOOT = range(8)
STATES = ("idle", "prefill", "decode", "query", "sleep", "wake", "off", "boot")
"""What a replica does: nothing; a step with prompts in it; decoding alone; one query alone;
sleeping; waking up; being off in an outage; coming back from one."""
SERVING = (PREFILL, DECODE, QUERY)
IN_TRANSIT = (WAKE, BOOT)
NEXT, LAST, ADMISSIONS, RUNS, NEXT_OUTAGE, AGAIN, CHOSEN, EVENTS = range(8)
"""Entries of `World.cursor`: next request, last replica in turn, admissions, runs recorded, next
event of an outage, requests to be sent once more, replica chosen by a caller, events so far."""
UNDECIDED = -2
"""`World.cursor[CHOSEN]` while no caller has chosen."""
WAITING, SERVED, REJECTED, LOST = range(4)
FATES = ("unfinished", "served", "rejected", "lost")
"""What became of a request."""
FAILS, DRAINS, ENDS, RETURNS = range(4)
"""Events of an outage."""
UP, LEAVING, DOWN = range(3)
BINS = 512
"""Of the timelines."""

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
        ("clock", "i8"),  # its clocks in `World.clocks`: first, and one after the last
        ("clock_end", "i8"),
        ("weight", "f8"),  # for the policies that draw
        ("idle_w", "f8"),
        ("static_w", "f8"),
        ("sleep_after_s", "f8"),  # inf: never
        ("sleep_w", "f8"),
        ("wake_s", "f8"),
        ("wake_j", "f8"),
        ("boot_s", "f8"),
        ("boot_j", "f8"),
    ]
)
REPLICA = np.dtype(
    [
        ("kind", "i8"),
        ("slot", "i8"),  # where its places for sequences begin
        ("activity", "i8"),  # one of STATES
        ("up", "i8"),  # UP, LEAVING or DOWN
        ("clock", "i8"),  # of World.clocks
        ("cap", "i8"),  # most sequences that its controller lets in
        ("begun_s", "f8"),  # of the block under way
        ("clocked_s", "f8"),  # when the clock was last raised
        ("usual_there", "f8"),  # requests, on average lately
        ("trust", "f8"),  # part of the limits that its controller may use
        ("excess_s", "f8"),  # by how much prompts lengthened steps lately, on average
        ("steps", "i8"),
        ("prompts", "i8"),
        ("prompt_tokens", "i8"),
        ("prompt_pairs", "f8"),
        ("done", "i8"),  # steps so far
        ("batch", "i8"),  # decoding sequences
        ("held", "i8"),  # their context tokens in the next step
        ("own_j", "f8"),  # summed dynamic energy of one decoding sequence, without its context
        ("shared_j", "f8"),  # summed static energy of one sequence
        ("rate_j", "f8"),  # summed dynamic energy per context token ...
        ("index_j", "f8"),  # ... and the same times the number of the step
        ("partial", "i8"),  # request whose prompt (or only query) is under way, else -1
        ("partial_done", "i8"),
        ("partial_take", "i8"),  # in this step
        ("joins", "i8"),  # prompts that this step finishes
        ("head", "i8"),  # of the waiting line
        ("tail", "i8"),
        ("queued", "i8"),  # requests in it
        ("queued_tokens", "i8"),  # prompt tokens of these requests
        ("peaks", "i8"),  # entries in use, see wattshed.simulate.peaks
        ("time_s", "f8", (len(STATES),)),
        ("energy_j", "f8", (len(STATES),)),
    ]
)
REQUEST = np.dtype(
    [
        ("arrival_s", "f8"),
        ("start_s", "f8"),
        ("first_s", "f8"),
        ("finish_s", "f8"),  # while it is served: when it lost its place
        ("prefill_j", "f8"),
        ("decode_j", "f8"),
        ("shared_j", "f8"),
        ("charged_j", "f8"),  # to budgets, when it was sent
        ("longest_s", "f8"),  # between two tokens
        ("admitted", "i8"),  # order of admission
        ("inputs", "i4"),
        ("outputs", "i4"),
        ("produced", "i4"),  # tokens before it last began to decode
        ("preemptions", "i4"),
        ("retries", "i4"),
        ("fate", "i4"),
        ("replica", "i4"),  # -1 if rejected
        ("behind", "i4"),  # who waits next
    ]
)
SLOT = np.dtype(
    [
        ("key", "i8"),
        ("request", "i4"),
        ("joining", "i4"),
        ("take", "i4"),
        ("before", "i4"),
    ]
)
"""Heap of the sequences by the step after which they are finished; apart from it requests about
to join, with the prompt tokens that this step takes and those taken before."""
PEAK = np.dtype([("since", "i8"), ("gap", "f8")])
RUN = np.dtype(
    [("gap", "f8"), ("growth", "f8"), ("steps", "i4"), ("sequences", "i4"), ("replica", "i4")]
)
ALONE = np.dtype([("runtime_s", "f8"), ("energy_j", "f8"), ("first_s", "f8")])
OUTAGE = np.dtype([("at_s", "f8"), ("replica", "i4"), ("what", "i4")])


class World(NamedTuple):
    """All there is: deployments (K), clocks (F), replicas (N), requests (Q), bins (B)."""

    kinds: Any  # KIND (K,)
    clocks: Any  # CLOCK (F,)
    pieces: Any  # PIECE
    seconds: Array  # (F, b + 1): time of a step by batch
    joules: Array  # (F, b + 1)
    replicas: Any  # REPLICA (N,)
    requests: Any  # REQUEST (Q,)
    alone: Any  # ALONE (rows, Q)
    slots: Any  # SLOT
    peaks: Any  # PEAK
    boundary: Array  # (N,) s: when the block under way ends, inf if there is none
    boundary_tree: NDArray[np.int32]
    load: Array  # (N,): requests that were sent there and are not finished; more if it is down
    load_tree: NDArray[np.int32]
    outages: Any  # OUTAGE, in order
    again: NDArray[np.int64]  # (Q,): requests to be sent once more
    bins_j: Array  # (N, B)
    stack_j: Array  # (states, B)
    bin_s: Array  # (1,): width of the bins
    cursor: NDArray[np.int64]


def lay_out(
    deployments: Sequence[Deployment],
    requests: Requests,
    weight: Array,
    outages: Sequence[Outage] = (),
) -> World:
    """Nothing has happened yet."""
    tables, first_clock = tabulate(deployments)
    kinds = _kinds(deployments)
    kinds["clock"], kinds["clock_end"] = first_clock[:-1], first_clock[1:]
    kinds["weight"] = weight
    trees = [tournament(d.replicas) for d in deployments]
    kinds["tree_end"] = np.cumsum([len(tree) for tree in trees])
    kinds["tree"] = kinds["tree_end"] - [len(tree) for tree in trees]
    replicas = _replicas(kinds)
    n, slots = len(replicas), int(kinds["max_batch"][replicas["kind"]].sum())
    span = requests.arrival_s.max(initial=0.0)
    cursor = np.zeros(8, np.int64)
    cursor[LAST], cursor[CHOSEN] = n - 1, UNDECIDED
    return World(
        kinds,
        *tables,
        replicas,
        _requests(requests),
        _alone(deployments, len(requests)),
        np.zeros(slots, SLOT),
        np.zeros(2 * slots + 2 * n, PEAK),
        np.full(n, np.inf),
        tournament(n),
        np.zeros(n),
        np.concatenate(trees),
        _outages(outages, replicas, kinds),
        np.zeros(len(requests), np.int64),
        np.zeros((n, BINS)),
        np.zeros((len(STATES), BINS)),
        np.array([max(span, 1.0) / BINS]),
        cursor,
    )


def tournament(size: int) -> NDArray[np.int32]:
    """Leaves 0 ... size - 1 (-1 beyond) and winners of a tournament in which all are equal."""
    width = 1 << max(size - 1, 0).bit_length()
    tree = np.full(2 * width, -1, np.int32)
    tree[width : width + size] = np.arange(size)
    for node in range(width - 1, 0, -1):
        tree[node] = tree[2 * node]
    return tree


def _kinds(deployments: Sequence[Deployment]) -> Records:
    kinds = np.zeros(len(deployments), KIND)
    kinds["end"] = np.cumsum([d.replicas for d in deployments])
    kinds["first"] = kinds["end"] - [d.replicas for d in deployments]
    kinds["row"] = np.cumsum([isinstance(d, OneQueryDeployment) for d in deployments]) - 1
    kinds["idle_w"] = kinds["static_w"] = [d.idle_power_w for d in deployments]
    kinds["sleep_after_s"] = np.inf
    kinds["boot_s"] = [d.boot.ready_s for d in deployments]
    kinds["boot_j"] = [d.boot.ready_energy_j for d in deployments]
    for k, d in enumerate(deployments):
        if isinstance(d, BatchingDeployment):
            limits = (d.max_batch, d.chunk_tokens, d.kv_tokens, d.max_context_tokens, -1)
            kinds[["max_batch", "chunk", "kv", "context", "row"]][k] = limits
            kinds["static_w"][k] = d.static_power_w
            if d.sleep is not None:
                s = d.sleep
                figures = (s.after_s, s.power_w, s.ready_s, s.ready_energy_j)
                kinds[["sleep_after_s", "sleep_w", "wake_s", "wake_j"]][k] = figures
    return kinds


def _replicas(kinds: Records) -> Records:
    counts = kinds["end"] - kinds["first"]
    replicas = np.zeros(int(counts.sum()), REPLICA)
    replicas["kind"] = np.repeat(np.arange(len(kinds)), counts)
    batch = kinds["max_batch"][replicas["kind"]]
    replicas["slot"] = np.cumsum(batch) - batch
    replicas["cap"] = batch
    replicas["clock"] = kinds["clock_end"][replicas["kind"]] - 1
    replicas["clocked_s"] = -np.inf
    replicas["trust"] = 1.0
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


def _outages(outages: Sequence[Outage], replicas: Records, kinds: Records) -> Records:
    """Beginnings, ends and returns in order of time; at equal times ends come first."""
    rows = []
    for outage in outages:
        rows.append((outage.start_s, outage.replica, DRAINS if outage.drains else FAILS))
        if np.isfinite(outage.end_s):
            boot_s = kinds["boot_s"][replicas["kind"][outage.replica]]
            rows.append((outage.end_s, outage.replica, ENDS))
            rows.append((outage.end_s + boot_s, outage.replica, RETURNS))
    rows.sort(key=lambda row: (row[0], row[2] < ENDS, row[1], row[2]))
    return np.array(rows, OUTAGE)
