"""What Prometheus is told. Names follow OpenTelemetry's for generative AI; energy is our own."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from operator import attrgetter

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from wattshed.records import LedgerDrift
from wattshed.serve.counting import Batches, Chart, Tally, known
from wattshed.serve.gateway import Gateway
from wattshed.serve.recent import Ended
from wattshed.serve.scraping import engine_gauges
from wattshed.serve.split import Split

SECONDS = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 40.96, 163.84)
ALIKE = attrgetter("endpoint", "outcome", "kept", "method", "boundary", "watched")
"""What records must have in common to be counted together."""


class Metrics(Batches):
    """Counts what gateways finish, and shows their state when it is asked for.

    Parameters
    ----------
    gateway : Gateway
    """

    def __init__(self, gateway: Gateway) -> None:
        super().__init__()
        self._gateway = gateway
        self.registry = CollectorRegistry()
        self._requests = Tally(
            "wattshed_requests", "Requests by what became of them.", ("endpoint", "outcome")
        )
        self._tokens = Tally(
            "gen_ai_client_token_usage", "Tokens.", ("endpoint", "gen_ai_token_type")
        )
        self._joules = Tally(
            "wattshed_energy_joules",
            "Energy of requests.",
            ("endpoint", "kind", "method", "boundary"),
        )
        self._kept = Tally(
            "wattshed_promises", "Requests by whether their SLO was kept.", ("endpoint", "kept")
        )
        self._tried = Tally(
            "wattshed_failed_tries", "Requests that an endpoint failed.", ("endpoint",)
        )
        self._first = Chart(
            "gen_ai_server_time_to_first_token_seconds",
            "From arrival, where it is streamed.",
            SECONDS,
            attrgetter("first_s"),
            dated=True,
        )
        self._whole = Chart(
            "gen_ai_server_request_duration_seconds",
            "From arrival to the end.",
            SECONDS,
            attrgetter("whole_s"),
            dated=True,
        )
        self.registry.register(self)
        gateway.metering.observers.append(self.observe_window)

    def count(self, records: Sequence[Ended]) -> None:
        """See `Batches`."""
        groups: dict[tuple[str, ...], list[Ended]] = defaultdict(list)
        by_endpoint: dict[str, list[Ended]] = defaultdict(list)
        for record in records:
            groups[ALIKE(record)].append(record)
            by_endpoint[record.endpoint].append(record)
            for endpoint in record.tried:
                self._tried.add((1,), endpoint)
        for those in groups.values():
            self._count_alike(those)
        for endpoint, those in by_endpoint.items():
            for chart in (self._first, self._whole):
                chart.add(endpoint, those)

    def observe_window(self, split: Split) -> None:
        """Count what a meter said. Windows are split in threads of their own."""
        shares, watch, add = split.shares, split.watch, self._joules.add
        if shares is None:
            return
        words = (watch.method, watch.boundary)
        for stay, share in zip(split.stays, shares.parts, strict=True):
            add((share.joules,), stay.endpoint, "dynamic", *words)
            add((max(0.0, share.idle_joules),), stay.endpoint, "idle", *words)
        for endpoint, joules in shares.idle_j.items():
            add((max(0.0, joules),), endpoint, "idle", *words)
        # A counter cannot sink: what is below the idle power is left to the ledger.
        rest_j = max(0.0, shares.unattributed_j)
        add((rest_j,), ",".join(watch.covered), "unattributed", *words)

    def collect(self) -> Iterable[Metric]:
        """What was counted, and the state of the gateway."""
        self.settle()
        counted = (self._requests, self._tokens, self._joules, self._kept, self._tried)
        yield from (each.family() for each in (*counted, self._first, self._whole))
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

    def _count_alike(self, records: Sequence[Ended]) -> None:
        """Count records that have `ALIKE` in common."""
        first = records[0]
        endpoint, number = first.endpoint, (len(records),)
        self._requests.add(number, endpoint, first.outcome)
        if first.kept is not None:
            self._kept.add(number, endpoint, str(first.kept).lower())
        for kind, field in (("input", "input_tokens"), ("output", "output_tokens")):
            self._tokens.add(known(records, field), endpoint, kind)
        if first.watched:
            return  # what is metered is counted when its window is split, see `observe_window`
        words = (first.method, first.boundary)
        # A counter cannot sink: a fit that says less than nothing is left to the ledger.
        dynamic = [max(0.0, joules) for joules in known(records, "joules")]
        self._joules.add(dynamic, endpoint, "dynamic", *words)
        self._joules.add(known(records, "idle_joules"), endpoint, "idle", *words)


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
