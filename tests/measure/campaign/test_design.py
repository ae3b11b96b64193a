"""Which trial comes next, and what is refused before the first."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from wattshed.errors import ParameterError
from wattshed.measure.campaign.adaptive import choose, energy_draws, expected_loss
from wattshed.measure.campaign.design import (
    Campaign,
    Rival,
    Sample,
    check,
    next_trial,
    rival_of,
)
from wattshed.measure.campaign.grid import PRESETS, make_cells, start_of
from wattshed.measure.campaign.stopping import Decision, Paper, Relative
from wattshed.records import Profile

CELLS = make_cells([8, 64, 512], [8, 64])


def play(campaign: Campaign, energy_j: Callable[[int, int], float]) -> list[tuple[int, int]]:
    """Measure until there is nothing left."""
    done: dict[int, list[Sample]] = {}
    order = []
    while (chosen := next_trial(campaign, done)) is not None:
        cell, trial = chosen
        done.setdefault(cell, []).append(Sample(1.0, energy_j(cell, trial)))
        order.append(chosen)
    return order


def test_each_round_ends_before_the_next_begins() -> None:
    order = play(Campaign(CELLS, Relative(at_least=4)), lambda cell, trial: 1.0)
    assert [trial for _, trial in order] == sorted([0, 1, 2, 3] * len(CELLS))
    assert sorted(order) == [(cell, trial) for cell in range(len(CELLS)) for trial in range(4)]


def test_a_cell_that_varies_gets_more_trials_than_the_others() -> None:
    def energy_j(cell: int, trial: int) -> float:
        return 1.0 + (cell == 2) * (trial % 2)

    order = play(Campaign(CELLS, Relative(at_least=3, at_most=9)), energy_j)
    counts = {cell: sum(c == cell for c, _ in order) for cell in range(len(CELLS))}
    assert counts == {0: 3, 1: 3, 2: 9, 3: 3, 4: 3, 5: 3}


def test_a_cell_that_fails_is_skipped() -> None:
    campaign = Campaign(CELLS, Relative(at_least=1, at_most=1))
    done: dict[int, list[Sample]] = {}
    while (chosen := next_trial(campaign, done, skipped=[3])) is not None:
        done.setdefault(chosen[0], []).append(Sample(1.0, None))
    assert sorted(done) == [0, 1, 2, 4, 5]


def test_the_cell_that_is_added_is_the_one_where_a_wrong_decision_costs_most() -> None:
    # Draws: at cell 0 it is certain; at 1 it is open, for little; at 2 it is open, for much.
    rng = np.random.default_rng(1)
    own = np.array([50.0, 100.0, 1000.0]) + np.array([1.0, 1.0, 10.0]) * rng.normal(
        size=(50_000, 3)
    )
    loss = expected_loss(own, np.array([[100.0, 100.0, 1000.0]]))
    assert loss[0] == 0
    assert loss[2] == pytest.approx(10 * loss[1], rel=0.3)
    # Probability of being wrong (a half) times the mean cost (10 sqrt(2 / pi)).
    assert loss[2] == pytest.approx(10 * (2 / np.pi) ** 0.5 / 2, rel=0.1)


def test_adaptive_cells_are_spent_where_two_systems_cross() -> None:
    cells = make_cells(*PRESETS["adaptive"])
    m = np.array([cell.input_tokens for cell in cells], float)
    n = np.array([cell.output_tokens for cell in cells], float)
    own = 2.0 * n + 0.01 * (n * m + n * (n - 1) / 2)
    other = 4.0 * n + 0.005 * (n * m + n * (n - 1) / 2)  # equal where m + n / 2 is about 400
    rival = Rival("other", *[tuple(other.tolist())] * 3)
    rule = Relative(at_least=2, at_most=4)
    rng = np.random.default_rng(3)
    campaign = Campaign(cells, rule, "adaptive", max_cells=14, rival=rival)
    order = play(campaign, lambda cell, trial: float(own[cell] * rng.normal(1, 0.05)))
    chosen = list(dict.fromkeys(cell for cell, _ in order))
    assert sorted(chosen[:9]) == start_of(cells)
    assert len(chosen) <= 14
    added = chosen[9:]
    assert added
    near = np.abs(np.log(own / other))
    assert near[added].max() < np.median(near)  # all added cells are among the closer half


def test_the_curve_that_stands_in_for_a_fit_is_of_the_form_that_fits_best() -> None:
    """An engine with a KV cache: a curve of passes without one is off by up to 86 %."""
    cells = make_cells(*PRESETS["adaptive"])
    m = np.array([cell.input_tokens for cell in cells], float)
    n = np.array([cell.output_tokens for cell in cells], float)
    true_j = 20.0 + 0.03 * m + 1.5 * n + 1e-5 * (n * m + n * (n - 1) / 2)
    energy = {i: [float(true_j[i])] * 2 for i in start_of(cells)}
    draws = energy_draws(cells, energy, 0)
    assert draws is not None
    assert np.median(draws, axis=0) == pytest.approx(true_j, rel=0.02)


def test_nothing_is_added_where_all_is_certain() -> None:
    cells = make_cells(*PRESETS["adaptive"])
    energy = {i: [10.0 * c.output_tokens] * 3 for i, c in enumerate(cells) if i in start_of(cells)}
    far = tuple(1000.0 * cell.output_tokens for cell in cells)
    assert choose(cells, energy, (far, far, far), 0) is None


def test_before_a_fit_is_possible_the_first_cell_that_is_left_is_taken() -> None:
    rival = ((1.0,) * 6,) * 3
    assert choose(CELLS, {0: [1.0], 1: [None]}, rival, 0, skipped=[2]) == 3


def test_a_rival_is_a_profile_with_its_interval(make_profile: Callable[..., Profile]) -> None:
    rival = rival_of(make_profile("other", (2.0, 0.0), (1.0, 0.0)), CELLS)
    assert rival.value_j == rival.low_j == rival.high_j
    assert rival.value_j == pytest.approx([2.0 * cell.output_tokens for cell in CELLS])


def test_a_rival_without_energy_is_refused(make_profile: Callable[..., Profile]) -> None:
    with pytest.raises(ParameterError, match="0 J for m=8 n=8"):
        rival_of(make_profile("other", (0.0, 0.0), (1.0, 0.0)), CELLS)


@pytest.mark.parametrize(
    ("campaign", "found"),
    [
        (Campaign(CELLS, Paper(at_least=5, at_most=4)), "at least 5 and at most 4"),
        (Campaign(CELLS, Relative(part=0)), "0"),
        (Campaign(CELLS, Decision(profile="other")), "no rival"),
        (Campaign(CELLS, name="adaptive"), "no rival"),
        (Campaign(CELLS, interval_s=0), "interval"),
        (Campaign(CELLS, warm_up=-1), "warm_up"),
        (
            Campaign(
                make_cells([8], [8], [1, 2]),
                name="adaptive",
                rival=Rival("other", (1.0, 1.0), (1.0, 1.0), (1.0, 1.0)),
            ),
            "2 settings",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(campaign: Campaign, found: str) -> None:
    with pytest.raises(ParameterError, match=found):
        check(campaign)
