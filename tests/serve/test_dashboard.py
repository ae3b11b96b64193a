"""The dashboard: its figures as functions of records, and who may see them."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from base64 import b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from wattshed.errors import ParameterError
from wattshed.fleet import Fleet, load_fleet
from wattshed.serve.background import background
from wattshed.serve.dashboard import page
from wattshed.serve.decide import Decider
from wattshed.serve.keys import KeyEntry, Keys
from wattshed.serve.ledger import Ledger, requests
from wattshed.serve.ledger import metered as metered_table
from wattshed.serve.near import Names, asked_from_here
from wattshed.serve.recent import Ended, Metered, Recent, even_joules, with_meters
from wattshed.serve.refused import RefusedError
from wattshed.serve.savings import FEWEST, saved, share_interval
from wattshed.serve.search import find_requests
from wattshed.serve.settings import Settings
from wattshed.serve.setup import make_setup
from wattshed.serve.shown import EndpointNow, Scene
from wattshed.serve.simulated import simulated_app
from wattshed.serve.state import attainment, latency, state_of

CHAT = "/v1/chat/completions"
ASK = {
    "model": "auto",
    "stream": True,
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 3,
}
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    with background(simulated_app(load_fleet("mixed-70b").deployments[0], 200.0)) as url:
        yield url


def scene(*names: str, up_s: float = 1000.0) -> Scene:
    endpoints = [
        EndpointNow(n, n.rpartition("/")[0], "llama", True, True, 0, 0, 8, False) for n in names
    ]
    return Scene("1", up_s, True, "frugal", False, None, 0, "ok", 0, endpoints)


def record(end_s: float, endpoint: str = "a/0", **known: Any) -> Ended:
    usual = {"policy": "frugal", "outcome": "served", "joules": 30.0, "idle_joules": 10.0}
    return Ended(end_s, endpoint, **{**usual, "input_tokens": 5, "output_tokens": 8, **known})


# ------------------------------------------------------------------ the figures


@given(st.lists(st.tuples(st.floats(0, 899), st.floats(0, 1e4), st.sampled_from("abc"))))
def test_energy_is_in_each_figure_once(found: list[tuple[float, float, str]]) -> None:
    now_s = 5000.0
    records = sorted(
        (record(now_s - ago, f"{n}/0", joules=j, idle_joules=None) for ago, j, n in found),
        key=lambda r: r.end_s,
    )
    state = state_of(scene("a/0", "b/0", "c/0"), records, now_s)
    whole_j = sum(r.joules or 0.0 for r in records)
    shown_j = sum(sum(bins) for bins in state.power.values()) * state.bin_s
    assert shown_j == pytest.approx(whole_j)
    lately_j = sum(r.joules or 0.0 for r in records if now_s - r.end_s <= 60)
    parts = [f.dynamic_w for f in state.endpoints if f.dynamic_w is not None]
    assert sum(parts) * state.window_s == pytest.approx(lately_j)
    assert (state.total.dynamic_w or 0.0) == pytest.approx(sum(parts))
    assert sum(f.requests for f in state.endpoints) == state.total.requests == len(records)


def test_what_is_not_known_is_not_zero() -> None:
    state = state_of(scene("a/0"), [], 10.0)
    assert state.total.dynamic_w is state.total.joules_per_output_token is None
    assert state.saved.verdict == "too few requests"
    unknown = record(9.0, joules=None, idle_joules=None, method="")
    assert state_of(scene("a/0"), [unknown], 10.0).total.dynamic_w is None
    long_ago = record(9.0)
    assert state_of(scene("a/0"), [long_ago], 200.0).total.dynamic_w == 0.0


def test_a_window_is_no_longer_than_what_is_known_of_it() -> None:
    records = [record(100.0 + i) for i in range(11)]
    assert state_of(scene("a/0", up_s=20.0), records, 110.0).window_s == 20.0
    cut = state_of(scene("a/0"), records, 110.0, cut=True)
    assert cut.window_s == cut.span_s == 10.0
    young = state_of(scene("a/0"), records, 110.0)
    assert young.total.dynamic_w == pytest.approx(11 * 30 / 60)


def test_what_was_sent_nowhere_is_told_apart() -> None:
    lost = record(9.0, "", outcome="rejected", joules=None, idle_joules=None)
    state = state_of(scene("a/0"), [record(8.0), lost], 10.0)
    assert [f.name for f in state.endpoints] == ["a/0", "sent nowhere"]
    assert state.total.outcomes == {"served": 1, "rejected": 1}
    assert state.points == [(5, 8, 0)]


def test_energy_by_token_is_of_tokens_with_energy() -> None:
    records = [record(1.0), record(2.0, joules=None, idle_joules=None, output_tokens=1000)]
    assert state_of(scene("a/0"), records, 10.0).total.joules_per_output_token == 40 / 8


def test_quantiles_and_wilsons_interval_are_those_of_numpy_and_scipy() -> None:
    times = np.random.default_rng(1).exponential(size=300)
    found = latency(np.array([np.nan, *times]))
    assert [found.p50_s, found.p90_s, found.p99_s] == pytest.approx(
        np.quantile(times, (0.5, 0.9, 0.99)).tolist()
    )
    kept = attainment(np.array([1.0] * 45 + [0.0] * 5 + [np.nan] * 9))
    expected = binomtest(45, 50).proportion_ci(method="wilson")
    assert (kept.promised, kept.kept) == (50, 45)
    assert (kept.low, kept.high) == pytest.approx((expected.low, expected.high))


def test_the_window_is_bounded() -> None:
    recent = Recent(most=3)
    assert not recent.overflows
    recent._records.extend(record(float(i)) for i in range(9))
    assert [r.end_s for r in recent.records()] == [6.0, 7.0, 8.0]
    assert recent.overflows


def test_what_was_metered_takes_the_place_of_what_was_modelled() -> None:
    modelled = [record(9.0, id=name, method="modelled", boundary="host") for name in "ab"]
    found = metered(100.0, "a/0", idle_joules=None)
    total = state_of(scene("a/0"), with_meters(modelled, {"b": found}), 10.0).total
    assert total.methods == {"attributed": 1, "modelled": 1}
    assert total.boundaries == ["accelerator", "host"]
    assert (total.dynamic_w, total.idle_w) == (130 / 60, 10 / 60)
    recent = Recent()
    for number in range(10_001):
        recent.meter(str(number), found)
    assert len(recent.metered()) == 10_000
    assert "0" not in recent.metered()


def metered(joules: float, *endpoints: str, **known: Any) -> Metered:
    usual = {"idle_joules": 1.0, "method": "attributed", "boundary": "accelerator"}
    return Metered(joules, endpoints=endpoints, **{**usual, **known})


@pytest.mark.parametrize(
    ("parts", "joules"),
    [
        ([metered(100.0, "a/0")], 100.0),
        ([metered(20.0, "b/0"), metered(100.0, "a/0")], 120.0),  # b/0 failed it before
        ([metered(100.0, "a/0"), metered(20.0, "b/0")], 120.0),
        ([metered(20.0, "b/0")], 30.0),
        ([metered(20.0)], 30.0),  # it was sent to a/0 once more, and is there
        ([metered(20.0), metered(100.0, "a/0")], 120.0),
        ([metered(100.0, "a/0", whole=False)], 30.0),
        ([metered(20.0, "b/0", whole=False), metered(100.0, "a/0")], 30.0),
    ],
)
def test_a_request_is_modelled_until_all_that_was_metered_of_it_is_known(
    parts: list[Metered], joules: float
) -> None:
    recent = Recent()
    for part in parts:
        recent.meter("r", part)
    (shown,) = with_meters([record(9.0, id="r", method="modelled")], recent.metered())
    assert shown.joules == joules
    assert shown.method == ("modelled" if joules == 30.0 else "attributed")
    assert shown.idle_joules == (10.0 if joules == 30.0 else len(parts))


# ------------------------------------------------------------------ what was saved


def decided(own: float, even: float, shadow: float | None = None, policy: str = "frugal") -> Ended:
    return record(1.0, own_j=own, even_j=even, shadow_j=shadow, policy=policy)


def test_a_policy_is_held_against_its_shadow_or_an_even_spread() -> None:
    alone = saved([decided(6.0, 8.0)] * 100, "frugal")
    assert (alone.baseline, alone.share, alone.saved_j) == ("even", 0.25, 200.0)
    beside = saved([decided(6.0, 8.0, 12.0)] * 100, "frugal")
    assert (beside.baseline, beside.share, beside.verdict) == ("shadow", 0.5, "saves")
    assert saved([decided(6.0, 8.0)] * 100, "least-loaded").requests == 0
    costs = saved([decided(8.0, 6.0)] * 100, "frugal")
    assert (costs.saved_j, costs.verdict) == (-200.0, "costs more")


def test_few_requests_get_no_interval() -> None:
    found = saved([decided(6.0, 8.0)] * (FEWEST - 1), "frugal")
    assert (found.low, found.high, found.verdict) == (None, None, "too few requests")


def test_nothing_is_saved_where_there_is_no_choice() -> None:
    found = saved([decided(8.0, 8.0)] * 100, "frugal")
    assert (found.share, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.verdict == "not significant"


def test_the_interval_covers_what_is_true() -> None:
    # Both ends depend on the size of the request; the truth is the ratio of the means.
    rng, hits, runs = np.random.default_rng(3), 0, 400
    for _ in range(runs):
        size = rng.lognormal(sigma=0.8, size=200)
        took = size * rng.uniform(0.5, 1.1, 200)
        low, high = share_interval(took, size)
        hits += low <= 0.2 <= high
    assert binomtest(hits, runs, 0.95).pvalue > 1e-3


def test_the_even_baseline_is_the_mean_of_open_endpoints() -> None:
    joules = {"a": 10.0, "b": 20.0, "full": 1.0}
    assert even_joules(joules, ["a/0", "a/1", "b/0", "unfit/0"]) == pytest.approx(40 / 3)
    assert even_joules(joules, []) is None


# ------------------------------------------------------------------ the addresses


def test_what_was_served_is_added_up_and_found(live: Callable[..., Any], engine: str) -> None:
    started = live(engine, decider={"shadow": "least-loaded"})
    for _ in range(3):
        HTTP.post(started.url + CHAT, json=ASK, headers={"x-wattshed-class": "quick"})
    state = HTTP.get(started.url + "/ui/state").json()
    rows = started.rows()
    only = state["endpoints"][0]
    assert only["name"] == "a100-tp8/0"
    assert only["outcomes"] == {"served": 3}
    assert only["dynamic_w"] * state["window_s"] == pytest.approx(sum(r["joules"] for r in rows))
    assert only["methods"] == {"modelled": 3}
    assert only["attainment"]["kept"] == 3
    assert only["ttft"]["requests"] == 3
    assert state["simulated"] is state["gateway"]["endpoints"][0]["simulated"] is True
    assert state["gateway"]["shadow"] == "least-loaded"
    assert state["saved"]["baseline"] == "shadow"
    assert [p[:2] for p in state["points"]] == [[r["input_tokens"], 3] for r in rows]

    def found(**asked: Any) -> list[str]:
        answer = HTTP.get(started.url + "/ui/requests", params=asked)
        return [row["id"] for row in answer.json()["requests"]]

    ids = [row["id"] for row in rows]
    assert found() == ids[::-1]
    assert found(limit=2) == ids[:0:-1]
    assert found(id=ids[1]) == [ids[1]]
    assert found(id=ids[1][:20]) == ids[::-1]
    assert found(endpoint="a100-tp8") == found(endpoint="a100-tp8/0") == ids[::-1]
    assert found(endpoint="elsewhere") == found(id="%") == found(tenant="somebody") == []
    for wrong in ("0", "-1", "x", "201", "1" * 5000, "00000001" + "1" * 5000):
        answer = HTTP.get(started.url + "/ui/requests", params={"limit": wrong})
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "limit"


def test_a_search_that_takes_too_long_gives_up(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}")
    for number in range(3000):
        ledger.append({"id": f"{number:032x}", "arrived_at": 1.0, "outcome": "x", "status": 0})
    assert ledger.close() == 0
    with pytest.raises(ParameterError, match="search: took longer than 0 s; give a whole id"):
        find_requests(ledger.url, prefix="ff", seconds=0)
    assert find_requests(ledger.url, prefix="ff") == []
    (found,) = find_requests(ledger.url, prefix=f"{7:032x}")
    assert found["id"] == f"{7:032x}"


ROW: dict[str, Any] = {
    **dict.fromkeys(requests.columns.keys()),
    "status": 200,
    "outcome": "served",
    "joules": 5.0,
    "energy_method": "modelled",
}
PART: dict[str, Any] = {
    **dict.fromkeys(metered_table.columns.keys()),
    "endpoint": "e/0",
    "joules": 3.0,
    "idle_joules": 0.5,
    "energy_method": "attributed",
}


def test_a_search_finds_what_was_metered_and_why_something_was_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}")
    ledger.append({**ROW, "id": "a", "arrived_at": 1.0, "endpoint": "e/0", "arm": "canary"})
    ledger.append({**ROW, "id": "b", "arrived_at": 2.0, "endpoint": "e/0"})
    refused = {"outcome": "refused", "reason": "requests_budget", "joules": None}
    ledger.append({**ROW, **refused, "id": "c", "arrived_at": 3.0, "energy_method": None})
    for window, ended in (("v", False), ("w", True)):
        part = {**PART, "id": "a", "window": window, "ended": ended, "whole": True}
        ledger.append_together([(metered_table, part)])
    assert ledger.close() == 0
    names = ("id", "joules", "idle_joules", "energy_method", "reason", "arm")
    expected = [
        ("c", None, None, None, "requests_budget", None),
        ("b", 5.0, None, "modelled", None, None),
        ("a", 6.0, 1.0, "attributed", None, "canary"),
    ]

    def found(**asked: Any) -> list[tuple[Any, ...]]:
        return [tuple(row[name] for name in names) for row in find_requests(str(path), **asked)]

    assert found() == expected
    assert found(most=2) == expected[:2]
    assert found(endpoint="e/0") == expected[1:]
    older = sqlite3.connect(path)
    older.executescript("drop table metered; alter table requests drop column arm")
    older.close()
    assert found(prefix="a") == [("a", 5.0, None, "modelled", None, None)]


def test_others_need_a_key_and_see_their_own(live: Callable[..., Any], engine: str) -> None:
    def bearer(key: str) -> dict[str, str]:
        return {"authorization": f"Bearer {key}"}

    entries = [KeyEntry(f"of {k}", hashlib.sha256(k.encode()).hexdigest()) for k in ("k1", "k2")]
    started = live(engine, keys=Keys(entries), settings=Settings(loopback=False))
    for key in ("k1", "k2", "k2"):
        HTTP.post(started.url + CHAT, json=ASK, headers=bearer(key))
    assert len(started.rows()) == 3
    empty = HTTP.get(started.url + "/ui")
    assert (empty.text, empty.headers["content-security-policy"]) == page()
    for path in ("/ui/state", "/ui/requests"):
        assert HTTP.get(started.url + path).status_code == 401
        assert HTTP.get(started.url + path, headers=bearer("k3")).status_code == 401
        assert HTTP.get(started.url + path, headers=bearer("k1")).status_code == 200
    asked = {"tenant": "of k2"}
    for key, number in (("k1", 1), ("k2", 2)):
        answer = HTTP.get(started.url + "/ui/requests", params=asked, headers=bearer(key))
        assert [row["tenant"] for row in answer.json()["requests"]] == [f"of {key}"] * number


def test_an_endpoint_with_another_engine_is_not_called_simulated(
    live: Callable[..., Any], engine: str, fleet_of: Callable[..., Fleet]
) -> None:
    gateway = (started := live(engine, engine)).gateway
    for _ in range(2):
        assert HTTP.post(started.url + CHAT, json=ASK).status_code == 200
    fleet = fleet_of(["http://127.0.0.1:9", engine])
    gateway.adopt(make_setup(fleet, Decider(fleet, "round-robin"), gateway.setup))
    shown = HTTP.get(started.url + "/ui/state").json()["gateway"]["endpoints"]
    assert [each["simulated"] for each in shown] == [False, True]


@pytest.mark.parametrize(
    ("headers", "here"),
    [
        ({}, True),
        ({"host": "localhost:8080"}, True),
        ({"host": "[::1]:8080"}, True),
        ({"host": "rebound.example:8080"}, False),
        ({"host": "[:"}, False),
        ({"x-forwarded-for": "127.0.0.1"}, False),
        ({"via": "1.1 proxy"}, False),
    ],
)
def test_only_its_user_asks_from_this_machine(headers: dict[str, str], here: bool) -> None:
    said = {"host": "127.0.0.1:8080", **headers}
    assert asked_from_here(said) is here


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "localhost:8080"}, 200),
        ({"host": "[::1]"}, 200),
        ({"host": "host.docker.internal:8080"}, 200),  # allowed by name
        ({"origin": "http://localhost:3000"}, 200),
        ({"host": "rebound.example:8080"}, 403),
        ({"origin": "https://foreign.example"}, 403),
        ({"origin": "http://127.0.0.1.foreign.example"}, 403),
        ({"origin": "null"}, 403),
    ],
)
def test_no_foreign_page_uses_the_engines(
    live: Callable[..., Any], engine: str, headers: dict[str, str], status: int
) -> None:
    started = live(engine, settings=Settings(names=frozenset({"Host.Docker.Internal"})))
    for _ in range(2):
        asked = HTTP.post(
            started.url + "/v1/completions", json={"model": "llama", "prompt": "a"}, headers=headers
        )
        shown = HTTP.get(started.url + "/v1/models", headers=headers)
        assert (asked.status_code, shown.status_code) == (status, status)
    if status == 403:
        assert "--allow-host" in asked.json()["error"]["message"]


def test_who_names_no_host_is_not_taken_for_one_of_this_machine() -> None:
    with pytest.raises(RefusedError, match="is not this machine"):
        Names().check({})


def test_without_keys_others_see_nothing(live: Callable[..., Any], engine: str) -> None:
    started = live(engine, settings=Settings(loopback=False))
    answer = HTTP.get(started.url + "/ui/state")
    assert answer.status_code == 403
    assert "--keys" in answer.json()["error"]["message"]


def test_the_page_runs_only_its_own_script() -> None:
    whole, policy = page()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for tag in ("script", "style"):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", whole, re.DOTALL)
        (digest,) = re.findall(f"{tag}-src 'sha256-([^']*)'", policy)
        assert b64decode(digest) == hashlib.sha256(text.encode()).digest()
    assert not re.search(r"""(?:src|href)=["'](?!#|data:,)""", whole)
    assert not re.search(r"\son\w+=|\sstyle=|innerHTML|insertAdjacentHTML|eval\(", whole)
