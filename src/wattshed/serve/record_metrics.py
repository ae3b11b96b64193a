"""More of what Prometheus is told, from the flat records of requests that have ended.

Records are counted many at a time: one by one, that would take longer than all else that is done
with them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from wattshed.serve.recent import Ended

AT_ONCE = 500
"""Records that wait at most; they take about a millisecond."""
STEP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.32, 0.64, 1.28, 2.56)
QUEUE_SECONDS = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TOKENS = tuple(float(4**k) for k in range(10))
JOULES = tuple(0.01 * 2**k for k in range(16))


def joules_per_output_token(record: Ended) -> float | None:
    """Of one request; None where its energy is not known, or it has no output."""
    if record.joules is None or not record.output_tokens:
        return None
    return (record.joules + (record.idle_joules or 0.0)) / record.output_tokens


class RecordMetrics(Collector):
    """Counts records.

    Parameters
    ----------
    registry : CollectorRegistry
        Gets the metrics, and those of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._charts = [
            Chart(
                "gen_ai_server_time_per_output_token_seconds",
                "Mean time between the tokens of a stream.",
                STEP_SECONDS,
                lambda r: r.step_s,
            ),
            Chart(
                "wattshed_request_queue_time_seconds",
                "From arrival to the last time that it was sent to an endpoint.",
                QUEUE_SECONDS,
                lambda r: r.sent_s,
            ),
            Chart(
                "wattshed_request_prompt_tokens",
                "Input tokens.",
                TOKENS,
                lambda r: r.input_tokens,
            ),
            Chart(
                "wattshed_request_generation_tokens",
                "Output tokens.",
                TOKENS,
                lambda r: r.output_tokens,
            ),
            Chart(
                "wattshed_joules_per_output_token",
                "Energy of a request by its output tokens, idle part included.",
                JOULES,
                joules_per_output_token,
            ),
        ]
        self._predicted: dict[tuple[str, str], float] = defaultdict(float)
        self._waiting: list[Ended] = []
        registry.register(self)
        ProcessCollector(registry=registry)

    def observe(self, record: Ended) -> None:
        """Count a record, now or later."""
        self._waiting.append(record)
        if len(self._waiting) >= AT_ONCE:
            self._count()

    def collect(self) -> Iterable[Metric]:
        """All that was counted."""
        self._count()
        for chart in self._charts:
            yield chart.family()
        predicted = CounterMetricFamily(
            "wattshed_predicted_joules",
            "Energy predicted at decisions: where requests went, and by baselines.",
            labels=("policy", "where"),
        )
        for labels, joules in self._predicted.items():
            predicted.add_metric(labels, joules)
        yield predicted

    def _count(self) -> None:
        records, self._waiting = self._waiting, []
        by_endpoint: dict[str, list[Ended]] = defaultdict(list)
        for record in records:
            self._add_prediction(record)
            if record.endpoint:
                by_endpoint[record.endpoint].append(record)
        for endpoint, those in by_endpoint.items():
            for chart in self._charts:
                chart.add(endpoint, those)

    def _add_prediction(self, record: Ended) -> None:
        """Only where own and even are both known: their sums are to be compared."""
        if record.own_j is None or record.even_j is None:
            return
        found = (("chosen", record.own_j), ("even", record.even_j), ("shadow", record.shadow_j))
        for where, joules in found:
            if joules is not None and joules > 0:
                self._predicted[record.policy, where] += joules


@dataclass
class Chart:
    """A histogram by endpoint.

    Attributes
    ----------
    bounds : tuple of float
        Upper ends of its buckets; one without end comes on top.
    value : callable
        Of a record; None is not counted.
    """

    name: str
    text: str
    bounds: tuple[float, ...]
    value: Callable[[Ended], float | None]
    _counts: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]] = field(default_factory=dict)
    _sums: dict[str, float] = field(default_factory=dict)

    def add(self, endpoint: str, records: Sequence[Ended]) -> None:
        """Count records of an endpoint."""
        values = [v for v in map(self.value, records) if v is not None]
        if not values:
            return
        size = len(self.bounds) + 1
        found = np.bincount(np.searchsorted(self.bounds, values), minlength=size)
        self._counts[endpoint] = self._counts.get(endpoint, np.zeros(size, np.int64)) + found
        self._sums[endpoint] = self._sums.get(endpoint, 0.0) + sum(values)

    def family(self) -> HistogramMetricFamily:
        """As Prometheus has it: each bucket holds those below it, too."""
        family = HistogramMetricFamily(self.name, self.text, labels=("endpoint",))
        ends = [*map(floatToGoString, self.bounds), "+Inf"]
        for endpoint, counts in self._counts.items():
            buckets = list(zip(ends, np.cumsum(counts).tolist(), strict=True))
            family.add_metric((endpoint,), buckets, self._sums[endpoint])
        return family
