"""A gateway whose engines are metered: what the meters say is in the ledger, to the last joule."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec import structs
from prometheus_client.parser import text_string_to_metric_families

from wattshed.errors import FleetError, MeterError, ParameterError
from wattshed.fleet import Fleet, load_fleet
from wattshed.measure.clock import NS_PER_S, SystemClock, VirtualClock
from wattshed.measure.meter import open_meters
from wattshed.measure.meters.faults import Faults
from wattshed.measure.meters.simulated import SimulatedMeter
from wattshed.measure.plant import Plant
from wattshed.records import Upstream
from wattshed.serve.app import gateway_app
from wattshed.serve.background import background
from wattshed.serve.decide import Decider
from wattshed.serve.demo import demo_fleet
from wattshed.serve.drift import FEWEST, Drift, Drifts
from wattshed.serve.gateway import Gateway
from wattshed.serve.gauge import Closed, Gauge, open_gauge
from wattshed.serve.ledger import Ledger, requests
from wattshed.serve.ledger import metered as metered_table
from wattshed.serve.metering import Metering, Watch, open_watches
from wattshed.serve.metrics import Metrics
from wattshed.serve.recent import Ended, Recent, with_meters
from wattshed.serve.rows import read_meters, read_rows
from wattshed.serve.search import find_requests
from wattshed.serve.split import Split, rows_of
from wattshed.serve.stays import Stay
from wattshed.serve.summary import summarise
from wattshed.serve.target import Targets
from wattshed.serve.whole import Wholes

CHAT = "/v1/chat/completions"
SPEED = 40.0


def ask(url: str, number: int) -> str:
    """Ask for something; gives the id of the request."""
    body = {
        "model": "auto",
        "max_tokens": 20 + 10 * (number % 5),
        "stream": number % 3 > 0,
        "messages": [{"role": "user", "content": f"{number} " * (5 + 40 * (number % 4))}],
    }
    answer = httpx.post(url + CHAT, json=body, timeout=60)
    assert answer.status_code == 200
    return answer.headers["x-wattshed-request"]


def select(path: Path, text: str) -> list[dict[str, Any]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(text)]
    finally:
        connection.close()


@dataclass
class Metered:
    """A gateway that has ended, and what it left."""

    path: Path
    asked: list[str]
    page: str
    shown: list[Ended]

    @property
    def windows(self) -> list[dict[str, Any]]:
        return select(self.path, "select * from windows order by meter, began_at")


@pytest.fixture(scope="module")
def metered(tmp_path_factory: pytest.TempPathFactory) -> Metered:
    """Some requests at once, on both engines."""
    path = tmp_path_factory.mktemp("metered") / "ledger.sqlite"
    asked: list[str] = []
    with demo_fleet(SPEED) as fleet:
        ledger = Ledger(f"sqlite:///{path}", interval_s=0.01)
        gateway = Gateway(fleet, Decider(fleet, "round-robin"), ledger)
        with background(gateway_app(gateway)) as url:
            for watch in gateway.setup.watches:
                wait_for_windows(watch.gauge)
            clients = [
                threading.Thread(target=lambda n=n: asked.append(ask(url, n))) for n in range(16)
            ]
            for client in clients:
                client.start()
            for client in clients:
                client.join()
    return Metered(path, asked, page_of(gateway), shown_by(gateway))


def wait_for_windows(gauge: Gauge) -> None:
    pause = threading.Event()
    while not gauge.begun:
        pause.wait(0.01)


def of_kind(kind: type[Any], observers: list[Any]) -> Any:
    (found,) = (o.__self__ for o in observers if isinstance(o.__self__, kind))
    return found


def page_of(gateway: Gateway) -> str:
    return str(of_kind(Metrics, gateway.metering.observers).text().decode())


def shown_by(gateway: Gateway) -> list[Ended]:
    recent: Recent = of_kind(Recent, gateway.observers)
    return with_meters(recent.records(), recent.metered())


def test_the_ledger_balances(metered: Metered) -> None:
    """Requests, idle and unattributed are what the meter said, in each window and in all."""
    shares = select(
        metered.path,
        "select window, sum(joules) + sum(idle_joules) as given from metered group by window",
    )
    given = {row["window"]: row["given"] for row in shares}
    assert len(metered.windows) >= 2
    for row in metered.windows:
        total = given.get(row["id"], 0.0) + row["idle_joules"] + row["unattributed_joules"]
        assert total == pytest.approx(row["joules"], rel=1e-9)
        assert row["low_joules"] <= row["joules"] <= row["high_joules"]
    for meter in read_meters(str(metered.path)):
        parts = meter.dynamic_j + meter.idle_of_requests_j + meter.idle_j + meter.unattributed_j
        assert parts == pytest.approx(meter.metered_j, rel=1e-6)
        assert meter.kind == "modelled"
        assert abs(meter.unattributed_j) <= 0.02 * meter.metered_j


def test_windows_leave_nothing_out(metered: Metered) -> None:
    for one, other in pairwise(metered.windows):
        if one["meter"] == other["meter"]:
            assert other["began_at"] == pytest.approx(one["ended_at"], abs=1e-3)


def test_receipts_become_attributed(metered: Metered) -> None:
    """As many joules as the engines' profile says of all, though the batches were not seen."""
    rows = read_rows(str(metered.path))
    assert set(rows["id"]) == set(metered.asked)
    assert set(rows["energy_method"]) == {"attributed"}
    assert rows["joules"].sum() == pytest.approx(rows["modelled_joules"].sum(), rel=0.5)
    assert (rows["low_joules"] <= rows["joules"]).all()
    assert (rows["joules"] <= rows["high_joules"]).all()
    asked = select(metered.path, "select energy_method, joules from requests")
    assert {row["energy_method"] for row in asked} == {"modelled"}  # as the answers said
    found = summarise(rows)
    assert found.total.methods == ["attributed"]
    assert {drift.endpoint for drift in found.drifts} == {"a100-tp8/0", "h100-tp4/0"}


