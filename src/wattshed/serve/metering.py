"""Metered energy in the gateway: meters are read beside the requests, and their windows split."""

from __future__ import annotations

import itertools
import math
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from wattshed.errors import FleetError, InputError, ParameterError
from wattshed.measure.clock import NS_PER_S
from wattshed.measure.meter import open_meters
from wattshed.records import Deployment, IterationProfile
from wattshed.serve.attribution import Shares, Window, attribute
from wattshed.serve.drift import Drifts
from wattshed.serve.gauge import Closed, Gauge, Opener, open_gauge, refuse_overlaps
from wattshed.serve.ledger import Ledger, Rows, metered, windows
from wattshed.serve.metered import ATTRIBUTED, ESTIMATED, SUMS
from wattshed.serve.receipt import idle_power_w
from wattshed.serve.stays import Stay, StepWeights, residents_of, step_weights

if TYPE_CHECKING:
    from wattshed.serve.call import Call
    from wattshed.serve.target import Target, Targets

END_S = 10.0
"""How long the end of a thread is waited for."""


@dataclass(frozen=True)
class Split:
    """A window that was split.

    Attributes
    ----------
    shares : Shares or None
        None where the meter said nothing that can be used.
    stays : list of Stay
        That were there; `shares.parts` is in their order.
    """

    id: str
    watch: Watch
    closed: Closed
    shares: Shares | None
    stays: list[Stay]

    def ended(self, stay: Stay) -> bool:
        """Whether nothing will come of a request in later windows."""
        return stay.end_s is not None and stay.end_s <= self.closed.end_ns / NS_PER_S


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
        self._stop = threading.Event()
        self.observers: list[Observer] = []
        self.drifts = Drifts()

    def follow(self, watches: Sequence[Watch]) -> None:
        """Run these from now on; others end when their requests have."""
        self._running = {w: thread for w, thread in self._running.items() if thread.is_alive()}
        self._retired = set(self._running) - set(watches)
        for watch in watches:
            if watch not in self._running:
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
            self.drifts.take(
                (stay.endpoint, stay.modelled_j, stay.joules)
                for stay in split.stays
                if stay.whole and split.ended(stay)
            )
            for observe in self.observers:
                observe(split)


def rows_of(split: Split) -> Rows:
    """Rows of the ledger: the window, and each request that was there."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for i, stay in enumerate(split.stays):
        row, before = _share_row(split, i), found.get((stay.id, stay.endpoint))
        found[stay.id, stay.endpoint] = row if before is None else _both(before, row)
    return [(windows, _window_row(split)), *((metered, row) for row in found.values())]


def _window_row(split: Split) -> dict[str, Any]:
    closed, shares, watch = split.closed, split.shares, split.watch
    energy = closed.energy
    return {
        "id": split.id,
        "meter": watch.text,
        "endpoints": msgspec.json.encode(list(watch.covered)).decode(),
        "began_at": closed.began_at,
        "ended_at": closed.ended_at,
        "joules": energy.value_j,
        "low_joules": energy.low_j,
        "high_joules": energy.high_j,
        "idle_joules": math.fsum(shares.idle_j.values()) if shares else None,
        "unattributed_joules": shares.unattributed_j if shares else None,
        "method": energy.method,
        "kind": energy.kind,
        "boundary": watch.boundary,
        "flags": ",".join(energy.flags),
    }


def _share_row(split: Split, i: int) -> dict[str, Any]:
    stay, share = split.stays[i], split.shares.parts[i] if split.shares else None
    known = share is not None and split.watch.idle_is_known(stay.endpoint)
    return {
        "id": stay.id,
        "window": split.id,
        "endpoint": stay.endpoint,
        "joules": share.joules if share else None,
        "idle_joules": share.idle_joules if share and known else None,
        "low_joules": share.low_j if share else None,
        "high_joules": share.high_j if share else None,
        "energy_method": split.watch.method,
        "boundary": split.watch.boundary,
        "ended": split.ended(stay),
        "whole": stay.whole,
    }


def _both(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """A request that was sent to an endpoint twice in a window."""
    sums = {
        name: None if one[name] is None or other[name] is None else one[name] + other[name]
        for name in SUMS
    }
    whole = {"ended": one["ended"] and other["ended"], "whole": one["whole"] and other["whole"]}
    return {**other, **sums, **whole}


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
