"""What every controller promises, and what the phase-aware clock does beyond that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wattshed.control.clocks import (
    BatchCap,
    DefaultGovernor,
    PhaseAwareClock,
    PinnedMaximum,
    StaticClock,
)
from wattshed.control.controller import Controller, Observation
from wattshed.errors import ParameterError
from wattshed.simulate.naming import CONTROLLERS, make_controller

MADE: dict[str, Callable[[], Controller]] = {
    "pinned": PinnedMaximum,
    "governor": DefaultGovernor,
    "static:0.01": lambda: StaticClock(0.01),
    "static:0.7": lambda: StaticClock(0.7),
    "static:1": lambda: StaticClock(1.0),
    "phases": PhaseAwareClock,
    "phases, held": lambda: PhaseAwareClock(headroom=0.0, reserve=0.0, hold_s=2.0),
    "batch-cap": BatchCap,
    "batch-cap, tight": lambda: BatchCap(0.1, 1),
}
NOW_S = 10.0
numbers = st.floats(0.0, 10.0)
limits = st.one_of(st.just(np.inf), st.floats(1e-3, 10.0))


@st.composite
def observations(draw: st.DrawFn) -> Observation:
    """A replica in any state; steps are no slower at a higher clock."""
    clocks = [*sorted(draw(st.sets(st.floats(0.05, 0.95), max_size=6))), 1.0]
    prompts = draw(st.booleans())

    def falling() -> tuple[float, ...]:
        some = st.lists(numbers, min_size=len(clocks), max_size=len(clocks))
        return tuple(sorted(draw(some), reverse=True))

    return Observation(
        clocks=tuple(clocks),
        clock=draw(st.integers(0, len(clocks) - 1)),
        raised_s=draw(st.one_of(st.just(-np.inf), st.floats(0.0, NOW_S))),
        prompts=prompts,
        decoding=draw(st.integers(0 if prompts else 1, 64)),
        waits_for_place=draw(st.booleans()),
        last_step_s=falling(),
        whole_step_s=falling(),
        every_token=draw(st.booleans()),
        excess_s=draw(st.floats(0.0, 1.0)),
        ttft_part=falling(),
        tbt_limit_s=draw(limits),
        trust=draw(st.floats(0.05, 1.0)),
        usual_there=draw(st.floats(0.0, 200.0)),
        max_batch=draw(st.integers(1, 128)),
    )


def in_time(seen: Observation, clock: int, controller: PhaseAwareClock) -> bool:
    """Whether a clock keeps both limits: the docstring of the class, in other words."""
    allowed_s = seen.tbt_limit_s * (1 - controller.headroom) * seen.trust
    if seen.every_token and seen.prompts:
        steady = seen.whole_step_s[clock] <= allowed_s
    elif seen.every_token:
        steady = seen.last_step_s[clock] <= allowed_s
    else:
        steady = seen.last_step_s[clock] <= allowed_s - seen.excess_s
    first = seen.ttft_part[clock] <= (1 - controller.reserve) * seen.trust
    return (steady or seen.decoding == 0) and (first or not seen.prompts)


# ---------------------------------------------------------------- all controllers


def test_every_name_makes_a_controller_that_is_looked_at_here() -> None:
    known = {type(make()) for make in MADE.values()}
    for text in CONTROLLERS:
        name = text.partition("[")[0].replace("CLOCK", "0.7")
        if name != "static:best":
            assert type(make_controller(name)) in known


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=25)
@given(seen=observations())
def test_settings_are_within_the_range_of_the_replica(name: str, seen: Observation) -> None:
    setting = MADE[name]().step(seen, NOW_S)
    assert 0 <= setting.clock < len(seen.clocks)
    assert 1 <= setting.batch_cap <= seen.max_batch


@pytest.mark.parametrize("name", MADE)
@settings(max_examples=25)
@given(seen=observations(), other=observations())
def test_the_same_observation_gives_the_same_setting(
    name: str, seen: Observation, other: Observation
) -> None:
    controller = MADE[name]()
    before = controller.step(seen, NOW_S)
    controller.step(other, NOW_S)
    assert controller.step(seen, NOW_S) == before == MADE[name]().step(seen, NOW_S)


@pytest.mark.parametrize("name", ["pinned", "governor", "batch-cap", "static:1"])
@settings(max_examples=25)
@given(seen=observations())
def test_those_that_leave_the_clock_alone_keep_the_highest(name: str, seen: Observation) -> None:
    assert MADE[name]().step(seen, NOW_S).clock == len(seen.clocks) - 1


@pytest.mark.parametrize("name", [name for name in MADE if not name.startswith("batch-cap")])
@settings(max_examples=25)
@given(seen=observations())
def test_those_that_set_the_clock_leave_the_batch_alone(name: str, seen: Observation) -> None:
    assert MADE[name]().step(seen, NOW_S).batch_cap == seen.max_batch


# ---------------------------------------------------------------- static


@given(clock=st.floats(0.01, 1.0), seen=observations())
def test_a_static_clock_is_the_lowest_that_is_not_below(clock: float, seen: Observation) -> None:
    found = seen.clocks[StaticClock(clock).place(seen.clocks)]
    assert found >= clock - 1e-9
    assert all(lower < clock for lower in seen.clocks if lower < found)


def test_above_all_clocks_the_highest_is_taken() -> None:
    assert StaticClock(0.9).place((0.4, 0.6, 0.8)) == 2
    assert StaticClock(0.6).place((0.4, 0.6, 0.8)) == 1
    assert StaticClock(0.1 + 0.2).place((0.3, 1.0)) == 0  # rounding is no higher clock


# ---------------------------------------------------------------- by phase

phases = st.builds(
    PhaseAwareClock,
    headroom=st.floats(0.0, 0.9),
    reserve=st.floats(0.0, 0.9),
    hold_s=st.just(0.0),
)


@given(controller=phases, seen=observations())
def test_limits_hold_at_the_clock_unless_it_is_the_highest(
    controller: PhaseAwareClock, seen: Observation
) -> None:
    clock = controller.step(seen, NOW_S).clock
    top = len(seen.clocks) - 1
    if clock < top:
        assert not seen.waits_for_place
        assert in_time(seen, clock, controller)
    if seen.waits_for_place:
        assert clock == top


@given(controller=phases, seen=observations())
def test_no_lower_clock_would_do(controller: PhaseAwareClock, seen: Observation) -> None:
    clock = controller.step(seen, NOW_S).clock
    if not seen.waits_for_place:
        assert not any(in_time(seen, lower, controller) for lower in range(clock))


@given(controller=phases, seen=observations(), factor=st.floats(1.0, 10.0), data=st.data())
def test_more_trust_or_laxer_limits_never_raise_the_clock(
    controller: PhaseAwareClock, seen: Observation, factor: float, data: Any
) -> None:
    laxer = {
        "trust": min(seen.trust * factor, 1.0),
        "tbt_limit_s": seen.tbt_limit_s * factor,
        "ttft_part": tuple(part / factor for part in seen.ttft_part),
        "excess_s": seen.excess_s / factor,
    }
    name = data.draw(st.sampled_from(sorted(laxer)))
    before = controller.step(seen, NOW_S).clock
    assert controller.step(replace(seen, **{name: laxer[name]}), NOW_S).clock <= before


@given(seen=observations(), hold_s=st.floats(0.0, 20.0))
def test_the_clock_is_raised_at_once_and_lowered_after_a_while(
    seen: Observation, hold_s: float
) -> None:
    wanted = PhaseAwareClock().step(seen, NOW_S).clock
    found = PhaseAwareClock(hold_s=hold_s).step(seen, NOW_S).clock
    if wanted >= seen.clock or NOW_S - seen.raised_s >= hold_s:
        assert found == wanted
    else:
        assert found == seen.clock


def test_without_promises_the_lowest_clock_will_do() -> None:
    seen = Observation(
        clocks=(0.5, 1.0),
        clock=1,
        raised_s=-np.inf,
        prompts=True,
        decoding=3,
        waits_for_place=False,
        last_step_s=(2.0, 1.0),
        whole_step_s=(9.0, 8.0),
        every_token=True,
        excess_s=0.5,
        ttft_part=(0.0, 0.0),
        tbt_limit_s=np.inf,
        trust=0.05,
        usual_there=0.0,
        max_batch=8,
    )
    assert PhaseAwareClock().step(seen, NOW_S).clock == 0
    # A limit on each token counts the prompts in the step, one on their mean how usual they are.
    assert PhaseAwareClock().step(replace(seen, tbt_limit_s=80.0), NOW_S).clock == 1
    mean = replace(seen, every_token=False, tbt_limit_s=80.0, trust=1.0)
    assert PhaseAwareClock().step(mean, NOW_S).clock == 0


# ---------------------------------------------------------------- batch


@given(seen=observations(), factor=st.floats(0.1, 5.0), least=st.integers(1, 20))
def test_a_batch_cap_follows_the_load(seen: Observation, factor: float, least: int) -> None:
    found = BatchCap(factor, least).step(seen, NOW_S).batch_cap
    assert found >= min(least, seen.max_batch)
    assert found >= min(factor * seen.usual_there, seen.max_batch)
    assert found <= max(factor * seen.usual_there + 1, least)


# ---------------------------------------------------------------- bad values


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: StaticClock(0.0), "controller clock: 0"),
        (lambda: StaticClock(1.01), r"controller clock: 1\.01"),
        (lambda: StaticClock(np.nan), "controller clock: nan"),
        (lambda: PhaseAwareClock(headroom=1.0), "controller headroom: 1"),
        (lambda: PhaseAwareClock(reserve=-0.1), r"controller reserve: -0\.1"),
        (lambda: PhaseAwareClock(hold_s=np.inf), "controller hold_s: inf"),
        (lambda: BatchCap(0.0), "controller factor: 0"),
        (lambda: BatchCap(np.inf), "controller factor: inf"),
        (lambda: BatchCap(1.0, 0), "controller least: 0"),
    ],
)
def test_values_out_of_range_are_refused(make: Callable[[], Any], match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        make()