def test_prometheus_is_told_the_same(metered: Metered) -> None:
    (family,) = (
        family
        for family in text_string_to_metric_families(metered.page)
        if family.name == "wattshed_energy_joules"
    )
    sums: dict[str, float] = {}
    for sample in family.samples:
        if sample.name.endswith("_total"):
            kind = sample.labels["kind"]
            assert sample.labels["method"] == "attributed"
            sums[kind] = sums.get(kind, 0.0) + sample.value
    said = read_meters(str(metered.path))
    assert sums["dynamic"] == pytest.approx(sum(m.dynamic_j for m in said))
    idle_j = sum(m.idle_of_requests_j + m.idle_j for m in said)
    assert sums["idle"] == pytest.approx(idle_j)


def test_the_dashboard_shows_what_the_ledger_has(metered: Metered) -> None:
    shown = {record.id: record for record in metered.shown}
    assert set(shown) == set(metered.asked)
    rows = find_requests(str(metered.path))
    assert len(rows) == len(shown)
    for row in rows:
        record = shown[row["id"]]
        assert (record.joules, record.idle_joules) == pytest.approx(
            (row["joules"], row["idle_joules"])
        )
        assert record.method == row["energy_method"] == "attributed"
        assert record.boundary == row["boundary"]
        assert record.simulated


ROW: dict[str, Any] = {column.name: None for column in requests.columns} | {
    "arrived_at": 1.0,
    "outcome": "served",
    "status": 200,
    "endpoint": "e/1",
    "joules": 5.0,
    "energy_method": "modelled",
}
PART = {
    "endpoint": "e/1",
    "joules": 3.0,
    "idle_joules": 0.5,
    "low_joules": 2.0,
    "high_joules": 4.0,
    "energy_method": "attributed",
    "boundary": "accelerator",
    "ended": True,
    "whole": True,
}


