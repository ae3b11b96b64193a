"""Metered energy in the gateway: meters are read beside the requests, and their windows split."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec

from wattshed.errors import FleetError, InputError, ParameterError
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.meter import open_meters
from wattshed.records import Deployment, IterationProfile
from wattshed.serve.attribution import Window, attribute
from wattshed.serve.drift import Drifts
from wattshed.serve.gauge import Closed, Gauge, Opener, open_gauge, refuse_overlaps
from wattshed.serve.ledger import Ledger
from wattshed.serve.metered import ATTRIBUTED, ESTIMATED
from wattshed.serve.split import Split, rows_of
from wattshed.serve.stays import Stay, StepWeights, residents_of, step_weights
from wattshed.serving import idle_power_w

log = logging.getLogger("wattshed.serve")
if TYPE_CHECKING:
    from wattshed.serve.call import Call
    from wattshed.serve.target import Target, Targets

END_S = 10.0
"""How long the end of a thread is waited for."""


Observer = Callable[[Split], None]


class Watch:
    """A gauge, and the requests at the endpoints that it covers.

    Parameters
    ----------
    text : str
        As the fleet names the meter.
    gauge : Gauge
    covered : dict of Deployment
        By endpoint.
    """

    def __init__(self, text: str, gauge: Gauge, covered: dict[str, Deployment]) -> None:
        self.text, self.gauge, self.covered = text, gauge, covered
        self.boundary = next(iter(covered.values())).profile.boundary
        self._idle_w = {name: idle_power_w(d) for name, d in covered.items()}
        self._weights: dict[str, StepWeights | None] = {
            name: step_weights(d) for name, d in covered.items()
        }
        self.method = ESTIMATED if None in self._weights.values() else ATTRIBUTED
        self._arrived: deque[Stay] = deque()
        self._stays: list[Stay] = []
        self._over: deque[Closed] = deque()
        self._metered_s = -1.0
        self._prefix, self._numbers = secrets.token_hex(8), itertools.count()

    @property
    def busy(self) -> bool:
        """Whether a request is there, or its window is not split yet."""
        return bool(self._arrived or self._stays)

    def came(self, stay: Stay) -> None:
        """A request is sent to one of the endpoints. Any thread may say so."""
        self._arrived.append(stay)

    def look(self, *, last: bool = False) -> Iterable[Split]:
        """Read the meters, and split what windows can be split."""
        self.gauge.read(last=last)
        while self._arrived:
            self._stays.append(self._arrived.popleft())
        self._over.extend(self.gauge.closed(last=last))
        while self._over and (last or self._is_settled(self._over[0].end_ns / NS_PER_S)):
            yield self._split(self._over.popleft())

    def _is_settled(self, at_s: float) -> bool:
        return all(stay.settled(at_s) for stay in self._stays if stay.sent_s < at_s)

    def _split(self, closed: Closed) -> Split:
        begin_s, end_s = closed.begin_ns / NS_PER_S, closed.end_ns / NS_PER_S
        there = [stay for stay in self._stays if stay.sent_s < end_s]
        energy, shares = closed.energy, None
        if energy.value_j is not None:
            window = Window(begin_s, end_s, energy.value_j, energy.low_j, energy.high_j)
            idle_w = {name: power or 0.0 for name, power in self._idle_w.items()}
            shares = attribute(window, residents_of(there, self._weights), idle_w)
        for i, stay in enumerate(there):
            known = stay.sent_s >= begin_s or self._metered_s == begin_s
            stay.whole = stay.whole and known and shares is not None
            stay.joules += shares.parts[i].joules if shares else 0.0
            stay.idle_joules += shares.parts[i].idle_joules if shares else 0.0
        self._metered_s = end_s
        self._stays = [s for s in self._stays if s.end_s is None or s.end_s > end_s]
        for stay in self._stays:
            stay.forget(end_s)
        name = f"{self._prefix}{next(self._numbers):012x}"
        return Split(name, self, closed, shares, there)

    def idle_is_known(self, endpoint: str) -> bool:
        """Whether the idle power of an endpoint is."""
        return self._idle_w[endpoint] is not None


class Metering:
    """Runs watches, each in a thread of its own, and writes down what they find.

    Parameters
    ----------
    ledger : Ledger

    Attributes
    ----------
    observers : list of callable
        Told of each window that was split, in the thread of its watch.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._running: dict[Watch, threading.Thread] = {}
        self._retired: set[Watch] = set()
        self._silent: set[Watch] = set()
        self._stop = threading.Event()
        self.observers: list[Observer] = []
        self.drifts = Drifts()

    def follow(self, watches: Sequence[Watch]) -> None:
        """Run these from now on; others end when their requests have."""
        self._running = {w: thread for w, thread in self._running.items() if thread.is_alive()}
        self._retired = set(self._running) - set(watches)
        for watch in watches:
            if watch not in self._running:
                self.drifts.forget(watch.covered)
                thread = threading.Thread(
                    target=self._run, args=(watch,), name=f"meter {watch.text}", daemon=True
                )
                self._running[watch] = thread
                thread.start()

    def close(self) -> None:
        """Read all meters once more, and split what is left."""
        self._stop.set()
        for thread in self._running.values():
            thread.join(END_S)

    def _run(self, watch: Watch) -> None:
        while not self._stop.is_set() and (watch not in self._retired or watch.busy):
            self._take(watch.look())
            self._stop.wait(watch.gauge.wait_s)
        self._take(watch.look(last=True))

    def _take(self, splits: Iterable[Split]) -> None:
        for split in splits:
            self._ledger.append_together(rows_of(split))
            self._tell_silence(split)
            self.drifts.take(
                (stay.endpoint, stay.modelled_j, stay.joules)
                for stay in split.stays
                if stay.whole and split.ended(stay)
            )
            for observe in self.observers:
                observe(split)

    def _tell_silence(self, split: Split) -> None:
        """Say once that a meter says nothing, and once that it does again."""
        watch, was_silent = split.watch, split.watch in self._silent
        if split.shares is None and not was_silent:
            self._silent.add(watch)
            flags = ", ".join(split.closed.energy.flags)
            log.warning("meter %s says nothing that can be used: %s", watch.text, flags)
        elif split.shares is not None and was_silent:
            self._silent.discard(watch)
            log.warning("meter %s says something again", watch.text)


