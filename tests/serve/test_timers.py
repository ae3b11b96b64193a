"""Limits of time: none rings early, and tasks end as they should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.serve.timers import Within, rounded_up, timers

Virtually = Callable[[Coroutine[Any, Any, Any]], Any]


@given(st.floats(1e-3, 1e6))
def test_durations_are_rounded_up_by_at_most_a_hundredth(seconds: float) -> None:
    assert seconds * (1 - 1e-9) <= rounded_up(seconds) <= seconds * 1.01


def test_each_rings_in_its_time_unless_it_is_called_off(virtually: Virtually) -> None:
    async def scenario() -> list[tuple[float, float]]:
        loop, rung = asyncio.get_running_loop(), list[tuple[float, float]]()
        waits = [5.0, 0.02, 60.0, 0.02, 7.31, 0.0, 5.0, 119.97]
        start = loop.time()
        kept = [timers().later(s, lambda s=s: rung.append((s, loop.time() - start))) for s in waits]
        kept[3].cancel()
        kept[0].cancel()
        await asyncio.sleep(200)
        return rung

    rung = virtually(scenario())
    assert [s for s, _ in rung] == [0.0, 0.02, 5.0, 7.31, 60.0, 119.97]
    assert all(s <= after <= 1.01 * s + 1e-6 for s, after in rung)


def test_one_that_is_set_by_another_rings_too(virtually: Virtually) -> None:
    async def scenario() -> list[str]:
        rung = list[str]()

        def first() -> None:
            rung.append("first")
            timers().later(0.0, lambda: rung.append("second"))

        timers().later(1.0, first)
        timers().later(1.0, lambda: rung.append("other"))
        await asyncio.sleep(10)
        return rung

    assert sorted(virtually(scenario())) == ["first", "other", "second"]


def test_what_takes_too_long_is_cancelled_and_told(virtually: Virtually) -> None:
    async def scenario() -> float:
        start = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError), Within(2.0):
            await asyncio.sleep(100)
        with Within(2.0):
            await asyncio.sleep(1.0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        return asyncio.get_running_loop().time() - start

    assert virtually(scenario()) == pytest.approx(3.0, rel=0.01)


def test_who_cancels_a_task_ends_it_and_no_limit_hides_that(virtually: Virtually) -> None:
    async def work() -> None:
        with Within(1.0):
            await asyncio.sleep(100)

    async def scenario() -> bool:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.5)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert virtually(scenario())


def test_limits_within_limits(virtually: Virtually) -> None:
    async def scenario() -> list[str]:
        told = list[str]()
        try:
            with Within(1.0):
                try:
                    with Within(5.0):
                        await asyncio.sleep(100)
                except TimeoutError:
                    told.append("inner")
        except TimeoutError:
            told.append("outer")
        return told

    assert virtually(scenario()) == ["outer"]
