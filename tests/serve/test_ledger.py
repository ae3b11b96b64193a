"""No row is lost, and none is there twice."""

from __future__ import annotations

import itertools
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sql
from hypothesis import given, settings
from hypothesis import strategies as st

from wattshed.errors import InputError
from wattshed.serve.ledger import BATCH, LARGEST_BACKLOG, Ledger, requests
from wattshed.serve.rows import read_rows

INTERVAL_S = 0.05
ROW = {
    column.name: None for column in requests.columns if column.name not in ("outcome", "status")
} | {"arrived_at": 1.0, "outcome": "served", "status": 200}


def ids_in(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    try:
        return [row[0] for row in connection.execute("select id from requests")]
    finally:
        connection.close()


def test_what_was_appended_is_there_when_it_is_closed(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/l.sqlite", interval_s=10)
    for number in range(5000):
        ledger.append({**ROW, "id": str(number)})
    assert ledger.close() == 0
    assert sorted(map(int, ids_in(tmp_path / "l.sqlite"))) == list(range(5000))


def test_a_row_that_is_appended_twice_is_there_once(tmp_path: Path) -> None:
    for _ in range(2):  # also by a process that starts again
        ledger = Ledger(f"sqlite:///{tmp_path}/l.sqlite")
        for number in (1, 2, 2):
            ledger.append({**ROW, "id": str(number)})
        assert ledger.close() == 0
    assert sorted(ids_in(tmp_path / "l.sqlite")) == ["1", "2"]


VALUES = st.fixed_dictionaries(
    {
        "endpoint": st.sampled_from([None, "", "a/0", "b/0"]),
        "joules": st.none() | st.floats(-1e9, 1e9) | st.sampled_from([0.0, -0.0, 1.0]),
        "kept": st.sampled_from([None, True, False]),
        "status": st.sampled_from([0, 1, 200]),
    }
)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.lists(VALUES, max_size=20), max_size=5))
def test_rows_are_read_as_they_were_written_whatever_they_have_in_common(
    commits: list[list[dict[str, Any]]],
) -> None:
    number = itertools.count()
    rows = [[{**ROW, **row, "id": str(next(number))} for row in rows] for rows in commits]
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(f"sqlite:///{folder}/l.sqlite", interval_s=0.001)
        for those in rows:
            for row in those:
                if row["kept"]:
                    ledger.append(row)
                else:
                    ledger.append_values(tuple(row[c.name] for c in requests.columns))
            while ledger.backlog:
                time.sleep(0.001)
        ledger.close()
        found = read_rows(f"{folder}/l.sqlite", [c.name for c in requests.columns]).to_dicts()
    by_id = {row["id"]: row for row in found}
    assert len(found) == len(by_id)
    assert by_id == {row["id"]: row for those in rows for row in those}


def test_a_commit_takes_all_groups_and_single_rows_once(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path}/l.sqlite", interval_s=10)
    for number in range(BATCH + 1):
        ledger.append({**ROW, "id": f"a{number}"})
        ledger.append_together([(requests, {**ROW, "id": f"b{number}"})])
    assert ledger.backlog == 2 * BATCH + 2
    assert ledger.close() == 0
    assert len(ids_in(tmp_path / "l.sqlite")) == 2 * BATCH + 2


WRITER = """
import sys, time
from wattshed.serve.ledger import Ledger
ledger = Ledger(sys.argv[1], interval_s=float(sys.argv[2]))
row = dict(eval(sys.argv[3]))
for number in range(10**9):
    ledger.append({**row, "id": str(number)})
    print(number, time.monotonic(), flush=True)
    time.sleep(0.0002)
"""


