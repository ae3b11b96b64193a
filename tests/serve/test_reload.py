"""A fleet file that changes while requests are served."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from wattshed.serve.decide import Decider
from wattshed.serve.reload import Reloader, reload_when_due
from wattshed.serve.setup import Setup

CHAT = "/v1/chat/completions"
STREAMED = {"model": "llama", "stream": True, "messages": [{"role": "user", "content": "hello"}]}
HTTP = httpx.Client(limits=httpx.Limits(max_keepalive_connections=0), timeout=30)
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
TOKEN = b'data: {"choices":[{"delta":{"content":"a"}}]}\n\n'
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
PROFILES = {"a100-tp8": "a100-80gb-tp8", "h100-tp4": "h100-80gb-tp4"}


def write(path: Path, urls: dict[str, str]) -> None:
    beside = path.with_suffix(".new")
    beside.write_text(
        "".join(
            f'[[deployments]]\nname = "{name}"\n'
            f'profile = "splitwise/{PROFILES[name]}/llama-2-70b"\n'
            f'[deployments.upstream]\nurls = ["{url}"]\nmodels = ["llama"]\n'
            for name, url in urls.items()
        )
    )
    beside.replace(path)


def reloader(path: Path) -> Reloader:
    return Reloader(path, lambda fleet: Decider(fleet, "round-robin", default="least-loaded"))


def follow(gateway: Any, found: Reloader, until: Callable[[], bool]) -> None:
    """Let the gateway follow its file until something is so."""

    async def watch() -> None:
        task = asyncio.create_task(reload_when_due(gateway, found))
        while not until():
            await asyncio.sleep(0.02)
        task.cancel()

    asyncio.run(asyncio.wait_for(watch(), 20))


def test_streams_go_on_and_new_requests_go_elsewhere(
    live: Callable[..., Any], raw_engine: Callable[..., Any], tmp_path: Path
) -> None:
    go_on = threading.Event()

    def slow(connection: socket.socket) -> None:
        connection.sendall(HEAD + TOKEN)
        go_on.wait(20)
        connection.sendall(TOKEN + END)

    def quick(connection: socket.socket) -> None:
        connection.sendall(HEAD + TOKEN + END)

    old, new = raw_engine(slow, quick), raw_engine(quick)
    path = tmp_path / "fleet.toml"
    write(path, {"a100-tp8": old.url})
    started = live(old.url)
    found = reloader(path)
    started.gateway.switch_off()
    with HTTP.stream("POST", started.url + CHAT, json=STREAMED) as answer:
        pieces = answer.iter_raw()
        got = next(pieces)
        write(path, {"a100-tp8": old.url, "h100-tp4": new.url})
        follow(started.gateway, found, lambda: len(list(started.gateway.targets)) == 2)
        first, second = started.gateway.targets
        assert (first.account.running, second.account.running) == (1, 0)  # still known
        assert started.gateway.decider.active == "least-loaded"  # still switched off
        other = HTTP.post(started.url + CHAT, json=STREAMED)
        assert other.headers["x-wattshed-endpoint"] == "h100-tp4/0"
        go_on.set()
        got += b"".join(pieces)
    assert got == TOKEN + TOKEN + END
    assert first.account.in_flight == 0
    assert [row["outcome"] for row in started.rows()] == ["served", "served"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[deployments", "not TOML"),
        ('[[deployments]]\nname = "a"\nprofile = "nonsense"\n', "no profile named"),
        (
            '[[deployments]]\nname = "a"\nprofile = "splitwise/a100-80gb-tp8/llama-2-70b"\n',
            "none has an address",
        ),
    ],
)
def test_a_broken_file_changes_nothing(
    live: Callable[..., Any],
    raw_engine: Callable[..., Any],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    text: str,
    words: str,
) -> None:
    engine = raw_engine(lambda connection: connection.sendall(HEAD + TOKEN + END))
    path = tmp_path / "fleet.toml"
    write(path, {"a100-tp8": engine.url})
    started = live(engine.url)
    found, before = reloader(path), started.gateway.setup
    path.write_text(text)
    with caplog.at_level(logging.WARNING, "wattshed.serve"):
        follow(started.gateway, found, lambda: "the fleet stays as it was" in caplog.text)
    assert words in caplog.text
    assert started.gateway.setup is before
    assert HTTP.post(started.url + CHAT, json=STREAMED).status_code == 200


def test_the_kill_switch_works_while_a_file_is_read(
    live: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "fleet.toml"
    write(path, {"a100-tp8": "http://a:1"})
    gateway = live("http://a:1").gateway
    before = gateway.setup

    class Slow(Reloader):
        def load(self, before: Setup) -> Setup:
            found = super().load(before)  # opens meters: that takes its time
            gateway.switch_off()
            return found

    found = Slow(path, lambda fleet: Decider(fleet, "round-robin", default="least-loaded"))
    found.asked = True
    follow(gateway, found, lambda: gateway.setup is not before)
    assert gateway.decider.active == "least-loaded"


def test_only_a_change_or_a_request_makes_it_due(tmp_path: Path) -> None:
    path = tmp_path / "fleet.toml"
    write(path, {"a100-tp8": "http://a:1"})
    found = reloader(path)
    assert not found.due()
    found.asked = True
    assert found.due()
    assert not found.due()
    os.utime(path, ns=(1, 1))
    assert found.due()
    path.unlink()  # while an editor writes it anew
    assert not found.due()
    write(path, {"a100-tp8": "http://a:1"})
    assert found.due()
