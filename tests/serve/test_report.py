"""What a ledger adds up to: sums by hand, sums of groups, and what is refused."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import polars as pl
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from wattshed.cli import main
from wattshed.errors import FileError
from wattshed.fleet import load_fleet
from wattshed.impact import impact_of
from wattshed.records import LedgerSummary
from wattshed.serve.background import background
from wattshed.serve.canary import CANARY, CONTROL
from wattshed.serve.comparison import comparisons_of
from wattshed.serve.impacts import with_impacts
from wattshed.serve.ledger import Ledger, requests, shown
from wattshed.serve.rows import SCHEMA, read_rows
from wattshed.serve.simulated import simulated_app
from wattshed.serve.summary import groups_of, summarise

T0 = 1_750_003_200.0  # 2025-06-15T16:00Z
EMPTY = {column.name: None for column in requests.columns}
SERVED = EMPTY | {
    "tenant": "a",
    "path": "/v1/chat/completions",
    "model": "llama",
    "slo_class": "",
    "policy": "frugal",
    "endpoint": "h100/0",
    "deployment": "h100",
    "candidates": json.dumps({"joules": {"h100": 8.0, "a100": 12.0}}),
    "tried": "{}",
    "expected_output_tokens": 20.0,
    "input_tokens": 100,
    "output_tokens": 10,
    "tokens_counted": False,
    "joules": 10.0,
    "idle_joules": 2.0,
    "energy_method": "modelled",
    "boundary": "accelerator",
    "extrapolated": False,
    "kept": True,
    "outcome": "served",
    "status": 200,
}
ROWS: list[dict[str, Any]] = [
    SERVED | {"id": "1", "arrived_at": T0 + 10},
    SERVED | {"id": "2", "arrived_at": T0 + 20, "tenant": "b", "kept": False, "joules": 30.0},
    SERVED
    | {
        "id": "3",
        "arrived_at": T0 + 3600,
        "endpoint": "a100/0",
        "deployment": "a100",
        "idle_joules": None,
        "extrapolated": True,
        "kept": None,
    },
    EMPTY
    | {"id": "4", "arrived_at": T0 + 7300, "tenant": "b", "outcome": "rejected", "status": 503}
    | {"candidates": "{}", "tried": "{}"},
]
FLEET = """
[[deployments]]
name = "h100"
profile = "splitwise/h100-80gb-tp8/llama-2-70b"
site = "east"

[[deployments]]
name = "a100"
profile = "splitwise/a100-80gb-tp8/llama-2-70b"

