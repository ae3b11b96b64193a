"""More of what Prometheus is told, from the flat records of requests that have ended."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector

from wattshed.serve.recent import Ended

STEP_SECONDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.08, 0.12, 0.16, 0.32, 0.64, 1.28, 2.56)
QUEUE_SECONDS = (0.001, 0.01, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
TOKENS = tuple(float(4**k) for k in range(10))
JOULES = tuple(0.01 * 2**k for k in range(16))


class RecordMetrics:
    """Counts records.

    Parameters
    ----------
    registry : CollectorRegistry
        Gets the metrics, and those of the process.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        def histogram(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(name, text, ("endpoint",), buckets=buckets, registry=registry)

        self._step = histogram(
            "gen_ai_server_time_per_output_token_seconds",
            "Mean time between the tokens of a stream.",
            STEP_SECONDS,
        )
        self._queue = histogram(
            "wattshed_request_queue_time_seconds",
            "From arrival to the last time that it was sent to an endpoint.",
            QUEUE_SECONDS,
        )
        self._input = histogram("wattshed_request_prompt_tokens", "Input tokens.", TOKENS)
        self._output = histogram("wattshed_request_generation_tokens", "Output tokens.", TOKENS)
        self._joules = histogram(
            "wattshed_joules_per_output_token",
            "Energy of a request by its output tokens, idle part included.",
            JOULES,
        )
        self._predicted = Counter(
            "wattshed_predicted_joules",
            "Energy predicted at decisions: where requests went, and by baselines.",
            ("policy", "where"),
            registry=registry,
        )
        ProcessCollector(registry=registry)

    def observe(self, record: Ended) -> None:
        """Count a record."""
        self._observe_prediction(record)
        if not record.endpoint:
            return
        values = (
            (self._queue, record.sent_s),
            (self._step, record.step_s),
            (self._input, record.input_tokens),
            (self._output, record.output_tokens),
            (self._joules, joules_per_output_token(record)),
        )
        for chart, value in values:
            if value is not None:
                chart.labels(record.endpoint).observe(value)

    def _observe_prediction(self, record: Ended) -> None:
        """Only what is known of own and even: their sums are to be compared."""
        if record.own_j is None or record.even_j is None:
            return
        found = {"chosen": record.own_j, "even": record.even_j, "shadow": record.shadow_j}
        for where, joules in found.items():
            if joules is not None and joules > 0:
                self._predicted.labels(record.policy, where).inc(joules)


def joules_per_output_token(record: Ended) -> float | None:
    """Of one request; None where its energy is not known, or it has no output."""
    if record.joules is None or not record.output_tokens:
        return None
    return (record.joules + (record.idle_joules or 0.0)) / record.output_tokens
