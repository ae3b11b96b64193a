"""More of what Prometheus is told, from the flat records of requests that have ended."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric

from wattshed.serve.counting import Batches, Chart, Tally, known
from wattshed.serve.recent import Ended

STEP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.32, 0.64, 1.28, 2.56)
QUEUE_SECONDS = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TOKENS = tuple(float(4**k) for k in range(10))
JOULES = tuple(0.01 * 2**k for k in range(16))
PREDICTED = {"chosen": "own_j", "even": "even_j", "shadow": "shadow_j"}
"""Fields of records, by what is told of them."""


def joules_per_output_token(record: Ended) -> float | None:
    """Of one request; None where its energy is not known, or it has no output."""
    if record.joules is None or not record.output_tokens:
        return None
    return (record.joules + (record.idle_joules or 0.0)) / record.output_tokens


class RecordMetrics(Batches):
    """Counts records.

    Parameters
    ----------
    registry : CollectorRegistry
        Gets the metrics, and those of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._charts = [
            Chart(
                "gen_ai_server_time_per_output_token_seconds",
                "Mean time between the tokens of a stream.",
                STEP_SECONDS,
                attrgetter("step_s"),
            ),
            Chart(
                "wattshed_request_queue_time_seconds",
                "From arrival to the last time that it was sent to an endpoint.",
                QUEUE_SECONDS,
                attrgetter("sent_s"),
            ),
            Chart(
                "wattshed_request_prompt_tokens",
                "Input tokens.",
                TOKENS,
                attrgetter("input_tokens"),
            ),
            Chart(
                "wattshed_request_generation_tokens",
                "Output tokens.",
                TOKENS,
                attrgetter("output_tokens"),
            ),
            Chart(
                "wattshed_joules_per_output_token",
                "Energy of a request by its output tokens, idle part included.",
                JOULES,
                joules_per_output_token,
            ),
        ]
        self._predicted = Tally(
            "wattshed_predicted_joules",
            "Energy predicted at decisions: where requests went, and by baselines.",
            ("policy", "where"),
            dated=False,
        )
        registry.register(self)
        ProcessCollector(registry=registry)

    def collect(self) -> Iterable[Metric]:
        """All that was counted."""
        self.settle()
        for chart in self._charts:
            yield chart.family()
        yield self._predicted.family()

    def count(self, records: Sequence[Ended]) -> None:
        """See `Batches`."""
        by_endpoint: dict[str, list[Ended]] = defaultdict(list)
        by_policy: dict[str, list[Ended]] = defaultdict(list)
        for record in records:
            by_endpoint[record.endpoint].append(record)
            # Only where own and even are both known: their sums are to be compared.
            if record.own_j is not None and record.even_j is not None:
                by_policy[record.policy].append(record)
        by_endpoint.pop("", None)
        for endpoint, those in by_endpoint.items():
            for chart in self._charts:
                chart.add(endpoint, those)
        for policy, those in by_policy.items():
            for where, name in PREDICTED.items():
                self._predicted.add([j for j in known(those, name) if j > 0], policy, where)
