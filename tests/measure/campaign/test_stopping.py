"""Stopping rules: properties that hold for any trials, and how often a decision is wrong."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.measure.campaign.stopping import (
    Decision,
    Paper,
    Relative,
    Rule,
    half_width,
    is_apart,
    is_enough,
    trials_left,
)

values = st.lists(st.floats(0.01, 1e4), min_size=1, max_size=30)
limits = st.tuples(st.integers(1, 6), st.integers(0, 10)).map(
    lambda pair: {"at_least": pair[0], "at_most": pair[0] + pair[1]}
)
RIVAL = (90.0, 110.0)


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    ends = draw(limits)
    kind = draw(st.sampled_from(["paper", "relative", "decision"]))
    if kind == "paper":
        return Paper(**ends, half_width_s=draw(st.floats(0.001, 100)))
    if kind == "relative":
        return Relative(**ends, part=draw(st.floats(0.001, 1)))
    return Decision(**ends, profile="rival")


@given(rules(), values)
def test_it_never_stops_before_the_least_and_always_at_the_most(rule: Rule, x: list[float]) -> None:
    enough = is_enough(rule, x, x, RIVAL)
    if len(x) >= rule.at_most:
        assert enough
    elif len(x) < rule.at_least:
        assert not enough


@given(rules(), values, st.randoms(use_true_random=False))
def test_the_order_of_trials_is_no_matter(
    rule: Rule, x: list[float], chance: random.Random
) -> None:
    y = list(x)
    chance.shuffle(y)
    assert is_enough(rule, x, x, RIVAL) == is_enough(rule, y, y, RIVAL)


@given(rules(), values, st.integers(-8, 8))
def test_the_unit_is_no_matter(rule: Rule, x: list[float], power: int) -> None:
    unit = 2.0**power  # exact in binary, so that no rounding differs
    scaled = [unit * v for v in x]
    other = rule
    if isinstance(rule, Paper):
        other = Paper(
            at_least=rule.at_least, at_most=rule.at_most, half_width_s=unit * rule.half_width_s
        )
    rival = (unit * RIVAL[0], unit * RIVAL[1])
    assert is_enough(rule, x, x, RIVAL) == is_enough(other, scaled, scaled, rival)


@given(limits, values, st.floats(0.001, 10), st.floats(1, 10))
def test_who_wants_to_know_less_stops_no_later(
    ends: dict[str, int], x: list[float], aim: float, more: float
) -> None:
    for narrow, wide in (
        (Paper(**ends, half_width_s=aim), Paper(**ends, half_width_s=aim * more)),
        (Relative(**ends, part=aim), Relative(**ends, part=aim * more)),
    ):
        assert is_enough(narrow, x, x) <= is_enough(wide, x, x)


@given(limits, values, st.floats(0, 1), st.floats(1, 1.5))
def test_a_rival_that_is_known_worse_is_decided_against_no_earlier(
    ends: dict[str, int], x: list[float], low: float, high: float
) -> None:
    rule = Decision(**ends, profile="rival")
    wide = (100 * low, 100 * high)
    assert is_enough(rule, x, x, wide) <= is_enough(rule, x, x, (100.0, 100.0))


def test_the_half_width_is_that_of_students_t() -> None:
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653
    assert half_width([1.0, 2.0, 3.0]) == pytest.approx(4.302653 / math.sqrt(3), rel=1e-6)
    assert half_width([1.0]) == math.inf


def test_the_papers_rule_needs_two_trials_and_looks_at_runtime_only() -> None:
    assert not is_enough(Paper(), [1.0], [5.0])
    assert is_enough(Paper(), [1.0, 1.05], [1.0, 900.0])
    assert not is_enough(Paper(), [1.0, 2.0], [5.0, 5.0])
    assert is_enough(Paper(), [float(i) for i in range(25)], [None] * 25)


def test_relative_looks_at_runtime_where_energy_is_not_known_for_every_trial() -> None:
    steady, jumpy = [1.0, 1.0, 1.0], [1.0, 5.0, 9.0]
    assert is_enough(Relative(), jumpy, steady)
    assert not is_enough(Relative(), steady, jumpy)
    assert is_enough(Relative(), steady, [None, None, None])
    assert is_enough(Relative(), steady, [1.0, None, 9.0])


def test_a_decision_needs_energy_and_a_rival() -> None:
    rule, x = Decision(profile="rival"), [1.0, 1.0, 1.0]
    assert is_enough(rule, x, x, RIVAL)
    assert not is_enough(rule, x, x)
    assert not is_enough(rule, x, [None, 1.0, 1.0], RIVAL)
    assert not is_enough(rule, x, [100.0, 101.0, 99.0], RIVAL)


def test_decisions_are_wrong_in_less_than_five_percent_of_cells_however_often_one_looks() -> None:
    rng = np.random.default_rng(7)
    rule, wrong, cells = Decision(profile="rival", at_most=15), 0, 1000
    for _ in range(cells):
        x = rng.normal(100.0, 5.0, rule.at_most).tolist()  # the rival takes just as much
        looks = (
            is_enough(rule, x[:k], x[:k], (100.0, 100.0))
            for k in range(rule.at_least, rule.at_most)
        )
        wrong += any(looks)
    assert wrong / cells < 0.05


@given(values)
def test_what_is_apart_is_apart_from_either_side(x: list[float]) -> None:
    top, bottom = max(x), min(x)
    if is_apart(x, (top + 1e6, top + 2e6)):
        assert half_width(x) < 1e6 + top - bottom


@given(rules(), values)
def test_at_least_one_more_trial_is_expected_and_no_more_than_the_most(
    rule: Rule, x: list[float]
) -> None:
    if len(x) < rule.at_most:
        assert 1 <= trials_left(rule, x, x) <= max(1, rule.at_most - len(x))
