"""Where requests wait while every endpoint that could serve them is full, in order of arrival."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable

from wattshed.serve.refused import RefusedError
from wattshed.serve.timers import Within


class WaitingRoom:
    """A queue for each model, with a bound on all of them together.

    Parameters
    ----------
    seats : int
        Requests that may wait; a further one is refused.
    """

    def __init__(self, seats: int) -> None:
        self.seats, self.waiting = seats, 0
        self._queues: dict[str, deque[asyncio.Future[None]]] = {}

    def occupied(self, model: str) -> bool:
        """Whether somebody waits for a model."""
        return bool(self._queues.get(model))

    async def wait(self, model: str, seconds: float, *, again: bool = False) -> None:
        """Wait for a turn, which comes when an endpoint of the model has room.

        Parameters
        ----------
        model : str
        seconds : float
        again : bool
            It had its turn, and found no room after all: it goes to the front.

        Raises
        ------
        RefusedError
            If there is no seat.
        TimeoutError
        """
        if self.waiting >= self.seats:
            message = f"{self.waiting} requests wait already; try again later"
            raise RefusedError(429, message, "queue_full", retry_after_s=1.0)
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        queue = self._queues.setdefault(model, deque())
        (queue.appendleft if again else queue.append)(turn)
        self.waiting += 1
        try:
            with Within(seconds):
                await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self.wake([model])  # the turn is lost on us
            raise
        finally:
            self.waiting -= 1
            if turn in queue:
                queue.remove(turn)

    def wake(self, models: Iterable[str]) -> None:
        """An endpoint that serves these models has room: the first of each has its turn."""
        for model in models:
            queue = self._queues.get(model)
            while queue:
                turn = queue.popleft()
                if not turn.done():
                    turn.set_result(None)
                    break
