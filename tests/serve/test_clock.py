"""The clock of the wall may jump: nothing but the time that people read follows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx

from wattshed.serve.keys import KeyEntry, Keys
from wattshed.serve.rows import read_rows

CHAT = "/v1/chat/completions"
ASK = {"model": "llama", "messages": [{"role": "user", "content": "hello there"}]}
GOOD = b'{"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":1}}'
KEY = "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683"  # of "key"


def test_durations_order_and_budgets_do_not_follow_the_wall(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(GOOD)
    engine = raw_engine(lambda connection: connection.sendall(head + GOOD))
    keys = Keys([KeyEntry("a", KEY, requests_per_minute=5)])
    started = live(engine.url, keys=keys)
    wall = [1e9, 1e9 + 7200, 5e8, 5e8 - 1e-3, 1e9]  # on two hours, back for years, on again
    read = iter([*wall, 2e9])
    started.gateway.wall = lambda: next(read)
    with httpx.Client(base_url=started.url, headers={"authorization": "Bearer key"}) as http:
        asked = [http.post(CHAT, json=ASK).headers["x-wattshed-request"] for _ in wall]
        refused = http.post(CHAT, json=ASK)  # two hours on the wall have filled no budget
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "requests_budget")
    assert 1 <= int(refused.headers["retry-after"]) <= 12
    *rows, last = sorted(started.rows(), key=lambda row: row["id"])
    assert (last["outcome"], last["reason"]) == ("refused", "requests_budget")
    assert [row["id"] for row in rows] == asked  # ids tell the order of arrival
    assert [row["arrived_at"] for row in rows] == wall
    for row in rows:
        assert 0 <= row["sent_s"] <= row["end_s"] < 60
    by_wall = read_rows(str(started.ledger), ["arrived_at"], since_s=9e8, until_s=2e9)
    assert by_wall["arrived_at"].to_list() == [1e9, 1e9, 1e9 + 7200]
