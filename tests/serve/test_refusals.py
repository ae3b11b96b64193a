"""Requests that get no further than the door."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

import wattshed as ws
from wattshed.cli import main
from wattshed.serve.background import background
from wattshed.serve.call import Newcomer
from wattshed.serve.keys import Holder, KeyEntry
from wattshed.serve.ledger import LATER, Ledger, requests
from wattshed.serve.refusals import LONGEST_NAME, MOST_ROWS, Refusals
from wattshed.serve.refused import RefusedError
from wattshed.serve.rows import read_rows
from wattshed.serve.summary import summarise

FLEET = """
[[deployments]]
name = "h100"
profile = "splitwise/h100-80gb-tp8/llama-2-70b"
[deployments.upstream]
urls = ["http://127.0.0.1:1"]
"""
PATH = "/v1/chat/completions"
SECRETS = {"authorization": "Bearer sk-secret"}


def newcomer(tenant: str = "", model: str | None = None) -> Newcomer:
    holder = Holder(KeyEntry(tenant, "0" * 64)) if tenant else None
    return Newcomer(PATH, SECRETS, 1.7e9, holder, model)


def refused(code: str | None = "invalid_api_key", status: int = 401) -> RefusedError:
    return RefusedError(status, "no valid API key sk-secret", code)


def stood_for(rows: list[dict[str, Any]]) -> int:
    return sum(row["stands_for"] or 1 for row in rows)


def test_a_row_says_what_was_refused_and_no_secret() -> None:
    came = newcomer("team", "gpt\x00-0" + "x" * 999)
    (row,) = Refusals().note(came, refused("model_not_found", 404), "1", 0.0)
    assert (row["outcome"], row["reason"], row["status"]) == ("refused", "model_not_found", 404)
    assert (row["tenant"], row["path"], row["arrived_at"]) == ("team", PATH, 1.7e9)
    assert row["model"].startswith("gpt-0")
    assert len(row["model"]) <= LONGEST_NAME
    assert "secret" not in str(row)
    assert set(row) == {column.name for column in requests.columns}


def test_of_a_flood_the_rest_is_one_row_when_its_second_is_over() -> None:
    refusals = Refusals()
    rows = [r for i in range(1000) for r in refusals.note(newcomer(), refused(), f"{i}", 7.5)]
    assert len(rows) == MOST_ROWS
    assert refusals.due(7.9) == []
    (rest,) = refusals.due(8.1)
    assert rest["stands_for"] == 1000 - MOST_ROWS
    assert refusals.due(9.1) == []
    assert refusals.counts == {("invalid_api_key", 401): 1000}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([None, "c1", "c2"]), st.floats(0, 3)))
)
def test_each_request_is_told_once(asked: list[tuple[str, str | None, float]]) -> None:
    refusals, rows, now = Refusals(), [], 0.0
    for number, (tenant, code, later) in enumerate(asked):
        now += later
        rows += refusals.note(newcomer(tenant), refused(code), str(number), now)
    rows += refusals.due(now + 2)
    assert stood_for(rows) == len(asked) == sum(refusals.counts.values())
    assert len({row["id"] for row in rows}) == len(rows)
    for tenant in "ab":
        mine = [row for row in rows if row["tenant"] == tenant]
        assert stood_for(mine) == sum(t == tenant for t, _, _ in asked)


def test_reports_count_what_a_row_stands_for(tmp_path: Path) -> None:
    ledger, refusals = Ledger(f"sqlite:///{tmp_path / 'l.sqlite'}"), Refusals()
    for i in range(50):
        for row in refusals.note(newcomer("t"), refused(), str(i), 0.0):
            ledger.append(row)
    for row in refusals.due(1.0):
        ledger.append(row)
    assert ledger.close() == 0
    rows = read_rows(str(tmp_path / "l.sqlite"))
    assert len(rows) == MOST_ROWS + 1
    total = summarise(rows).total
    assert (total.requests, total.outcomes) == (50, {"refused": 50})


def test_a_flood_is_in_the_ledger_when_the_gateway_has_ended(tmp_path: Path) -> None:
    fleet = tmp_path / "fleet.toml"
    fleet.write_text(FLEET)
    app = ws.gateway(fleet, policy="least-loaded", ledger=f"sqlite:///{tmp_path / 'l.sqlite'}")
    with background(app) as url, httpx.Client() as client:
        for _ in range(40):
            assert client.post(url + PATH, content=b"{").status_code == 400
    rows = read_rows(str(tmp_path / "l.sqlite"))
    total = summarise(rows).total
    assert (total.requests, total.outcomes) == (40, {"refused": 40})
    done = CliRunner().invoke(
        main, ["explain", rows["id"].item(0), "--ledger", str(tmp_path / "l.sqlite")]
    )
    assert done.exit_code == 0, done.output
    assert "invalid_json" in done.stdout


def older(path: Path) -> None:
    """A ledger without the columns that came later, with one row."""
    Ledger(f"sqlite:///{path}").close()
    with closing(sqlite3.connect(path)) as connection, connection:
        for column in requests.columns:
            if column.info == LATER:
                connection.execute(f"alter table requests drop column {column.name}")
        connection.execute(
            "insert into requests (id, arrived_at, outcome, status) values ('1', 0, 'served', 200)"
        )


@pytest.mark.parametrize("opened", [False, True])
def test_older_ledgers_are_read_and_gone_on_with(tmp_path: Path, opened: bool) -> None:
    path = tmp_path / "old.sqlite"
    older(path)
    if opened:
        ledger = Ledger(f"sqlite:///{path}")
        ledger.append(Refusals().note(newcomer(), refused(), "2", 0.0)[0])
        assert ledger.close() == 0
    rows = read_rows(str(path))
    assert rows["reason"].to_list() == [None, "invalid_api_key"][: 1 + opened]
