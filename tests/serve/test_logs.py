"""What the gateway logs, and what it never does."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from wattshed.fleet import load_fleet
from wattshed.serve.background import background
from wattshed.serve.keys import KeyEntry, Keys
from wattshed.serve.logs import JsonLines, TextLines, log, log_request
from wattshed.serve.simulated import simulated_app

CHAT = "/v1/chat/completions"
KEY, WRONG, PROMPT = "a-long-and-random-key", "another-random-key", "what nobody else may read"
ASK = {"model": "auto", "max_tokens": 3, "messages": [{"role": "user", "content": PROMPT}]}
ENTRY = KeyEntry("team-a", hashlib.sha256(KEY.encode()).hexdigest())
SECRETS = (KEY, WRONG, PROMPT, ENTRY.sha256, "water")


def ask_all(url: str) -> list[int]:
    """With the right key, a wrong one, in the wrong place, and what cannot be read."""
    bearers = [KEY, WRONG, KEY, KEY]
    bodies: list[Any] = [ASK, ASK, {**ASK, "model": PROMPT}, {**ASK, "max_tokens": PROMPT}]
    with httpx.Client(base_url=url, timeout=30) as http:
        found = [
            http.post(CHAT, json=body, headers={"authorization": f"Bearer {key}"}).status_code
            for body, key in zip(bodies, bearers, strict=True)
        ]
        found.append(
            http.get("/ui/state", headers={"authorization": f"Bearer {WRONG}"}).status_code
        )
        found.append(http.post(f"{CHAT}?key={KEY}", json=ASK).status_code)
    return found


@pytest.fixture
def written() -> Iterator[Callable[[logging.Formatter], io.StringIO]]:
    """Have the gateway log to a text, too."""
    handlers: list[logging.Handler] = []

    def write(formatter: logging.Formatter) -> io.StringIO:
        text = io.StringIO()
        handlers.append(logging.StreamHandler(text))
        handlers[-1].setFormatter(formatter)
        log.addHandler(handlers[-1])
        return text

    before = log.level
    log.setLevel(logging.INFO)
    yield write
    log.setLevel(before)
    for handler in handlers:
        log.removeHandler(handler)


def test_each_line_is_an_object_without_secrets(
    live: Callable[..., Any], written: Callable[[logging.Formatter], io.StringIO]
) -> None:
    lines, text = written(JsonLines()), written(TextLines())
    with background(simulated_app(load_fleet("mixed-70b").deployments[0], 200.0)) as engine:
        started = live(engine, "http://127.0.0.1:9", keys=Keys([ENTRY]))
        started.gateway.observers.append(log_request)
        assert ask_all(started.url) == [200, 401, 404, 400, 200, 401]
        (row,) = [row for row in started.rows() if row["outcome"] != "refused"]
    found = [json.loads(line) for line in lines.getvalue().splitlines()]
    assert {"time", "level", "logger", "event"} <= set.intersection(*(set(f) for f in found))
    (request,) = [f for f in found if f["event"] == "a request has ended"]
    for name in ("tenant", "endpoint", "outcome", "status", "input_tokens", "joules"):
        assert request[name] == row[name]
    assert request["request"] == row["id"]
    assert datetime.fromisoformat(request["time"]).tzinfo is not None
    assert f"request={row['id']}" in text.getvalue()
    for secret in SECRETS:
        assert secret not in lines.getvalue() + text.getvalue()


def test_a_line_stays_a_line() -> None:
    error = ValueError("first\nsecond \ud800")
    raised = ValueError, error, None
    record = log.makeRecord("x", logging.WARNING, "f", 1, "a\nb %s", ("c\r\n",), raised)
    text = JsonLines().format(record)
    assert not re.search("[\r\n]", text)
    line = json.loads(text)
    assert line["event"] == "a\nb c\r\n"
    assert "ValueError: first\nsecond" in line["exception"]
    assert text.encode()


@pytest.mark.slow
def test_the_command_writes_json_and_nothing_else(tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'[[keys]]\ntenant = "team-a"\nsha256 = "{ENTRY.sha256}"\n')
    options = ["--demo", "--port", "0", "--keys", str(keys)]
    options += ["--log-format", "json", "--log-level", "info"]
    process = subprocess.Popen(
        [sys.executable, "-m", "wattshed", "serve", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    )
    assert process.stdout is not None
    _, address, _, key, *_ = shlex.split(process.stdout.readline())
    assert key == "authorization: Bearer $KEY"
    ask_all(address.removesuffix(CHAT))
    process.terminate()
    _, text = process.communicate(timeout=30)
    events = [json.loads(line)["event"] for line in text.splitlines()]
    assert any(event.startswith("watch it at http://127.0.0.1") for event in events)
    assert "a request has ended" in events
    for secret in SECRETS:
        assert secret not in text
