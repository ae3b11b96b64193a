"""Where a call goes: the policy is asked, and where all that may serve it are full, it waits."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from wattshed.serve.call import Call, Weighed
from wattshed.serve.refused import RefusedError
from wattshed.serve.target import Target
from wattshed.serve.waiting import WaitingRoom


@dataclass(frozen=True)
class Placing:
    """Finds the endpoint of a call.

    Attributes
    ----------
    queue_s : float
        Longest time that a call waits for room.
    again_s : float
        When to try again, where nothing better is known.
    """

    waiting: WaitingRoom
    clock: Callable[[], float]
    queue_s: float
    again_s: float

    def at_once(self, call: Call) -> Target | None:
        """The endpoint of a call, or None where it has to wait for its turn.

        The endpoint has room, and must be used before anything is awaited; as that of `in_turn`.

        Raises
        ------
        RefusedError
        """
        return None if self.waiting.occupied(call.ask.model) else self._ask(call, self.clock())

    async def in_turn(self, call: Call) -> Target:
        """The endpoint of a call that is not placed at once, but waits.

        Raises
        ------
        RefusedError
        """
        until_s = min(self.clock() + self.queue_s, _due_s(call))
        await self._turn(call, until_s)
        try:
            while True:
                target = self._ask(call, self.clock())
                if target is not None:
                    return target
                await self._turn(call, until_s, again=True)
        finally:
            # There may be room for another one, or we had no use for ours.
            self.waiting.wake([call.ask.model])

    async def _turn(self, call: Call, until_s: float, *, again: bool = False) -> None:
        """Wait for a turn.

        Raises
        ------
        RefusedError
        """
        try:
            await self.waiting.wait(call.ask.model, until_s - self.clock(), again=again)
        except TimeoutError:
            raise self._too_late(call, until_s) from None

    def _ask(self, call: Call, now_s: float) -> Target | None:
        """The endpoint that the policy names; None where there may be room later."""
        load: dict[str, tuple[int, int]] = {}
        states, tried, request, setup = [], call.tried, call.request, call.setup
        for each in call.candidates:
            healthy = each.name not in tried and each.open(now_s)
            state = each.state(now_s, healthy)
            states.append(state)
            if healthy:
                load[state.name] = (state.running, state.waiting)
        choice = setup.decider.decide(request, states, now_s)
        decision = choice.decision
        name = decision.endpoint
        if name is None:
            self._refuse(call, decision.reason, now_s)
            return None
        if name not in load:
            message = f"the policy {choice.policy} named {name!r}, which takes no requests"
            raise RefusedError(500, message, "policy_failed")
        outlook, target = setup.outlooks.of(request), setup.targets.by_name[name]
        call.choice, call.target = choice, target
        call.weighed = Weighed(decision.costs, outlook.cost_j, outlook.runtime_s, load)
        return target

    def _refuse(self, call: Call, reason: str, now_s: float) -> None:
        """Refuse a call for which it is no use to wait.

        Raises
        ------
        RefusedError
        """
        rest = [t for t in call.candidates if t.name not in call.tried]
        usable = [t for t in rest if t.usable(now_s)]
        if any(t.full for t in usable):
            return
        if usable:
            raise RefusedError(400, reason, "unservable")
        if rest:
            trials = [t.breaker.retry_after_s(now_s) or self.again_s for t in rest]
            message = f"no endpoint of {call.ask.model!r} is healthy; try again later"
            raise RefusedError(503, message, "no_endpoint", retry_after_s=min(trials))
        reasons = "; ".join(f"{name} {why}" for name, why in call.tried.items())
        raise RefusedError(502, f"every endpoint failed: {reasons}", "upstream_failed")

    def _too_late(self, call: Call, until_s: float) -> RefusedError:
        if _due_s(call) <= until_s:
            message = f"the deadline of {call.request.deadline_s:g} s passed: no endpoint had room"
            return RefusedError(504, message, "deadline")
        message = f"no endpoint had room for {self.queue_s:g} s; try again later"
        return RefusedError(503, message, "queue_timeout", retry_after_s=self.again_s)


def _due_s(call: Call) -> float:
    """When its answer is due, on the clock of the gateway."""
    deadline_s = call.request.deadline_s
    return math.inf if deadline_s is None else call.arrival_s + deadline_s