@pytest.mark.parametrize(
    ("parts", "joules"),
    [
        ([PART | {"ended": False}, PART], 6.0),
        ([PART | {"endpoint": "e/0"}, PART], 6.0),  # one that failed it before
        ([PART | {"ended": False}], 5.0),
        ([PART | {"endpoint": "e/0"}], 5.0),
        ([PART | {"ended": False, "whole": False, "joules": None}, PART | {"whole": False}], 5.0),
        ([], 5.0),
    ],
)
def test_what_was_metered_counts_once_all_of_it_is_known(
    tmp_path: Path, parts: list[dict[str, Any]], joules: float
) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}", interval_s=0.001)
    ledger.append(ROW | {"id": "r"})
    ledger.append_together(
        [(metered_table, {"id": "r", "window": f"w{i}", **part}) for i, part in enumerate(parts)]
    )
    assert ledger.close() == 0
    for asked in ({}, {"request": "r"}):
        (row,) = read_rows(str(path), **asked).to_dicts()  # type: ignore[arg-type]
        assert (row["joules"], row["modelled_joules"]) == (joules, 5.0)
        assert row["energy_method"] == ("modelled" if joules == 5.0 else "attributed")


def test_a_ledger_from_before_there_were_meters_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}", interval_s=0.001)
    ledger.append(ROW | {"id": "r"})
    assert ledger.close() == 0
    connection = sqlite3.connect(path)
    connection.executescript("drop table metered; drop table windows")
    connection.close()
    assert read_rows(str(path))["joules"].to_list() == [5.0]
    assert read_meters(str(path)) == []


# ------------------------------------------------------------------ meters


def simulated(clock: VirtualClock, **faults: Any) -> SimulatedMeter:
    return SimulatedMeter(Plant(100.0), clock, Faults(**faults))


def watched(gauge: Gauge, clock: VirtualClock, seconds: float) -> Iterator[Closed]:
    until_ns = clock.mono_ns() + round(seconds * NS_PER_S)
    while clock.mono_ns() < until_ns:
        gauge.read()
        yield from gauge.closed()
        clock.sleep(gauge.wait_s)


@pytest.mark.parametrize("faults", [{}, {"tick_s": 0.1}, {"step_j": 1.0}, {"range_j": 5000.0}])
def test_windows_of_a_counter_add_up_to_it(faults: dict[str, float]) -> None:
    clock = VirtualClock(NS_PER_S)
    found = list(watched(Gauge([simulated(clock, **faults)]), clock, 60.0))
    assert len(found) >= 25
    assert all(a.end_ns == b.begin_ns for a, b in pairwise(found))
    seconds = (found[-1].end_ns - found[0].begin_ns) / NS_PER_S
    energy_j = sum(window.energy.value_j or 0.0 for window in found)
    error_j = 100.0 * faults.get("tick_s", 0.0) + faults.get("step_j", 0.0)
    assert energy_j == pytest.approx(100.0 * seconds, rel=1e-9, abs=error_j)


def test_a_meter_that_is_silent_for_a_moment_loses_nothing() -> None:
    clock = VirtualClock(NS_PER_S)
    found = list(watched(Gauge([simulated(clock, gap_every_s=20.0, gap_s=7.0)]), clock, 60.0))
    seconds = (found[-1].end_ns - found[0].begin_ns) / NS_PER_S
    energy_j = sum(window.energy.value_j or 0.0 for window in found)
    assert energy_j == pytest.approx(100.0 * seconds)


def test_a_meter_that_is_gone_says_nothing_and_never_0() -> None:
    clock = VirtualClock(NS_PER_S)
    found = list(watched(Gauge([simulated(clock, denied_at_s=10.0)]), clock, 200.0))
    assert found[-1].energy.value_j is None


def test_what_a_simulated_meter_says_was_not_measured() -> None:
    clock = VirtualClock(NS_PER_S)
    gauge = open_gauge(
        "simulated:tick_s=0.02", "accelerator", lambda text: open_meters(text, clock)
    )
    found = list(watched(gauge, clock, 10.0))
    assert {window.energy.kind for window in found} == {"modelled"}
    assert gauge.infos[0].provenance == "modelled"


