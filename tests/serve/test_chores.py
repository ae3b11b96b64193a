"""What runs beside the requests goes on after what nobody expected."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from wattshed.serve.chores import PAUSE_S, keep_up


def test_a_chore_that_fails_is_told_and_begins_again(
    virtually: Callable[[Coroutine[Any, Any, Any]], Any], caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[float] = []

    async def chore() -> None:
        begun.append(asyncio.get_running_loop().time())
        if len(begun) <= 2:
            raise ZeroDivisionError("nobody expected this")
        await asyncio.sleep(1000.0)

    async def run() -> None:
        task = asyncio.create_task(keep_up("the look at it", chore))
        await asyncio.sleep(100.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with caplog.at_level(logging.ERROR, "wattshed.serve"):
        virtually(run())
    assert begun == pytest.approx([0.0, PAUSE_S, 2 * PAUSE_S])
    assert [record.getMessage() for record in caplog.records] == [
        f"the look at it failed; it begins again in {PAUSE_S:g} s"
    ] * 2
    assert all(
        record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records
    )