def open_watches(
    targets: Targets, before: Sequence[Watch] = (), opener: Opener = open_meters
) -> list[Watch]:
    """The watches of the meters that a fleet names; those that stay as they were go on.

    Raises
    ------
    FleetError, ParameterError
    """
    by_text: dict[str, list[Target]] = {}
    for target in targets:
        replica = int(target.name.rpartition("/")[2])  # endpoints are named DEPLOYMENT/NUMBER
        text = target.upstream.meter_of(replica)
        if text is not None:
            by_text.setdefault(text, []).append(target)
    known = {watch.text: watch for watch in before}
    found = [_watch(text, those, known.get(text), opener) for text, those in by_text.items()]
    refuse_overlaps({watch.text: watch.gauge for watch in found})
    for watch in found:
        for name in watch.covered:
            targets.by_name[name].watch = watch
    return found


def _watch(text: str, targets: list[Target], before: Watch | None, opener: Opener) -> Watch:
    covered = {
        target.name: msgspec.structs.replace(target.deployment, upstream=None) for target in targets
    }
    if before is not None and before.covered == covered:
        return before
    boundaries = {d.profile.boundary for d in covered.values()}
    stepped = {isinstance(d.profile, IterationProfile) for d in covered.values()}
    if len(boundaries) > 1 or len(stepped) > 1:
        found = f"{text} covers {', '.join(covered)}, whose profiles differ in kind or boundary"
        raise ParameterError("upstream.meters", found, "give each kind a meter of its own")
    try:
        gauge = open_gauge(text, boundaries.pop(), opener)
    except InputError as error:
        where = f"{targets[0].deployment.name}.upstream.meters: {text}"
        raise FleetError(where, f"{error.where}: {error.found}", error.cure) from None
    return Watch(text, gauge, covered)


def came(target: Target, call: Call, now_s: float) -> Stay | None:
    """A call is sent to an endpoint; None where nothing meters it."""
    call.token_s = None
    if target.watch is None:
        return None
    stay = Stay(call.id, target.name, now_s, call.request.input_tokens)
    call.token_s = stay.token_s
    target.watch.came(stay)
    return stay


def left(stay: Stay | None, call: Call, now_s: float) -> None:
    """It is over, however."""
    if stay is None:
        return
    if call.used is not None:
        stay.input_tokens, stay.output_tokens = call.used.input_tokens, call.used.output_tokens
    stay.modelled_j = call.receipt.joules if call.receipt else None
    stay.end_s = now_s  # last: from now on it is read
