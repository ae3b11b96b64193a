"""`wattshed serve` as people run it."""

from __future__ import annotations

import shlex
import signal
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.serve.background import listening

Start = Callable[..., tuple[subprocess.Popen[str], str, str]]
CHAT = "/v1/chat/completions"


def rows_of(path: Path, table: str = "requests") -> list[dict[str, Any]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return [dict(row) for row in connection.execute(f"select * from {table}")]
    finally:
        connection.close()


def stream(url: str, tokens: int) -> Iterator[bytes]:
    body = {
        "model": "auto",
        "stream": True,
        "max_tokens": tokens,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "hello"}],
    }
    with httpx.stream("POST", url + CHAT, json=body, timeout=60) as answer:
        yield from answer.iter_raw()


def test_the_demo_works_as_it_says_and_drains_when_told_to_stop(
    start: Start, tmp_path: Path
) -> None:
    process, line, url = start("--demo", "--speed", "20")
    curl, address, _, header, _, data = shlex.split(line)
    assert (curl, header) == ("curl", "content-type: application/json")
    answer = httpx.post(address, content=data, headers={"content-type": "application/json"})
    assert answer.json()["system_fingerprint"] == "simulated"
    assert answer.headers["x-simulated"] == "wattshed"
    assert answer.json()["usage"]["energy"]["method"] == "modelled"
    foreign = httpx.get(url + "/v1/models", headers={"host": "rebound.example"})
    assert (foreign.status_code, foreign.json()["error"]["code"]) == (403, "foreign_host")
    process.send_signal(signal.SIGUSR1)
    pieces = stream(url, 400)
    got = next(pieces)
    assert httpx.get(url + "/ready").json()["policy"] == "least-loaded"
    process.send_signal(signal.SIGTERM)
    got += b"".join(pieces)
    assert got.count(b'"content"') == 400
    assert got.endswith(b"data: [DONE]\n\n")
    assert process.wait(20) == 0
    rows = rows_of(tmp_path / "wattshed-demo/ledger.sqlite")
    assert [row["outcome"] for row in rows] == ["served", "served"]
    assert [row["output_tokens"] for row in rows] == [16, 400]
    assert {
        row["kind"] for row in rows_of(tmp_path / "wattshed-demo/ledger.sqlite", "windows")
    } == {"modelled"}


@pytest.mark.slow
def test_200_open_streams_are_drained(start: Start, tmp_path: Path) -> None:
    process, _, url = start("--demo", "--speed", "4")
    begun, ends = threading.Semaphore(0), []

    def client() -> None:
        pieces = stream(url, 60)
        got = next(pieces)
        begun.release()
        ends.append(got + b"".join(pieces))

    clients = [threading.Thread(target=client) for _ in range(200)]
    for one in clients:
        one.start()
    for _ in clients:
        begun.acquire()
    process.send_signal(signal.SIGTERM)
    for one in clients:
        one.join()
    assert process.wait(60) == 0
    assert all(got.count(b'"content"') == 60 for got in ends)
    assert all(got.endswith(b"data: [DONE]\n\n") for got in ends)
    assert len(rows_of(tmp_path / "wattshed-demo/ledger.sqlite")) == 200


@pytest.mark.slow
def test_kill_9_under_load_keeps_what_was_acknowledged(start: Start, tmp_path: Path) -> None:
    process, _, url = start("--demo", "--speed", "50")
    acknowledged: list[tuple[str, float]] = []
    stop = threading.Event()

    def client() -> None:
        body = {"model": "auto", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}
        with httpx.Client(base_url=url) as http:
            while not stop.is_set():
                try:
                    found = http.post(CHAT, json=body)
                except httpx.HTTPError:
                    return
                acknowledged.append((found.headers["x-wattshed-request"], time.monotonic()))

    clients = [threading.Thread(target=client) for _ in range(16)]
    for one in clients:
        one.start()
    time.sleep(4)
    killed_s = time.monotonic()
    process.kill()
    stop.set()
    for one in clients:
        one.join()
    found = [row["id"] for row in rows_of(tmp_path / "wattshed-demo/ledger.sqlite")]
    assert len(found) == len(set(found))
    old = {name for name, at_s in acknowledged if at_s < killed_s - 0.3}
    assert len(old) > 100
    assert old <= set(found)
    path = tmp_path / "wattshed-demo/ledger.sqlite"
    shares, windows = rows_of(path, "metered"), rows_of(path, "windows")
    keys = {(row["id"], row["window"], row["endpoint"]) for row in shares}
    assert len(keys) == len(shares) > 100
    assert windows
    for window in windows:  # all of it was committed together
        given = [row for row in shares if row["window"] == window["id"]]
        total = sum(row["joules"] + row["idle_joules"] for row in given)
        total += window["idle_joules"] + window["unattributed_joules"]
        assert total == pytest.approx(window["joules"], rel=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "give either --fleet FILE or --demo"),
        (["--fleet", "hybrid-2024"], "none has an address"),
        (["--demo", "--policy", "nonsense"], "use one of"),
        (["--demo", "--speed", "nan"], "--speed: 'nan' is not a finite number"),
        (["--demo", "--queue-time", "inf"], "--queue-time: 'inf' is not a finite number"),
        (["--demo", "--canary", "frugal", "--canary-share", "nan"], "is not a finite number"),
        (
            ["--demo", "--ledger", "sqlite:////no/where.sqlite"],
            "--ledger sqlite:////no/where.sqlite: cannot be opened",
        ),
        (["--demo", "--ledger", "no/where.sqlite"], "--ledger no/where.sqlite: cannot be opened"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["serve", "--port", "0", *options])
    assert done.exit_code == 2
    assert words in done.stderr.splitlines()[-1]
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with listening() as taken:
        port = str(taken.getsockname()[1])
        done = CliRunner().invoke(main, ["serve", "--demo", "--port", port])
    assert done.exit_code == 2
    assert f"127.0.0.1:{port}: cannot be served" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


def test_a_file_where_the_ledger_of_the_demo_goes_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wattshed-demo").touch()
    done = CliRunner().invoke(main, ["serve", "--port", "0", "--demo"])
    assert done.exit_code == 2
    assert "wattshed-demo: the folder cannot be made: File exists" in done.stderr


def test_a_meter_that_is_not_there_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(
        '[[deployments]]\nname = "a"\nprofile = "wilkins-2024/swing-a100/llama-2-7b"\n'
        '[deployments.upstream]\nurls = ["http://127.0.0.1:1"]\nmeters = ["nonsense"]\n'
    )
    done = CliRunner().invoke(main, ["serve", "--port", "0", "--fleet", "fleet.toml"])
    assert done.exit_code == 2
    assert "a.upstream.meters: nonsense" in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == [fleet]