def test_only_what_the_profile_covers_is_read() -> None:
    clock = VirtualClock()
    for boundary in ("wall", "host"):  # of a host, the accelerators are not all
        with pytest.raises(MeterError, match=f"of the boundary of the profile: {boundary}"):
            open_gauge("x", boundary, lambda _: [simulated(clock)])
    with pytest.raises(ParameterError, match="twice"):
        open_gauge("x", "accelerator", lambda _: [simulated(clock), simulated(clock)])


def fleet_with(meters: list[list[str]]) -> Fleet:
    deployments = load_fleet("mixed-70b").deployments
    made = [
        structs.replace(d, replicas=2, upstream=Upstream(["http://a:1", "http://b:1"], meters=text))
        for d, text in zip(deployments, meters, strict=False)
    ]
    return Fleet("f", made)


def test_one_meter_may_cover_many_and_stays_open_when_the_fleet_is_read_again() -> None:
    clock = VirtualClock()
    ids = iter("abcdef")

    def opener(_: str) -> list[Any]:
        return [SimulatedMeter(Plant(1.0), clock, id=next(ids))]

    targets = Targets(fleet_with([["x"], ["x", "y"]]))
    x, y = open_watches(targets, opener=opener)
    assert (list(x.covered), list(y.covered)) == (
        ["a100-tp8/0", "a100-tp8/1", "h100-tp8/0"],
        ["h100-tp8/1"],
    )
    assert targets.by_name["a100-tp8/1"].watch is x
    again = open_watches(Targets(fleet_with([["x"], ["x", "z"]])), [x, y], opener)
    assert again[0] is x
    assert again[1] is not y
    (wider,) = open_watches(Targets(fleet_with([["x"], ["x"]])), [x, y], opener)
    assert (wider is x, wider.gauge is x.gauge) == (False, True)