def test_kill_9_loses_nothing_that_is_older_than_the_interval(tmp_path: Path) -> None:
    path = tmp_path / "l.sqlite"
    command = [sys.executable, "-c", WRITER, f"sqlite:///{path}", str(INTERVAL_S), repr(ROW)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        appended = [writer.stdout.readline().split()]
        while float(appended[-1][1]) < float(appended[0][1]) + 1.5:
            appended.append(writer.stdout.readline().split())
        writer.send_signal(signal.SIGKILL)
        appended += [line.split() for line in writer.stdout if line.endswith("\n")]
    assert writer.returncode == -signal.SIGKILL
    found = ids_in(path)
    assert len(found) == len(set(found))
    last_s = float(appended[-1][1])
    # A commit may take as long again as the interval, and more on a busy machine.
    old = [number for number, at_s in appended if float(at_s) < last_s - INTERVAL_S - 1.0]
    assert len(old) > 100
    assert set(old) <= set(found)


def test_rows_wait_for_a_disk_that_is_full(tmp_path: Path) -> None:
    """A trigger stands for the disk: every insert fails until it is gone."""
    path = tmp_path / "l.sqlite"
    ledger = Ledger(f"sqlite:///{path}", interval_s=0.01)
    other = sqlite3.connect(path)
    other.execute(
        "create trigger full before insert on requests"
        " begin select raise(abort, 'database or disk is full'); end"
    )
    other.commit()
    ledger.append({**ROW, "id": "1"})
    pause = threading.Event()
    while ledger.error is None:
        pause.wait(0.005)
    assert "full" in ledger.error
    assert ledger.backlog == 1
    other.execute("drop trigger full")
    other.commit()
    other.close()
    while ledger.backlog:
        pause.wait(0.005)
    assert ledger.close() == 0
    assert ledger.error is None
    assert ids_in(path) == ["1"]


def test_a_ledger_that_cannot_be_written_is_closed_after_one_more_try(tmp_path: Path) -> None:
    """Each may take as long as somebody else has the database."""
    path = tmp_path / "l.sqlite"
    ledger = Ledger(f"sqlite:///{path}", interval_s=60)
    tries = []

    def fail(*_: Any) -> None:
        tries.append(1)
        raise sql.exc.OperationalError("", None, OSError("database is locked"))

    ledger._insert = fail
    ledger.append({**ROW, "id": "1"})
    while ledger.error is None:
        time.sleep(0.001)
    assert ledger.close() == 1
    assert len(tries) == 2


def test_a_row_that_cannot_be_kept_is_told_and_does_not_end_the_writer(tmp_path: Path) -> None:
    ledger = Ledger(f"sqlite:///{tmp_path / 'l.sqlite'}", interval_s=0.01)
    ledger.append({**ROW, "id": "1", "output_tokens": 2**70})
    while ledger.error is None:
        time.sleep(0.001)
    assert "too large" in ledger.error
    assert ledger._writer.is_alive()
    del ledger._requests[:]
    ledger.append({**ROW, "id": "2"})
    assert ledger.close() == 0
    assert ids_in(tmp_path / "l.sqlite") == ["2"]


@pytest.mark.slow
def test_a_ledger_that_holds_too_much_has_requests_refused(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    """Somebody else has the database: rows wait, and at the bound the gateway takes no more."""
    engine = raw_engine(lambda connection: None)
    started = live(engine.url)
    ledger, ask = started.gateway.ledger, {"model": "llama", "messages": "hello"}
    other = sqlite3.connect(started.ledger)
    other.execute("begin exclusive")
    for number in range(LARGEST_BACKLOG):
        ledger.append({**ROW, "id": f"{number:06}"})
    with httpx.Client(base_url=started.url) as http:
        refused = http.post("/v1/chat/completions", json=ask)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_full")
        assert "retry-after" in refused.headers
        assert engine.requests == []
        other.rollback()
        other.close()
        while ledger.overflows:
            time.sleep(0.01)
        assert http.post("/v1/chat/completions", json=ask).status_code == 502  # it is taken
    while ledger.backlog:
        time.sleep(0.01)
    assert len(ids_in(started.ledger)) == LARGEST_BACKLOG + 1


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("sqlite:////nowhere/at/all.sqlite", "unable to open"),
        ("sqlite://", "in memory"),
        ("://nonsense", "no URL of a database"),
        ("/nowhere/at/all.sqlite", "unable to open"),
        ("oracle://me:secret@host/db", "cannot be opened"),
    ],
)
def test_a_ledger_that_cannot_be_kept_is_refused(url: str, found: str) -> None:
    with pytest.raises(InputError, match=found) as refused:
        Ledger(url)
    assert "secret" not in str(refused.value)
