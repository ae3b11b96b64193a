"""A whole replay: send, sum up, lay beside other runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from wattshed.fleet import Fleet
from wattshed.records import ReplayResults
from wattshed.replay.compare import Other, compare
from wattshed.replay.door import Door
from wattshed.replay.outcome import Replay
from wattshed.replay.send import Report, replay
from wattshed.replay.summary import summarise
from wattshed.replay.table import request_table
from wattshed.simulate.scenario import Arrivals
from wattshed.simulate.summary import rates_of


@dataclass(frozen=True)
class Replayed:
    """What a replay found.

    Attributes
    ----------
    results : ReplayResults
    table : DataFrame
        One row for each request.
    """

    results: ReplayResults
    table: pl.DataFrame


def replay_workload(  # noqa: PLR0913 - each is one thing that may be chosen
    door: Door,
    arrivals: Arrivals,
    fleet: Fleet | None = None,
    *,
    policy: str = "gateway",
    others: Sequence[Other] = (),
    target: float = 0.99,
    every_token: bool = False,
    seed: int = 0,
    report: Report | None = None,
) -> Replayed:
    """Send a workload to live engines as it came, and report as `simulate_fleet` does.

    Parameters
    ----------
    door : Door
        Where it goes.
    arrivals : Arrivals
    fleet : Fleet, optional
        The one behind the gateway: its promises, and the idle power of its replicas.
    policy : str
        What decides there, for people.
    others : sequence of Other
        Runs to lay it beside.
    target, every_token
        See `simulate_fleet`.
    seed : int
        Of arrivals that are drawn, and of the prompts.
    report : callable, optional
        See `wattshed.replay.send.replay`.
    """
    found = replay(arrivals.draw(seed), door, seed=seed, report=report)
    return told(
        found,
        door,
        arrivals,
        fleet,
        policy=policy,
        others=others,
        target=target,
        every_token=every_token,
        seed=seed,
    )


def told(  # noqa: PLR0913 - what was seen, and how it came about
    found: Replay,
    door: Door,
    arrivals: Arrivals,
    fleet: Fleet | None = None,
    *,
    policy: str = "gateway",
    others: Sequence[Other] = (),
    target: float = 0.99,
    every_token: bool = False,
    seed: int = 0,
) -> Replayed:
    """What a replay that was sent comes to; see `replay_workload`."""
    settings = {} if door.engine_speed == 1 else {"engine speed": f"{door.engine_speed:g}"}
    ours = summarise(found, fleet, name=policy, settings=settings, every_token=every_token)
    table = request_table(found, policy)
    name = arrivals.workload.name
    compared = [compare(ours, table, name, each, target=target, seed=seed) for each in others]
    results = ReplayResults(
        fleet.name if fleet else "",
        name,
        arrivals.description,
        len(found.requests),
        rates_of(found.requests),
        1,
        [seed],
        [ours],
        [saving for each in compared for saving in each.savings],
        _notes(door),
        found.partial,
        compared,
    )
    return Replayed(results, table)


def _notes(door: Door) -> list[str]:
    notes = ["the first request is due at 0; the end is the last answer"]
    if door.engine_speed != 1:
        notes.append(
            f"one second of ours was {door.engine_speed:g} of the engines: what client and gateway"
            " need for themselves counts as so much more"
        )
    return notes
