"""Counts of records, as Prometheus has them: counters by labels, and histograms by endpoint.

Records are counted many at a time: one by one, in children of the library that each take a lock,
that would take longer than all else that is done with them.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from threading import Lock

import numpy as np
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from wattshed.serve.recent import Ended

AT_ONCE = 1000
"""Records that wait at most; all that is counted of them takes about a millisecond."""


class Batches(Collector):
    """Counts records, now or later: whoever collects counts what waits first."""

    def __init__(self) -> None:
        self._waiting: list[Ended] = []

    def observe(self, record: Ended) -> None:
        """Count a record, at the latest when somebody looks."""
        self._waiting.append(record)
        if len(self._waiting) >= AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Count what waits."""
        records, self._waiting = self._waiting, []
        if records:
            self.count(records)

    @abstractmethod
    def count(self, records: Sequence[Ended]) -> None:
        """Count records."""


@dataclass
class Tally:
    """A counter by labels, in which any thread may count.

    Attributes
    ----------
    dated : bool
        Also tell since when each is counted.
    """

    name: str
    text: str
    labels: tuple[str, ...]
    dated: bool = True
    _sums: dict[tuple[str, ...], float] = field(default_factory=dict)
    _began_at: dict[tuple[str, ...], float] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def add(self, amounts: Sequence[float], *labels: str) -> None:
        """Count amounts, none of which is below 0."""
        if not amounts:
            return
        with self._lock:
            self._began_at.setdefault(labels, time.time())
            self._sums[labels] = sum(amounts, self._sums.get(labels, 0.0))

    def family(self) -> CounterMetricFamily:
        """As Prometheus has it."""
        family = CounterMetricFamily(self.name, self.text, labels=self.labels)
        with self._lock:
            for labels, total in self._sums.items():
                began_at = self._began_at[labels] if self.dated else None
                family.add_metric(labels, total, began_at)
        return family


@dataclass
class Chart:
    """A histogram by endpoint.

    Attributes
    ----------
    bounds : tuple of float
        Upper ends of its buckets; one without end comes on top.
    value : callable
        Of a record; None is not counted.
    dated : bool
        See `Tally`.
    """

    name: str
    text: str
    bounds: tuple[float, ...]
    value: Callable[[Ended], float | None]
    dated: bool = False
    _counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = field(default_factory=dict)
    _sums: dict[str, float] = field(default_factory=dict)
    _began_at: dict[str, float] = field(default_factory=dict)

    def add(self, endpoint: str, records: Sequence[Ended]) -> None:
        """Count records of an endpoint."""
        values = [v for v in map(self.value, records) if v is not None]
        if not values:
            return
        size = len(self.bounds) + 1
        if endpoint not in self._counts:
            self._began_at[endpoint] = time.time()
            self._counts[endpoint] = np.zeros(size, np.int64)
        found = np.bincount(np.searchsorted(self.bounds, values), minlength=size)
        self._counts[endpoint] += found
        self._sums[endpoint] = sum(values, self._sums.get(endpoint, 0.0))

    def family(self) -> HistogramMetricFamily:
        """As Prometheus has it: each bucket holds those below it, too."""
        family = HistogramMetricFamily(self.name, self.text, labels=("endpoint",))
        ends = [*map(floatToGoString, self.bounds), "+Inf"]
        for endpoint, counts in self._counts.items():
            buckets = list(zip(ends, np.cumsum(counts).tolist(), strict=True))
            family.add_metric((endpoint,), buckets, self._sums[endpoint])
            if self.dated:
                labels = {"endpoint": endpoint}
                family.add_sample(f"{self.name}_created", labels, self._began_at[endpoint])
        return family


def known(records: Iterable[Ended], name: str) -> list[float]:
    """A field of records, where it is known."""
    return [value for value in map(attrgetter(name), records) if value is not None]