def test_energy_is_told_once_when_a_meter_is_handed_over(tmp_path: Path) -> None:
    """The fleet was read again, and what the meter covers has changed; a request is under way."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    metering, told = Metering(ledger), threading.Condition()
    windows: dict[Watch, list[Closed]] = {}

    def note(split: Split) -> None:
        with told:
            windows.setdefault(split.watch, []).append(split.closed)
            told.notify_all()

    metering.observers.append(note)
    first, second = load_fleet("mixed-70b").deployments[:2]
    meter = SimulatedMeter(Plant(1000.0), SystemClock())
    gauge = Gauge([meter], window_s=0.05)
    anew = Gauge([SimulatedMeter(Plant(1000.0), SystemClock())], window_s=0.05)
    watches = [
        Watch("x", gauge, {"e/0": first}),
        Watch("x", gauge, {"e/0": first, "f/0": second}),
        Watch("x,y", anew, {"e/0": second}),  # named otherwise, it is the same component
    ]
    for watch in watches:
        metering.follow([watch])
        with told:
            assert told.wait_for(lambda w=watch: len(windows.get(w, [])) >= 3, 20)
        watch.came(Stay("endless", "e/0", time.monotonic(), 100))
    metering.close()
    assert ledger.close() == 0
    inner, outer = windows[watches[0]], windows[watches[1]]
    assert inner[-1].end_ns == outer[0].begin_ns  # nothing is left out, either
    assert outer[-1].end_ns <= windows[watches[2]][0].begin_ns


def test_a_meter_that_is_not_there_names_its_place() -> None:
    with pytest.raises(FleetError, match=r"a100-tp8.upstream.meters: nonsense: .* use one of nvml"):
        open_watches(Targets(fleet_with([["nonsense"]])))


def test_a_window_waits_until_it_is_known_what_was_done_in_it() -> None:
    """A request that was sent twice to one endpoint, the first time in vain."""
    clock, plant = VirtualClock(NS_PER_S), Plant(1000.0)
    (deployment, *_) = load_fleet("mixed-70b").deployments
    watch = Watch("x", Gauge([SimulatedMeter(plant, clock)]), {"e/0": deployment})
    plant.draw(2 * NS_PER_S, 9 * NS_PER_S, 3000.0)
    stays = [Stay("r", "e/0", at_s, 500, output_tokens=30) for at_s in (2.0, 2.5)]
    for stay in stays:
        watch.came(stay)
    splits = []

    def look(until_s: float) -> None:
        while clock.mono_ns() < until_s * NS_PER_S:
            splits.extend(watch.look())
            clock.sleep(watch.gauge.wait_s)

    look(20.0)
    assert not splits
    stays[0].end_s, stays[1].end_s = 2.5, 9.0
    look(20.1)
    assert len(splits) >= 8
    recent, found = Recent(), Ended(9.0, "e/0", "frugal", "served", id="r")
    joules = []
    for split in splits:
        Wholes(recent).observe(split)
        joules += [record.joules for record in with_meters([found], recent.metered())]
    assert joules[:3] == [None] * 3
    assert joules[3] == pytest.approx(sum(stay.joules for stay in stays))
    assert set(joules[4:]) == {joules[3]}
    rows = [rows_of(split) for split in splits]
    assert [len(each) for each in rows[:4]] == [2, 2, 2, 2]  # both stays are one row
    assert [len(each) for each in rows[5:]] == [1] * len(rows[5:])  # nobody is there any more
    ended = [[row["ended"] for table, row in each if table is metered_table] for each in rows[:4]]
    assert ended == [[False], [False], [False], [True]]
    assert not watch.busy


# ------------------------------------------------------------------ drift


def test_drift_is_an_alarm_when_it_is_sure() -> None:
    few, near, far = Drift(), Drift(), Drift()
    for k in range(4 * FEWEST):
        near.add(10.0 + k, (10.0 + k) * (1.05 + 0.02 * (-1) ** k))
        far.add(10.0 + k, (10.0 + k) * (1.3 + 0.1 * (-1) ** k))
    few.add(10.0, 20.0)
    found = [drift.found("e") for drift in (few, near, far)]
    assert [each and each.alarm for each in found] == [False, False, True]
    assert found[2] is not None
    assert found[2].low is not None
    assert found[2].high is not None
    assert found[2].ratio == pytest.approx(1.3, abs=0.01)
    assert found[2].low < found[2].ratio < found[2].high
    assert Drift().found("e") is None


def test_an_alarm_ends_with_the_profile_that_it_was_about(tmp_path: Path) -> None:
    """A profile that was measured anew is not held against what the old one said."""
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    metering = Metering(ledger)
    metering.drifts.take((name, 10.0, 20.0 + k) for name in ("e/0", "e/1") for k in range(FEWEST))
    assert [each.alarm for each in metering.drifts.found()] == [True, True]
    (deployment, *_) = load_fleet("mixed-70b").deployments
    watch = Watch("x", Gauge([simulated(VirtualClock())]), {"e/0": deployment})
    metering.follow([watch])
    metering.follow([watch])
    metering.close()
    assert [each.endpoint for each in metering.drifts.found()] == ["e/1"]
    assert ledger.close() == 0


def test_an_alarm_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    drifts = Drifts()
    for _ in range(3 * FEWEST):
        drifts.take([("e", 10.0, 20.0), ("e", 10.0, 20.1), ("e", None, 5.0)])
    assert [record.getMessage()[:20] for record in caplog.records] == ["e is metered at 2.01"]


def test_an_alarm_is_logged_once_whichever_thread_raises_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Each meter has a thread: one that looks sees what another one has just been told."""
    interval_s = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        drifts = Drifts()

        def tell(name: str) -> None:
            for _ in range(200):
                drifts.take([(name, 10.0, 20.0), (name, 10.0, 20.1)])

        threads = [threading.Thread(target=tell, args=(f"e/{k}",)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval_s)
    assert sorted(r.getMessage()[:3] for r in caplog.records) == ["e/0", "e/1", "e/2", "e/3"]
