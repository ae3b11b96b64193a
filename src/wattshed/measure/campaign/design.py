"""A campaign as decided beforehand, and which trial comes next: a function of the trials so far."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

import msgspec

from wattshed.errors import ParameterError
from wattshed.measure.campaign.adaptive import choose
from wattshed.measure.campaign.grid import EXPERIMENTS, Cell, order_of_round, start_of
from wattshed.measure.campaign.guard import Guard
from wattshed.measure.campaign.stopping import Decision, Paper, Rule, is_enough
from wattshed.profiles import predict, predict_draws
from wattshed.records import Profile


class Rival(msgspec.Struct, frozen=True):
    """Energy of one query of each cell on another system, in joules.

    Attributes
    ----------
    profile : str
    value_j, low_j, high_j : tuple of float
        By cell; low and high are the 95 % interval, or the value where none is known.
    """

    profile: str
    value_j: tuple[float, ...]
    low_j: tuple[float, ...]
    high_j: tuple[float, ...]


class Campaign(msgspec.Struct, frozen=True):
    """Everything that is decided before the first trial.

    Attributes
    ----------
    cells : tuple of Cell
        For ``adaptive``, the candidates.
    stop : Rule
    name : str
        Of the preset, or ``explicit``.
    seed : int
        Of the order.
    warm_up : int
        Generations before the first trial of a session.
    idle_s : float
        Of each idle baseline; 0 for none.
    margin_s : float
        For which meters are read before and after a trial, while nothing is asked.
    window_s : float
        Queries that are shorter are repeated in a trial until they fill so much time, with one
        more before and after it: at its ends the power is then that of queries, not of a change
        from rest to work, in the middle of which no counter can be read. What passes between
        repeats counts as theirs. 0 for single queries.
    interval_s : float
        Between two readings of a meter.
    max_cells : int or None
        Of an ``adaptive`` campaign.
    guard : Guard or None
    rival : Rival or None
    """

    cells: tuple[Cell, ...]
    stop: Rule = Paper()
    name: str = "explicit"
    seed: int = 0
    warm_up: int = 3
    idle_s: float = 30.0
    margin_s: float = 1.0
    window_s: float = 5.0
    interval_s: float = 0.005
    max_cells: int | None = None
    guard: Guard | None = None
    rival: Rival | None = None

    @property
    def experiment(self) -> str:
        """What its runs are called."""
        return EXPERIMENTS.get(self.name, self.name)

    @property
    def is_adaptive(self) -> bool:
        """Cells are chosen one after the other."""
        return self.name == "adaptive"


class Sample(msgspec.Struct, frozen=True):
    """What the decisions need to know of a trial.

    Attributes
    ----------
    runtime_s : float
    energy_j : float or None
        Of one query.
    """

    runtime_s: float
    energy_j: float | None


Samples = Mapping[int, Sequence[Sample]]
"""Trials so far, in order, by the index of their cell."""


def check(campaign: Campaign) -> Campaign:
    """Refuse a campaign that makes no sense.

    Raises
    ------
    ParameterError
    """
    stop = campaign.stop
    if not 1 <= stop.at_least <= stop.at_most:
        found = f"at least {stop.at_least} and at most {stop.at_most} trials"
        raise ParameterError("stop", found, "give 1 <= least <= most")
    aims = [getattr(stop, name) for name in ("half_width_s", "part") if hasattr(stop, name)]
    if any(not 0 < aim < math.inf for aim in aims):
        raise ParameterError("stop", f"{aims[0]}", "give a number above 0")
    if (isinstance(stop, Decision) or campaign.is_adaptive) and campaign.rival is None:
        raise ParameterError("stop", "there is no rival", "name a profile to decide against")
    if not campaign.interval_s > 0:
        raise ParameterError("interval", f"{campaign.interval_s} s", "give seconds above 0")
    settings = {(c.batch_size, c.clock_mhz, c.power_limit_w) for c in campaign.cells}
    if campaign.is_adaptive and len(settings) > 1:
        found = f"an adaptive campaign over {len(settings)} settings"
        raise ParameterError("cells", found, "give one batch size, one clock and one power limit")
    for name in ("warm_up", "idle_s", "margin_s", "window_s"):
        if not 0 <= getattr(campaign, name) < math.inf:
            raise ParameterError(name, f"{getattr(campaign, name)}", "give a number from 0 up")
    return campaign


def rival_of(profile: Profile, cells: Sequence[Cell]) -> Rival:
    """What a profile predicts for cells, with its 95 % interval where it has one.

    Raises
    ------
    ParameterError
        Where it predicts no positive energy.
    """
    import numpy as np

    m = np.array([cell.input_tokens for cell in cells], float)
    n = np.array([cell.output_tokens for cell in cells], float)
    value = predict(profile, m, n).energy_j
    for cell, energy_j in zip(cells, value.tolist(), strict=True):
        if not energy_j > 0:
            found = f"{profile.name} predicts {energy_j:.3g} J for {cell}"
            raise ParameterError("rival", found, "use another profile, or fewer cells")
    draws = predict_draws(profile, m, n)
    low, high = (value, value) if draws is None else np.percentile(draws[0], [2.5, 97.5], axis=0)
    ends = np.minimum(low, value), np.maximum(high, value)
    return Rival(profile.name, tuple(value.tolist()), *(tuple(end.tolist()) for end in ends))


def next_trial(
    campaign: Campaign, done: Samples, skipped: Collection[int] = ()
) -> tuple[int, int] | None:
    """Cell and number of the next trial; None when everything has been measured.

    It depends on nothing but its arguments: a campaign that was broken off goes on as if it had
    not been.

    Parameters
    ----------
    campaign : Campaign
    done : mapping of int to sequence of Sample
    skipped : collection of int
        Cells that the engine cannot serve.
    """
    active = set(active_cells(campaign, done)) - set(skipped)
    open_cells = {i for i in active if not cell_is_done(campaign, i, done.get(i, ()))}
    if open_cells:
        number = min(len(done.get(i, ())) for i in open_cells)
        order = order_of_round(len(campaign.cells), campaign.seed, number)
        first = next(i for i in order if i in open_cells and len(done.get(i, ())) == number)
        return first, number
    if not campaign.is_adaptive or campaign.rival is None or len(active) >= most_cells(campaign):
        return None
    chosen = choose(
        campaign.cells,
        {i: [s.energy_j for s in samples] for i, samples in done.items()},
        (campaign.rival.value_j, campaign.rival.low_j, campaign.rival.high_j),
        campaign.seed,
        skipped,
    )
    return None if chosen is None else (chosen, 0)


def active_cells(campaign: Campaign, done: Samples) -> list[int]:
    """Cells that are to be measured, as far as it is decided."""
    if not campaign.is_adaptive:
        return list(range(len(campaign.cells)))
    return sorted({*start_of(campaign.cells), *(i for i, samples in done.items() if samples)})


def most_cells(campaign: Campaign) -> int:
    """How many cells are measured at most."""
    every = len(campaign.cells)
    return every if campaign.max_cells is None else min(every, campaign.max_cells)


def cell_is_done(campaign: Campaign, cell: int, samples: Sequence[Sample]) -> bool:
    """Whether the stopping rule is content with a cell."""
    rival = campaign.rival
    return is_enough(
        campaign.stop,
        [s.runtime_s for s in samples],
        [s.energy_j for s in samples],
        (rival.low_j[cell], rival.high_j[cell]) if rival else None,
    )
