"""What Prometheus is told. Names follow OpenTelemetry's for generative AI; energy is our own."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from wattshed.records import LedgerDrift
from wattshed.serve.call import Call, kept
from wattshed.serve.gateway import Gateway
from wattshed.serve.scraping import engine_gauges
from wattshed.serve.split import Split

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 40.96, 163.84)


class Metrics(Collector):
    """Counts what gateways finish, and shows their state when it is asked for.

    Parameters
    ----------
    gateway : Gateway
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.registry = registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=registry)

        def histogram(name: str, text: str) -> Histogram:
            return Histogram(name, text, ("endpoint",), buckets=SECONDS, registry=registry)

        self._requests = counter(
            "wattshed_requests", "Requests by what became of them.", "endpoint", "outcome"
        )
        self._tokens = counter(
            "gen_ai_client_token_usage", "Tokens.", "endpoint", "gen_ai_token_type"
        )
        self._joules = counter(
            "wattshed_energy_joules",
            "Energy of requests.",
            "endpoint",
            "kind",
            "method",
            "boundary",
        )
        self._kept = counter(
            "wattshed_promises", "Requests by whether their SLO was kept.", "endpoint", "kept"
        )
        self._tried = counter(
            "wattshed_failed_tries", "Requests that an endpoint failed.", "endpoint"
        )
        self._first = histogram(
            "gen_ai_server_time_to_first_token_seconds", "From arrival, where it is streamed."
        )
        self._whole = histogram(
            "gen_ai_server_request_duration_seconds", "From arrival to the end."
        )
        self._child = lru_cache(maxsize=4096)(_labelled)
        registry.register(self)
        gateway.metering.observers.append(self.observe_window)

    def observe(self, call: Call) -> None:
        """Count a request that has ended."""
        name = call.target.name if call.target else ""
        self._add(self._requests, 1, name, call.outcome)
        for endpoint in call.tried:
            self._add(self._tried, 1, endpoint)
        if call.used is not None:
            self._add(self._tokens, call.used.input_tokens, name, "input")
            self._add(self._tokens, call.used.output_tokens, name, "output")
        self._observe_energy(call, name)
        promise = kept(call) if call.outcome == "served" else None
        if promise is not None:
            self._add(self._kept, 1, name, str(promise).lower())
        for chart, at_s in ((self._first, call.first_s), (self._whole, call.end_s)):
            seconds = call.since(at_s)
            if seconds is not None:
                chart.labels(name).observe(seconds)

    def observe_window(self, split: Split) -> None:
        """Count what a meter said. Windows are split in threads of their own."""
        shares, watch = split.shares, split.watch
        if shares is None:
            return
        words = (watch.method, watch.boundary)
        for stay, share in zip(split.stays, shares.parts, strict=True):
            self._add(self._joules, share.joules, stay.endpoint, "dynamic", *words)
            self._add(self._joules, max(0.0, share.idle_joules), stay.endpoint, "idle", *words)
        for endpoint, joules in shares.idle_j.items():
            self._add(self._joules, max(0.0, joules), endpoint, "idle", *words)
        # A counter cannot sink: what is below the idle power is left to the ledger.
        rest_j = max(0.0, shares.unattributed_j)
        self._add(self._joules, rest_j, ",".join(watch.covered), "unattributed", *words)

    def collect(self) -> Iterable[Metric]:
        """The state of the gateway."""
        gateway = self._gateway
        now = gateway.clock()
        running = GaugeMetricFamily("wattshed_requests_running", "At work.", labels=["endpoint"])
        waiting = GaugeMetricFamily("wattshed_requests_waiting", "Sent.", labels=["endpoint"])
        up = GaugeMetricFamily("wattshed_endpoint_up", "Can be sent to.", labels=["endpoint"])
        for target in gateway.targets:
            state = target.own(now)
            running.add_metric([target.name], state.running)
            waiting.add_metric([target.name], state.waiting)
            up.add_metric([target.name], float(target.usable(now)))
        active = GaugeMetricFamily("wattshed_policy_active", "Decides now.", labels=["policy"])
        active.add_metric([gateway.decider.active], 1.0)
        yield from (running, waiting, up, active, *engine_gauges(gateway.targets, now))
        yield from drift_metrics(gateway.metering.drifts.found())
        refused = CounterMetricFamily(
            "wattshed_refused_requests",
            "Requests that were refused before they were sent.",
            labels=["reason", "status"],
        )
        for (reason, status), number in gateway.door.refusals.counts.items():
            refused.add_metric([reason, str(status)], number)
        yield refused
        yield GaugeMetricFamily(
            "wattshed_queue_requests", "Wait for room.", value=gateway.waiting.waiting
        )
        yield GaugeMetricFamily(
            "wattshed_ledger_backlog_rows", "Not committed.", value=gateway.ledger.backlog
        )

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)

    def _observe_energy(self, call: Call, name: str) -> None:
        receipt = call.receipt
        if receipt is None or (call.target is not None and call.target.watch is not None):
            return  # what is metered is counted when its window is split, see `observe_window`
        labels = (receipt.method, receipt.boundary)
        # A counter cannot sink: a fit that says less than nothing is left to the ledger.
        self._add(self._joules, max(0.0, receipt.joules), name, "dynamic", *labels)
        if receipt.idle_joules is not None:
            self._add(self._joules, receipt.idle_joules, name, "idle", *labels)

    def _add(self, counter: Counter, amount: float, *labels: str) -> None:
        self._child(counter, labels).inc(amount)


def drift_metrics(drifts: Iterable[LedgerDrift]) -> Iterable[Metric]:
    """Metered over modelled energy of the requests lately."""
    names = ["endpoint"]
    ratio = GaugeMetricFamily(
        "wattshed_energy_drift_ratio", "Metered over modelled energy.", labels=names
    )
    alarm = GaugeMetricFamily(
        "wattshed_energy_drift_alarm", "Its interval is too far from 1.", labels=names
    )
    for each in drifts:
        ratio.add_metric([each.endpoint], each.ratio)
        alarm.add_metric([each.endpoint], float(each.alarm))
    return ratio, alarm


def _labelled(counter: Counter, labels: tuple[str, ...]) -> Counter:
    """Remembered: a look-up for each request and counter would cost more than counting."""
    child: Counter = counter.labels(*labels)
    return child
