"""Who may ask, for what, and how much; and who may see how the gateway is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import FileError
from wattshed.fleet import load_fleet
from wattshed.serve.background import background
from wattshed.serve.intake import CLASS, DEADLINE
from wattshed.serve.keys import Bucket, Holder, KeyEntry, Keys, load_keys
from wattshed.serve.refused import RefusedError
from wattshed.serve.settings import Settings
from wattshed.serve.simulated import simulated_app
from wattshed.serve.wishes import GREENEST, LAMBDA

CHAT = "/v1/chat/completions"
ASK = {"model": "llama", "max_tokens": 4, "messages": [{"role": "user", "content": "hello there"}]}
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)


def entry(key: str, **settings: Any) -> KeyEntry:
    return KeyEntry(f"of {key}", hashlib.sha256(key.encode()).hexdigest(), **settings)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


# ------------------------------------------------------------------ budgets


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 20)), max_size=30))
def test_a_bucket_never_holds_more_than_its_window_and_says_when_to_come_back(
    steps: list[tuple[float, float]],
) -> None:
    bucket, now = Bucket(10.0, 60.0), 0.0
    for pause_s, amount in steps:
        now += pause_s
        wait_s = bucket.wait_s(1.0, now)
        assert bucket.level <= 10.0
        assert (wait_s == 0) == (bucket.level >= 1.0)
        assert bucket.wait_s(1.0, now + wait_s) == pytest.approx(0.0, abs=1e-6)
        now += wait_s
        bucket.charge(amount, now)


def test_requests_tokens_and_joules_are_budgets() -> None:
    holder = Holder(entry("a", requests_per_minute=2))
    holder.admit(0.0)
    holder.admit(0.0)
    with pytest.raises(RefusedError, match="budget of requests") as refused:
        holder.admit(0.0)
    assert (refused.value.status, refused.value.retry_after_s) == (429, 30.0)
    holder.admit(30.0)
    for name in ("tokens_per_minute", "joules_per_hour"):
        holder = Holder(entry("a", **{name: 100.0}))
        holder.admit(0.0)
        holder.charge(150, 150.0, 0.0)  # known only afterwards
        with pytest.raises(RefusedError) as refused:
            holder.admit(0.0)
        assert refused.value.code == name.partition("_")[0] + "_budget"
        window_s = 60.0 if "minute" in name else 3600.0
        holder.admit(0.51 * window_s)


# ------------------------------------------------------------------ keys


def test_a_key_is_known_by_its_hash() -> None:
    keys = Keys([entry("first"), entry("second")])
    assert keys.identify("Bearer second").tenant == "of second"
    assert keys.identify("bearer first ").tenant == "of first"
    for wrong in (None, "", "Bearer", "Bearer third", "Basic first", "first", "Bearer \udcff"):
        with pytest.raises(RefusedError) as refused:
            keys.identify(wrong)
        assert refused.value.status == 401


class Watched(bytes):
    """A hash that must not be compared byte by byte, which ends at the first that differs."""

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared in a time that depends on it")

    __hash__ = bytes.__hash__


def test_keys_are_compared_in_constant_time() -> None:
    """Each hash is read, whichever is the right one, and none by `==`."""
    read: list[str] = []

    class Held(Holder):
        @property
        def digest(self) -> bytes:
            read.append(self.tenant)
            return Watched(bytes.fromhex(self.entry.sha256))

        @digest.setter
        def digest(self, value: bytes) -> None: ...

    entries = [entry(key) for key in ("a", "b", "c")]
    keys = Keys(entries)
    keys._holders = [Held(one) for one in entries]
    for presented in ("a", "c", "nobody's", ""):
        with suppress(RefusedError):
            keys.identify(f"Bearer {presented}")
        assert read == ["of a", "of b", "of c"]
        read.clear()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("keys = 3", "array"),
        ('[[keys]]\ntenant = "a"\nsha256 = "secret"', "regex"),
        ('[[keys]]\ntenant = "a"\nkey = "secret"', "unknown field `key`"),
        (f'[[keys]]\ntenant = "a"\nsha256 = "{"0" * 64}"\n' * 2, "twice"),
        (
            f'[[keys]]\ntenant = "a"\nsha256 = "{"0" * 64}"\njoules_per_hour = inf',
            r"keys\[0\].joules_per_hour: inf; give a finite number",
        ),
        ("[[keys", "not TOML"),
    ],
)
def test_a_wrong_file_of_keys_is_refused_without_its_content(
    tmp_path: Path, text: str, found: str
) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(FileError, match=found) as refused:
        load_keys(path)
    assert "secret" not in str(refused.value)
    with pytest.raises(FileError, match="cannot be read"):
        load_keys(tmp_path / "nowhere.toml")


# ------------------------------------------------------------------ at the gateway


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    (deployment,) = load_fleet("mixed-70b").deployments[:1]
    with background(simulated_app(deployment, 500)) as url:
        yield url


def test_a_wrong_header_is_not_charged(live: Callable[..., Any], engine: str) -> None:
    started = live(engine, keys=Keys([entry("k", requests_per_minute=1.0)]))
    for wrong in ({CLASS: "none"}, {DEADLINE: "soon"}, {LAMBDA: "2"}, {GREENEST: "perhaps"}):
        headers = {**bearer("k"), **wrong}
        assert HTTP.post(started.url + CHAT, json=ASK, headers=headers).status_code == 400
    asked = [HTTP.post(started.url + CHAT, json=ASK, headers=bearer("k")) for _ in range(2)]
    assert [found.status_code for found in asked] == [200, 429]


async def broken(scope: Any, receive: Any, send: Any) -> None:
    """An engine that fails whatever it is asked."""
    await send({"type": "http.response.start", "status": 500, "headers": []})
    await send({"type": "http.response.body"})


def test_a_request_that_fails_counts_as_one_and_uses_nothing(live: Callable[..., Any]) -> None:
    """As OpenAI counts: else nothing would limit who tries again and again."""
    keys = Keys(
        [entry("k", requests_per_minute=1), entry("j", joules_per_hour=1, tokens_per_minute=1)]
    )
    started = live(broken, keys=keys)
    asked = [HTTP.post(started.url + CHAT, json=ASK, headers=bearer(k)) for k in "kkjj"]
    codes = [(found.status_code, found.json()["error"]["code"]) for found in asked]
    failed = [(502, "upstream_failed"), (503, "no_endpoint")]
    assert codes[0] in failed
    assert codes[1] == (429, "requests_budget")
    assert set(codes[2:]) <= set(failed)


def test_keys_models_and_budgets_hold(live: Callable[..., Any], engine: str, caplog: Any) -> None:
    keys = Keys([entry("k1"), entry("k2", models=["auto"]), entry("k3", joules_per_hour=1.0)])
    started = live(engine, keys=keys)
    url = started.url + CHAT

    def status(key: str | None, **fields: Any) -> int:
        headers = bearer(key) if key else {}
        return HTTP.post(url, json={**ASK, **fields}, headers=headers).status_code

    assert status("k1") == 200
    assert status(None) == status("wrong") == 401
    assert status("k2") == 403
    assert status("k2", model="auto") == 200
    assert status("k3") == 200
    assert status("k3") == 429  # one answer has used up an hour's joule
    rows = started.rows()
    served = [row["tenant"] for row in rows if row["outcome"] == "served"]
    assert served == ["of k1", "of k2", "of k3"]
    refused = [(r["tenant"], r["model"], r["reason"], r["status"]) for r in rows if r["reason"]]
    assert refused == [
        ("", None, "invalid_api_key", 401),
        ("", None, "invalid_api_key", 401),
        ("of k2", "llama", "model_not_allowed", 403),
        ("of k3", "llama", "joules_budget", 429),
    ]
    metrics = HTTP.get(started.url + "/metrics").text
    assert 'refused_requests_total{reason="invalid_api_key",status="401"} 2.0' in metrics
    listed = HTTP.get(started.url + "/v1/models", headers=bearer("k2")).json()["data"]
    assert [model["id"] for model in listed] == ["auto"]
    assert HTTP.get(started.url + "/v1/models").status_code == 401
    assert HTTP.get(started.url + "/health").status_code == 200
    content = started.ledger.read_bytes() + caplog.text.encode()
    for key in ("k1", "wrong"):
        assert f"Bearer {key}".encode() not in content


def test_the_state_is_shown_to_this_machine_or_for_a_key(
    live: Callable[..., Any], engine: str
) -> None:
    started = live(engine, keys=Keys([entry("k1")]), settings=Settings(loopback=False))
    metrics = HTTP.get(started.url + "/metrics")
    assert (metrics.status_code, metrics.json()["error"]["code"]) == (403, "key_required")
    assert HTTP.get(started.url + "/ready").json() == {"ready": True}
    for path in ("/metrics", "/ready"):
        found = HTTP.get(started.url + path, headers=bearer("k1"))
        assert found.status_code == 200
        assert "a100-tp8/0" in found.text


def test_who_comes_through_a_proxy_or_from_a_foreign_site_is_not_of_this_machine(
    live: Callable[..., Any], engine: str
) -> None:
    started = live(engine, keys=Keys([entry("k1")]))
    assert HTTP.get(started.url + "/metrics").status_code == 200
    for name in ("localhost", "localhost:80", "127.0.0.2:9", "[::1]", "[::1]:80"):
        assert HTTP.get(started.url + "/metrics", headers={"host": name}).status_code == 200
    proxies = [(h, "203.0.113.7") for h in ("x-forwarded-for", "forwarded", "via", "X-Real-IP")]
    sites = [("host", name) for name in ("a.example", "localhost.a.example:80", "192.168.0.1", "[")]
    for header, value in proxies + sites:
        passed_on = {header: value}
        assert HTTP.get(started.url + "/metrics", headers=passed_on).status_code == 403
        assert HTTP.get(started.url + "/ready", headers=passed_on).json() == {"ready": True}
        with_key = passed_on | bearer("k1")
        assert HTTP.get(started.url + "/metrics", headers=with_key).status_code == 200


def test_metrics_are_the_sums_of_the_ledger(live: Callable[..., Any], engine: str) -> None:
    started = live(engine)
    for stream in (False, True, True):
        body = {**ASK, "stream": stream}
        HTTP.post(started.url + CHAT, json=body, headers={"x-wattshed-class": "quick"})
    text = HTTP.get(started.url + "/metrics").text
    rows = started.rows()
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    served = 'wattshed_requests_total{endpoint="a100-tp8/0",outcome="served"}'
    assert float(lines[served]) == len(rows) == 3
    for kind, column in (("dynamic", "joules"), ("idle", "idle_joules")):
        name = (
            'wattshed_energy_joules_total{boundary="accelerator",endpoint="a100-tp8/0",'
            f'kind="{kind}",method="modelled"}}'
        )
        assert float(lines[name]) == pytest.approx(sum(row[column] for row in rows))
    tokens = 'gen_ai_client_token_usage_total{endpoint="a100-tp8/0",gen_ai_token_type="output"}'
    assert float(lines[tokens]) == sum(row["output_tokens"] for row in rows)
    first = 'gen_ai_server_time_to_first_token_seconds_count{endpoint="a100-tp8/0"}'
    assert float(lines[first]) == 2  # of a whole answer it is not seen
    assert float(lines['wattshed_endpoint_up{endpoint="a100-tp8/0"}']) == 1
    assert float(lines["wattshed_queue_requests"]) == 0
