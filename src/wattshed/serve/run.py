"""Serve until told to stop; open answers are ended first, within a grace."""

from __future__ import annotations

import gc
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn

from wattshed.records import Endpoint, Request
from wattshed.route.policy import Policy, Telling
from wattshed.serve.app import gateway_app
from wattshed.serve.background import BACKLOG
from wattshed.serve.gateway import Gateway
from wattshed.serve.limits import raise_open_files
from wattshed.serve.protocol import GatewayProtocol
from wattshed.serve.reload import Reloader

COLLECT_AFTER = (20_000, 20, 50)
"""When to look for cycles: requests make hundreds of objects each, and next to no cycles."""


def run_gateway(
    gateway: Gateway, bound: socket.socket, grace_s: int, reloader: Reloader | None = None
) -> None:
    """Serve on a socket that is bound, until SIGTERM or SIGINT.

    SIGUSR1 lets the default policy decide from then on, SIGUSR2 the policy again. SIGHUP has the
    fleet file read again.

    Parameters
    ----------
    gateway : Gateway
    bound : socket
    grace_s : int
        How long open answers may go on after the signal.
    reloader : Reloader, optional
        Of the fleet file.
    """
    raise_open_files()
    config = uvicorn.Config(
        gateway_app(gateway, reloader),
        http=GatewayProtocol,
        ws="none",
        access_log=False,
        log_config=None,  # its lines are written as ours
        log_level="warning",
        timeout_graceful_shutdown=grace_s,
        backlog=BACKLOG,
        server_header=False,
        proxy_headers=False,
    )
    # What was loaded stays for good: no collection of garbage needs to look at it, which would stop
    # all requests for a tenth of a second each time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
    with switches(gateway, reloader), ended_by_signals():
        uvicorn.Server(config).run([bound])


@contextmanager
def switches(gateway: Gateway, reloader: Reloader | None) -> Iterator[None]:
    """The kill switch: SIGUSR1 takes decisions away from the policy, SIGUSR2 gives them back.

    SIGHUP asks for the fleet to be read again.
    """

    def reload() -> None:
        if reloader is not None:
            reloader.asked = True

    actions: dict[int, Callable[[], None]] = {
        signal.SIGUSR1: gateway.switch_off,
        signal.SIGUSR2: gateway.switch_on,
        signal.SIGHUP: reload,
    }

    def asked(number: int, _frame: FrameType | None) -> None:
        actions[number]()

    before = {number: signal.signal(number, asked) for number in actions}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """A signal ends the server and not the process: uvicorn raises it again when it has ended."""
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def warm_up(policy: Policy, gateway: Gateway) -> None:
    """Let a policy decide once, so that no client waits for what is compiled or read then.

    Parameters
    ----------
    policy : Policy
        Of its own, because policies remember.
    gateway : Gateway
    """
    endpoints = [Endpoint(t.name, t.deployment.name) for t in gateway.targets]
    request = Request("warm-up", 100, 100.0)
    policy.decide(request, endpoints, 0.0)
    gateway.setup.outlooks.of(request)
    if isinstance(policy, Telling):
        tell = policy.told()
        if tell is not None:
            tell()
