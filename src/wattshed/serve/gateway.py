"""A request's way through the gateway, from its body to its row in the ledger."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress

from starlette.types import Receive, Scope, Send

from wattshed.fleet import Fleet
from wattshed.records import Served
from wattshed.serve.body import engine_body
from wattshed.serve.call import Call, Newcomer, kept, row_of
from wattshed.serve.decide import Decider
from wattshed.serve.intake import Intake, read_headers
from wattshed.serve.keys import Holder, Keys
from wattshed.serve.ledger import Ledger
from wattshed.serve.lengths import LengthPredictor, OnlineHistogram
from wattshed.serve.logs import about
from wattshed.serve.metering import Metering, came, left
from wattshed.serve.near import Names
from wattshed.serve.placing import Placing
from wattshed.serve.refusals import Door
from wattshed.serve.refused import RefusedError
from wattshed.serve.relay import Relay
from wattshed.serve.reply import ClientLeftError, Presence, Reply, attended, read_body
from wattshed.serve.retries import Retries
from wattshed.serve.settings import Settings
from wattshed.serve.setup import Setup, make_setup
from wattshed.serve.target import Target, Targets
from wattshed.serve.tokens import BytesPerToken, TokenEstimator
from wattshed.serve.upstream import Pool, check_status
from wattshed.serve.upstream_error import UpstreamError
from wattshed.serve.waiting import WaitingRoom

log = logging.getLogger("wattshed.serve")
SIMULATED = b"x-simulated"
"""Header of answers that no real engine made."""


class Gateway:
    """Serves requests. It is an ASGI application for each of `body.PATHS`.

    Parameters
    ----------
    fleet : Fleet
    decider : Decider
    ledger : Ledger
    settings : Settings
    keys : Keys, optional
        Everybody may ask without them.
    estimator : TokenEstimator, optional
    lengths : LengthPredictor, optional
    clock : callable
        Seconds that never jump.
    setup : Setup, optional
        Of fleet and decider, if it is made already.

    Attributes
    ----------
    observers : list of callable
        Told of each call that has ended.
    trying : callable or None
        Gives what surrounds each try at an endpoint: a span, where traces are asked for.
    clock, wall : callable
        Seconds on a clock that never jumps, from which all durations are; and seconds since 1970,
        for people.
    """

    def __init__(  # noqa: PLR0913 - what it is made of
        self,
        fleet: Fleet,
        decider: Decider,
        ledger: Ledger,
        settings: Settings | None = None,
        *,
        keys: Keys | None = None,
        estimator: TokenEstimator | None = None,
        lengths: LengthPredictor | None = None,
        clock: Callable[[], float] = time.monotonic,
        setup: Setup | None = None,
    ) -> None:
        self.setup, self.ledger = setup or make_setup(fleet, decider), ledger
        self.settings, self.keys = settings or Settings(), keys
        names = self.settings.names
        self._names = None if names is None else Names(names)
        self.metering = Metering(ledger)
        self.observers: list[Callable[[Call], None]] = []
        self.trying: Callable[[Call, Target], AbstractContextManager[None]] | None = None
        self.clock, self.wall = clock, time.time
        self.intake = Intake(estimator or BytesPerToken(), lengths or OnlineHistogram(), clock)
        self.waiting = WaitingRoom(self.settings.seats)
        self.door = Door(ledger)
        self._retries = Retries(self.settings.retry_share)
        self._pool: Pool | None = None
        limits = self.settings
        self._placing = Placing(self.waiting, self.clock, limits.queue_s, limits.probe_s)

    async def open(self) -> None:
        """Open the connections; inside the event loop that serves."""
        self._pool = Pool()
        self.metering.follow(self.setup.watches)

    async def close(self) -> None:
        """Close them, write what is still to be written, and read the meters for the last time."""
        self.door.close()
        if self._pool is not None:
            await self._pool.close()
        await asyncio.to_thread(self.metering.close)

    @property
    def fleet(self) -> Fleet:
        """The fleet that new requests see."""
        return self.setup.fleet

    @property
    def decider(self) -> Decider:
        """What decides for them."""
        return self.setup.decider

    @property
    def targets(self) -> Targets:
        """Where they may go."""
        return self.setup.targets

    def switch_off(self) -> None:
        """Let the default policy decide."""
        self.decider.switch_off()

    def switch_on(self) -> None:
        """Let the policy decide again."""
        self.decider.switch_on()

    def adopt(self, setup: Setup) -> None:
        """Take another setup for all requests from now on."""
        self.setup = setup
        self.metering.follow(setup.watches)
        self.waiting.wake(setup.targets.models)

    @property
    def pool(self) -> Pool:
        """The open connections."""
        assert self._pool is not None
        return self._pool

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        reply = Reply(send, self.settings.stall_s, attended(scope, receive, send))
        try:
            call = await self._take_in(scope, receive, reply)
            if call is not None:
                await self._attend(call, Presence(receive, reply), reply)
        except Exception as error:
            if not reply.started:
                message = f"the gateway failed: {type(error).__name__}"
                await reply.refuse(RefusedError(500, message, "internal_error"))
            raise

    async def _take_in(self, scope: Scope, receive: Receive, reply: Reply) -> Call | None:
        """Read a request; None if there is nothing more to do for it."""
        limits, headers = self.settings, read_headers(scope["headers"])
        newcomer = Newcomer(scope["path"], headers, self.wall())
        try:
            newcomer.holder = self.identify(headers)
            length = headers.get("content-length", "0")
            body = await read_body(
                receive, length, limits.max_body_bytes, limits.stall_s, reply.server
            )
            self._check_ledger()
            return self.intake.take_in(newcomer, body, self.setup)
        except RefusedError as refused:
            self.door.turn_away(newcomer, refused, self.intake.new_id(), self.clock())
            await reply.refuse(refused)
        except ClientLeftError:
            pass
        return None

    async def _attend(self, call: Call, presence: Presence, reply: Reply) -> None:
        """Answer a call while its client is there."""
        try:
            await self._answer(call, reply)
        except ClientLeftError:
            call.outcome = "left"
        except asyncio.CancelledError:
            if not presence.left:
                await self._stop(call, reply)
                raise
            call.outcome = "left"
        finally:
            presence.end()
            self._finish(call, reply)

    def identify(self, headers: Mapping[str, str]) -> Holder | None:
        """Whose key came with a request; None where there are no keys.

        Raises
        ------
        RefusedError
        """
        if self.keys is not None:
            return self.keys.identify(headers.get("authorization"))
        if self._names is not None:
            self._names.check(headers)
        return None

    def _check_ledger(self) -> None:
        """Serve nothing that cannot be accounted for."""
        if self.ledger.overflows:
            message = "the ledger cannot be written; try again later"
            raise RefusedError(503, message, "ledger_full", retry_after_s=self.settings.probe_s)

    async def _answer(self, call: Call, reply: Reply) -> None:
        """Serve a call, or say why not."""
        try:
            await self._serve(call, reply)
        except RefusedError as refused:
            failed = "failed" if call.tried else "rejected"
            call.outcome = "broken" if reply.started else failed
            call.reason = refused.code
            await reply.refuse(refused)

    async def _stop(self, call: Call, reply: Reply) -> None:
        """Say that an answer is not whole because the gateway ends, rather than break off."""
        call.outcome = "broken" if reply.started else "failed"
        message = "the gateway is stopping; try again"
        with suppress(TimeoutError):
            async with asyncio.timeout(0):  # who takes nothing now is not waited for
                await reply.refuse(RefusedError(503, message, "stopping", retry_after_s=1.0))

    async def _serve(self, call: Call, reply: Reply) -> None:
        self._retries.earn()
        send = self._send if self.trying is None else self._send_traced
        tries = 0
        while True:
            target = self._placing.at_once(call) or await self._placing.in_turn(call)
            tries += 1
            try:
                await send(call, target, reply)
                return
            except UpstreamError as error:
                self._fail(call, target, error, reply, tries)

    def _fail(
        self, call: Call, target: Target, error: UpstreamError, reply: Reply, tries: int
    ) -> None:
        """Remember what went wrong.

        Raises
        ------
        RefusedError
            If the request is not sent once more.
        """
        fields = about(request=call.id, endpoint=target.name, reason=error.reason)
        words = (target.name, error.reason, call.id, error.detail)
        log.warning("%s %s (request %s) %s", *words, extra=fields)
        if error.stale and target.name not in call.stale and tries < self.settings.tries:
            call.stale |= {target.name}
            return
        call.tried[target.name] = error.reason
        message = f"{target.name} {error.reason}"
        if reply.started:
            raise RefusedError(502, message, "upstream_broke") from None
        rest = [t for t in call.candidates if t.name not in call.tried]
        if rest and tries < self.settings.tries and self._retries.spend():
            return
        if error.busy:
            after_s = error.retry_after_s or self.settings.probe_s
            raise RefusedError(503, message, "upstream_busy", retry_after_s=after_s) from None
        raise RefusedError(504 if error.late else 502, message, "upstream_failed") from None

    async def _send_traced(self, call: Call, target: Target, reply: Reply) -> None:
        assert self.trying is not None
        with self.trying(call, target):
            await self._send(call, target, reply)

    async def _send(self, call: Call, target: Target, reply: Reply) -> None:
        """Send a call to an endpoint, and its answer to the client.

        Raises
        ------
        UpstreamError
        """
        ask, upstream = call.ask, target.upstream
        now = self.clock()
        call.sent_s, call.first_s, call.last_s = now, None, None
        call.used = call.receipt = None
        flight = target.begin(call.request.input_tokens, now)
        stay = came(target, call, now)
        if not ask.stream:
            target.expect(flight, call.request.expected_output_tokens, now)
        body = engine_body(ask, target.engine_model(), upstream.drops)
        said = False
        try:
            response = await self.pool.post(
                target, ask.path, body, call.forward, upstream.first_byte_s
            )
            try:
                check_status(response)
                call.simulated = bool(response.header(SIMULATED))
                receipts = call.setup.targets.receipts[target.deployment.name]
                relay = Relay(
                    call, target, flight, reply, receipts, self.intake.estimator, self.clock
                )
                await relay.answer(response)
            finally:
                response.close()
            target.breaker.worked()
            said = True
        except UpstreamError as error:
            if not error.busy:
                target.breaker.failed(self.clock())
                said = True
            raise
        finally:
            if not said:
                target.breaker.gave_up()
            now = self.clock()
            target.account.end(flight, now)
            left(stay, call, now)
            if self.waiting.waiting:
                self.waiting.wake(self._models_of(target))

    def _models_of(self, target: Target) -> list[str]:
        return [model for model, those in self.targets.by_model.items() if target in those]

    def _finish(self, call: Call, reply: Reply) -> None:
        """Write the row of a call, learn from it, and tell the policy."""
        call.end_s, call.status = self.clock(), reply.status
        call.kept = kept(call)
        self.ledger.append_values(row_of(call))
        self.intake.learn(call)
        used = call.used
        joules = call.receipt.joules if call.receipt else None
        if call.holder is not None and used is not None:
            call.holder.charge(used.input_tokens + used.output_tokens, joules or 0.0, call.end_s)
        if call.choice is not None and call.target is not None:
            promise = call.kept if call.outcome == "served" else None
            served = Served(call.id, call.target.name, call.end_s, promise, joules)
            call.setup.decider.finished(served, call.choice.policy, call.choice.shadow)
        for observe in self.observers:
            observe(call)
