"""How long a campaign will take: before it begins, and while it runs. Estimates, for people."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from wattshed.measure.campaign.design import (
    Campaign,
    active_cells,
    cell_is_done,
    most_cells,
)
from wattshed.measure.campaign.grid import Cell, order_of_round
from wattshed.measure.campaign.journal import Journal
from wattshed.measure.campaign.stopping import trials_left
from wattshed.profiles import predict
from wattshed.records import Profile
from wattshed.units import human_duration


@dataclass(frozen=True)
class Outlook:
    """Where a campaign stands.

    Attributes
    ----------
    done, expected : int
        Trials so far, and in the end.
    left_s : float or None
        None until there is a trial to judge by.
    """

    done: int
    expected: int
    left_s: float | None

    @property
    def text(self) -> str:
        """Time left, for a progress bar."""
        return "" if self.left_s is None else f", about {human_duration(self.left_s)} left"


@dataclass(frozen=True)
class Description:
    """What a campaign would do.

    Attributes
    ----------
    cells : tuple of Cell
        In the order of their first round; of an adaptive campaign, the candidates.
    most_cells : int
    at_least, at_most : int
        Trials in all.
    seconds : (least, most) or None
        With rests, without warming up; None if no profile is known.
    """

    cells: tuple[Cell, ...]
    most_cells: int
    at_least: int
    at_most: int
    seconds: tuple[float, float] | None


def describe(campaign: Campaign, profile: Profile | None = None) -> Description:
    """What would be measured, without measuring.

    Parameters
    ----------
    campaign : Campaign
    profile : Profile, optional
        Of the engine, as far as it is known: for the time.
    """
    most, least = most_cells(campaign), len(active_cells(campaign, {}))
    order = order_of_round(len(campaign.cells), campaign.seed, 0)
    seconds = None
    if profile is not None:
        m = np.array([cell.input_tokens for cell in campaign.cells], float)
        n = np.array([cell.output_tokens for cell in campaign.cells], float)
        runtime = np.maximum(predict(profile, m, n).runtime_s, 0.0)
        once = np.sort([trial_seconds(campaign, each, campaign.margin_s) for each in runtime])
        ends = (
            once[:least].sum() * campaign.stop.at_least,
            once[-most:].sum() * campaign.stop.at_most,
        )
        seconds = tuple(float(end) + 2 * campaign.idle_s for end in ends)
    return Description(
        tuple(campaign.cells[i] for i in order),
        most,
        least * campaign.stop.at_least,
        most * campaign.stop.at_most,
        (seconds[0], seconds[1]) if seconds else None,
    )


def outlook(
    campaign: Campaign, journal: Journal, margin_s: float, skipped: Collection[int] = ()
) -> Outlook:
    """Where a campaign stands, from its trials so far."""
    samples = journal.samples
    done = sum(len(found) for found in samples.values())
    left: dict[int, int] = {}
    for cell in set(active_cells(campaign, samples)) - set(skipped):
        found = samples.get(cell, [])
        if not cell_is_done(campaign, cell, found):
            runtimes, energies = [s.runtime_s for s in found], [s.energy_j for s in found]
            left[cell] = trials_left(campaign.stop, runtimes, energies)
    seconds = None
    if samples:
        means = {c: float(np.mean([s.runtime_s for s in found])) for c, found in samples.items()}
        runtime = runtimes_like(campaign.cells, means)
        seconds = sum(
            count * trial_seconds(campaign, runtime[cell], margin_s) for cell, count in left.items()
        )
    return Outlook(done, done + sum(left.values()), seconds)


def trial_seconds(campaign: Campaign, runtime_s: float, margin_s: float) -> float:
    """How long a trial takes, with repeats and rests, from the runtime of one generation."""
    if 0 < runtime_s < campaign.window_s:
        runtime_s *= math.ceil(campaign.window_s / runtime_s) + 2
    return runtime_s + 2 * margin_s


def runtimes_like(cells: Sequence[Cell], known_s: dict[int, float]) -> dict[int, float]:
    """Runtime of all cells from that of some: the known ones, and the others by their tokens.

    An output token is taken to cost as much as many input tokens, as it does in all engines.
    """

    def size(cell: Cell) -> float:
        return cell.output_tokens + cell.input_tokens / 32

    rate = sum(known_s.values()) / sum(size(cells[i]) for i in known_s)
    return {i: known_s.get(i, rate * size(cell)) for i, cell in enumerate(cells)}
