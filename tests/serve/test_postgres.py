"""The ledger on a real PostgreSQL server, which is started for the test and stopped under it."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from wattshed.serve.ledger import Ledger, requests
from wattshed.serve.rows import read_rows

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
ROW = {
    column.name: None for column in requests.columns if column.name not in ("outcome", "status")
} | {"arrived_at": 1.0, "outcome": "served", "status": 200, "joules": 2.5}


def folder_of_commands() -> Path | None:
    """Where the commands of PostgreSQL are: of the system, else of the wheel pgserver."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    for found in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True):
        return found.parent
    wheel = importlib.util.find_spec("pgserver")
    return Path(wheel.origin).parent / "pginstall/bin" if wheel and wheel.origin else None


class Server:
    """A PostgreSQL server on a Unix socket; it may not run as root."""

    def __init__(self, commands: Path, folder: Path) -> None:
        self._commands, self._folder, self._user = commands, folder, None
        if os.geteuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            self._user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(folder, self._user)
        self._run("initdb", "--username=wattshed", "--auth=trust", "--no-sync")
        self.url = f"postgresql+psycopg://wattshed@/postgres?host={folder}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self._folder}'"
        log = self._folder / "log"
        self._run("pg_ctl", "start", "--wait", f"--log={log}", f"--options={options}")

    def crash(self) -> None:
        """Stop without a word to anybody, and without tidying up."""
        self._run("pg_ctl", "stop", "--wait", "--mode=immediate")

    def _run(self, command: str, *options: str) -> None:
        subprocess.run(
            [self._commands / command, "--pgdata", self._folder / "data", *options],
            check=True,
            user=self._user,
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
        )


@pytest.fixture
def server() -> Iterator[Server]:
    commands = folder_of_commands()
    if commands is None:
        pytest.fail("there is no PostgreSQL server here: install one, or pip install pgserver")
    # Not in tmp_path, which only its owner may enter, and whose name is too long for a socket.
    with tempfile.TemporaryDirectory(prefix="wattshed-pg-", ignore_cleanup_errors=True) as folder:
        made = Server(commands, Path(folder))
        made.start()
        yield made
        made.crash()


def ids_in(url: str) -> list[str]:
    return read_rows(url, ["id"])["id"].to_list()


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_rows_are_there_once(server: Server) -> None:
    for _ in range(2):  # a gateway that starts again
        ledger = Ledger(server.url)
        for number in [*range(3000), 5, 5]:
            ledger.append({**ROW, "id": f"{number:04}"})
        assert ledger.close() == 0
    assert sorted(ids_in(server.url)) == [f"{number:04}" for number in range(3000)]
    assert read_rows(server.url, ["joules"])["joules"].sum() == 2.5 * 3000


def test_a_server_that_crashes_and_comes_back_has_every_row_once(server: Server) -> None:
    ledger = Ledger(server.url, interval_s=0.01)
    stop, count = threading.Event(), 0

    def append() -> None:
        nonlocal count
        while not stop.wait(0.001):
            ledger.append({**ROW, "id": f"{count:06}"})
            count += 1

    appending = threading.Thread(target=append)
    appending.start()
    for _ in range(2):
        reached = count + 200
        wait_for(lambda least=reached: count > least and ledger.error is None)
        server.crash()  # commits are under way
        wait_for(lambda: ledger.error is not None)
        held = ledger.backlog
        wait_for(lambda least=held: ledger.backlog > least + 100)  # rows wait
        server.start()
        wait_for(lambda: ledger.error is None)
    stop.set()
    appending.join()
    assert ledger.close() == 0
    assert sorted(ids_in(server.url)) == [f"{number:06}" for number in range(count)]


def test_the_gateway_writes_there_and_loses_nothing_acknowledged_when_it_is_killed(
    server: Server, start: Callable[..., Any], wattshed: Callable[..., Any]
) -> None:
    acknowledged: list[tuple[str, float]] = []
    stop = threading.Event()

    def client(url: str) -> None:
        body = {"model": "auto", "max_tokens": 2, "messages": [{"role": "user", "content": "x"}]}
        with httpx.Client(base_url=url, timeout=30) as http:
            while not stop.is_set():
                try:
                    found = http.post(CHAT, json=body)
                except httpx.HTTPError:
                    return
                acknowledged.append((found.headers["x-wattshed-request"], time.monotonic()))

    process, _, url = start("--demo", "--speed", "50", "--ledger", server.url)
    clients = [threading.Thread(target=client, args=(url,)) for _ in range(8)]
    for one in clients:
        one.start()
    wait_for(lambda: bool(acknowledged) and time.monotonic() - acknowledged[0][1] > 1.5)
    killed_s = time.monotonic()
    process.kill()
    stop.set()
    for one in clients:
        one.join()
    found = ids_in(server.url)
    assert len(found) == len(set(found))
    old = [name for name, at_s in acknowledged if at_s < killed_s - 0.5]
    assert old
    assert set(old) <= set(found)
    told = wattshed("explain", old[0], "--ledger", server.url)
    assert old[0] in told.stdout