[sites.east]
pue = 1.5
price_per_kwh = 0.2
currency = "EUR"
water_l_per_kwh = 1.8
{carbon}
"""


def write_ledger(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    ledger = Ledger(f"sqlite:///{path}", interval_s=0.001)
    for row in rows:
        ledger.append(row)
    assert ledger.close() == 0
    return path


NOBODY = 65534


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return write_ledger(tmp_path / "ledger.sqlite", ROWS)


def run(*arguments: str | Path, status: int = 0) -> Result:
    done = CliRunner().invoke(main, [str(a) for a in arguments])
    assert done.exit_code == status, done.output
    return done


def results_of(*arguments: str | Path) -> dict[str, Any]:
    answer = json.loads(run(*arguments, "--json").stdout)
    results: dict[str, Any] = answer["results"]
    return results


# ------------------------------------------------------------------ sums


def test_sums_are_those_of_a_hand(ledger: Path) -> None:
    found = summarise(read_rows(str(ledger)))
    total = found.total
    assert (total.requests, total.outcomes) == (4, {"rejected": 1, "served": 3})
    assert (total.input_tokens, total.output_tokens) == (300, 30)
    assert (total.with_energy, total.without_idle, total.extrapolated) == (3, 1, 1)
    assert (total.dynamic_j, total.idle_j) == (50.0, 4.0)
    assert (total.energy_per_request_j, total.energy_per_output_token_j) == (18.0, 1.8)
    assert total.net_energy_per_request_j is None  # one of them has gross energy alone
    assert (total.promised, total.kept, total.attainment) == (2, 1, 0.5)
    assert (total.methods, total.boundaries) == (["modelled"], ["accelerator"])
    a, b = found.tenants
    assert (a.name, a.requests, a.dynamic_j, a.attainment) == ("a", 2, 20.0, 1.0)
    assert (b.name, b.requests, b.dynamic_j, b.attainment) == ("b", 2, 30.0, 0.0)
    assert b.net_energy_per_request_j == 30.0
    assert [(e.name, e.requests) for e in found.endpoints] == [
        ("a100/0", 1),
        ("h100/0", 2),
        (None, 1),
    ]
    nowhere = found.endpoints[2]
    assert (nowhere.dynamic_j, nowhere.idle_j, nowhere.attainment) == (None, None, None)
    assert [(h.name, h.requests) for h in found.hours] == [
        ("2025-06-15T16:00Z", 2),
        ("2025-06-15T17:00Z", 1),
        ("2025-06-15T18:00Z", 1),
    ]


def test_energy_without_output_tokens_is_not_laid_on_those_of_others() -> None:
    embedding = SERVED | {"path": "/v1/embeddings", "output_tokens": 0, "joules": 90.0}
    rows = [SERVED | {"joules": 8.0}, SERVED | {"joules": 18.0}, embedding, embedding]
    named = {"arm": CANARY, "modelled_joules": 0.0}
    table = pl.DataFrame(
        [row | named | {"id": str(i), "arrived_at": T0 + i} for i, row in enumerate(rows)], SCHEMA
    )
    (group,) = groups_of(table, pl.lit("total"))
    assert group.energy_per_output_token_j == pytest.approx((8 + 18 + 2 + 2) / 20)
    assert group.net_energy_per_output_token_j == pytest.approx((8 + 18) / 20)
    assert group.energy_per_request_j == pytest.approx((8 + 18 + 90 + 90 + 4 * 2) / 4)
    control = table.with_columns(arm=pl.lit(CONTROL))
    without = control.filter(pl.col("output_tokens") > 0)
    differences = [
        comparisons_of(pl.concat([table, each]))[0].differences[0] for each in (control, without)
    ]
    assert [each.name for each in differences] == ["energy_per_output_token_j"] * 2
    assert [each.value for each in differences] == pytest.approx([0.0, 0.0])


def test_predicted_is_held_against_final_energy(ledger: Path) -> None:
    a100, h100 = summarise(read_rows(str(ledger))).forecasts
    assert (a100.endpoint, a100.predicted_j, a100.final_j) == ("a100/0", 12.0, 10.0)
    assert (h100.requests, h100.predicted_j, h100.final_j) == (2, 16.0, 40.0)
    assert h100.difference == 1.5
    assert (h100.expected_output_tokens, h100.output_tokens) == (40.0, 20)


joules = st.none() | st.floats(0, 1e6)
any_row = st.fixed_dictionaries(
    {
        "arrived_at": st.floats(T0, T0 + 30_000),
        "tenant": st.sampled_from(["a", "b", "", None]),
        "model": st.sampled_from(["llama", "auto"]),
        "endpoint": st.sampled_from(["h100/0", "a100/0", None]),
        "joules": joules,
        "idle_joules": joules,
        "output_tokens": st.none() | st.integers(0, 1000),
        "kept": st.sampled_from([True, False, None]),
        "outcome": st.sampled_from(["served", "failed", "left"]),
    }
)


@settings(max_examples=40, deadline=None)
@given(st.lists(any_row, min_size=1, max_size=20))
def test_groups_add_up_to_the_total(rows: list[dict[str, Any]]) -> None:
    made = [EMPTY | {"id": str(k), "status": 200} | row for k, row in enumerate(rows)]
    found = summarise(pl.DataFrame(made, SCHEMA).sort("arrived_at"))
    total = found.total
    assert total.dynamic_j == pytest.approx(
        sum(r["joules"] or 0 for r in rows) if any(r["joules"] is not None for r in rows) else None
    )
    for groups in (found.tenants, found.models, found.endpoints, found.hours):
        for name in ("requests", "output_tokens", "with_energy", "without_idle", "promised"):
            assert sum(getattr(g, name) for g in groups) == getattr(total, name)
        for name in ("dynamic_j", "idle_j"):
            whole = sum(getattr(g, name) or 0.0 for g in groups)
            assert whole == pytest.approx(getattr(total, name) or 0.0)
        for outcome, number in total.outcomes.items():
            assert sum(g.outcomes.get(outcome, 0) for g in groups) == number
        assert sum(sum(g.outcomes.values()) for g in groups) == len(rows)


# ------------------------------------------------------------------ sites


def test_impacts_are_those_of_the_energy_at_each_site(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET.format(carbon="carbon_g_per_kwh = 400"))
    fleet = load_fleet(tmp_path / "fleet.toml")
    rows = read_rows(str(ledger))
    found = with_impacts(summarise(rows), rows, fleet)
    assert found.impacts is not None
    (east,) = found.impacts
    assert (east.site, east.requests, found.no_site) == ("east", 2, 1)
    kwh = 44.0 / 3.6e6  # the dynamic and idle energy of requests 1 and 2
    assert east.impact.energy_it_j == pytest.approx(44.0)
    assert east.impact.carbon_g == pytest.approx(400 * 1.5 * kwh)
    assert east.impact.water_site_l == pytest.approx(1.8 * kwh)
    assert east.impact.cost == pytest.approx(0.2 * 1.5 * kwh)
    assert east.impact == impact_of([44.0], [0.0, 3600.0], fleet.sites["east"])


def test_a_carbon_signal_with_dates_is_read_at_the_time_of_the_ledger(tmp_path: Path) -> None:
    signal = ["datetime_utc,g_per_kwh", *(f"2025-06-15T{h:02}:00:00Z,{100 * h}" for h in range(24))]
    (tmp_path / "signal.csv").write_text("\n".join(signal) + "\n")
    carbon = 'carbon_signal = "signal.csv"'
    (tmp_path / "fleet.toml").write_text(FLEET.format(carbon=carbon))
    later = SERVED | {"id": "9", "arrived_at": T0 + 7200.5}
    path = write_ledger(tmp_path / "l.sqlite", [ROWS[0], later])
    (east,) = results_of("report", path, "--fleet", tmp_path / "fleet.toml")["impacts"]
    # 12 J at 16 h, 12 J at 18 h
    assert east["impact"]["carbon_g"] == pytest.approx(12 / 3.6e6 * 1.5 * (1600 + 1800))


# ------------------------------------------------------------------ the command


def test_json_has_the_keys_that_are_documented(ledger: Path) -> None:
    answer = json.loads(run("report", ledger, "--json").stdout)
    assert answer["schema"] == "wattshed/report/1"
    assert set(answer["results"]) == set(LedgerSummary.__struct_fields__)
    text = (Path(__file__).parents[2] / "docs/reference/files.md").read_text()
    line = next(row for row in text.splitlines() if row.startswith("| `report` |"))
    results = answer["results"]
    for key in [*results, *results["total"], *results["forecasts"][0]]:
        assert key in line


def test_times_cut_the_ledger(ledger: Path) -> None:
    cut = ["--since", "2025-06-15T18:00+01:00", "--until", "2025-06-15T18:01"]
    found = results_of("report", ledger, *cut)
    assert [h["name"] for h in found["hours"]] == ["2025-06-15T17:00Z"]
    failed = run("report", ledger, "--since", "2025-06-16", status=2)
    assert "has no requests within these times" in failed.stderr
    assert "is no time" in run("report", ledger, "--since", "yesterday", status=2).stderr


def test_a_folder_is_written(ledger: Path, tmp_path: Path) -> None:
    (tmp_path / "fleet.toml").write_text(FLEET.format(carbon="carbon_g_per_kwh = 400"))
    fleet = ["--fleet", tmp_path / "fleet.toml"]
    done = run("report", f"sqlite:///{ledger}", *fleet, "-o", tmp_path / "out")
    assert "4 requests from 2025-06-15 16:00 UTC" in done.stdout
    assert "note: 1 of 4 requests have no idle part, their energy is gross." in done.stderr
    page = (tmp_path / "out/index.html").read_text()
    assert "Predicted and final energy" in page
    tables = {path.stem: pl.read_csv(path) for path in (tmp_path / "out").glob("*.csv")}
    assert tables["endpoints"]["dynamic (J)"].to_list() == [10.0, 40.0, None, 50.0]
    assert tables["impacts"]["site"].to_list() == ["east"]
    assert (tmp_path / "out/energy-by-hour.svg").exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_rows_are_exported_as_they_are(ledger: Path, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    run("report", ledger, "--export", path)
    read = pl.read_csv(path, schema=SCHEMA) if suffix == ".csv" else pl.read_parquet(path)
    assert_frame_equal(read, read_rows(str(ledger)))
    with sqlite3.connect(ledger) as connection:
        assert connection.execute("select id, joules from requests order by 1").fetchall() == list(
            read.select("id", "joules").iter_rows()
        )
    connection.close()
    assert sorted(p.name for p in tmp_path.iterdir() if "rows" in p.name) == [path.name]


def test_what_cannot_be_exported_is_refused_before_anything_is_written(
    ledger: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "rows.xlsx"
    failed = run("report", ledger, "--export", wrong, "-o", tmp_path / "out", status=2)
    assert "use .csv or .parquet" in failed.stderr
    assert not wrong.exists()
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------ what is no ledger


def other_database(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table other (x)")
    connection.close()


def older_ledger(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("create table requests (id text, arrived_at real)")
    connection.close()


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: path.write_text("id,joules\n" * 100), "file is not a database"),
        (lambda path: path.touch(), "no table requests"),
        (other_database, "no table requests"),
        (older_ledger, "no column sent_s"),
        (lambda path: write_ledger(path, []), "has no requests"),
    ],
)
def test_what_is_no_ledger_is_refused_in_one_line(
    tmp_path: Path, make: Callable[[Path], object], found: str
) -> None:
    path = tmp_path / "some.sqlite"
    make(path)
    failed = run("report", path, status=2)
    assert found in failed.stderr
    assert str(path) in failed.stderr
    assert len(failed.stderr.strip().splitlines()) == 1
    assert failed.stdout == ""


def test_no_password_is_shown() -> None:
    url = "postgresql+nodriver://me:secret@host/db"
    assert "secret" not in shown(url)
    failed = run("report", url, status=2)
    assert "secret" not in failed.output
    assert "cannot be read" in failed.stderr
    with pytest.raises(FileError, match="mysql is not supported"):
        read_rows("mysql://host/db")


# ------------------------------------------------------------------ beside a gateway


def test_a_gateway_writes_on_while_its_ledger_is_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = Ledger(f"sqlite:///{path}", interval_s=0.001)
    ledger.append(ROWS[0])
    while ledger.backlog:
        os.sched_yield()
    assert read_rows(str(path)).height == 1
    ledger.append(ROWS[1])
    while ledger.backlog:
        os.sched_yield()
    assert read_rows(str(path)).height == 2  # a row that only the log of SQLite holds yet
    assert ledger.error is None
    assert ledger.close() == 0
    before = path.read_bytes()
    assert read_rows(str(path)).height == 2  # and when it has ended
    assert path.read_bytes() == before


def test_the_ledger_of_a_gateway_is_added_up_and_explained(live: Callable[..., Any]) -> None:
    deployments = load_fleet("mixed-70b").deployments
    with (
        background(simulated_app(deployments[0], 500.0)) as first,
        background(simulated_app(deployments[1], 500.0)) as second,
    ):
        gateway = live(first, second, policy="least-loaded")
        ask = {"model": "llama", "max_tokens": 4, "messages": [{"role": "user", "content": "hi"}]}
        with httpx.Client(base_url=gateway.url, timeout=30) as client:
            answers = [client.post("/v1/chat/completions", json=ask) for _ in range(3)]
        rows = gateway.rows()
        told_j = [answer.json()["usage"]["energy"]["joules"] for answer in answers]
        found = results_of("report", gateway.ledger)
        name = answers[0].headers["x-wattshed-request"]
        one = results_of("explain", name, "--ledger", gateway.ledger)
    assert found["total"]["requests"] == len(rows) == 3
    assert found["total"]["dynamic_j"] == pytest.approx(sum(told_j))
    assert found["total"]["output_tokens"] == 12
    assert one["became"]["joules"] == told_j[0]
    assert {c["deployment"] for c in one["candidates"]} == {"a100-tp8", "h100-tp8"}
    assert [c["deployment"] for c in one["candidates"] if c["chosen"]] == [one["deployment"]]
    assert all(c["joules"] > 0 and c["endpoints"] for c in one["candidates"])


def test_a_ledger_is_read_where_nothing_can_be_written(ledger: Path) -> None:
    """By somebody who may not write: root may, so it becomes somebody else."""
    before = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "ledger.sqlite"
        shutil.copy(ledger, copy)
        copy.chmod(0o444)
        copy.parent.chmod(0o555)
        try:
            if before == 0:
                os.seteuid(NOBODY)
            assert not os.access(copy.parent, os.W_OK, effective_ids=True)
            assert read_rows(str(copy)).height == len(ROWS)
        finally:
            os.seteuid(before)
            copy.parent.chmod(0o755)
