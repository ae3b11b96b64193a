"""What `doctor` says: of every meter, the truth and the cure."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.errors import ParameterError
from wattshed.measure.clock import VirtualClock
from wattshed.measure.doctor import examine_engines, examine_meters, usable
from wattshed.measure.meter import METERS
from wattshed.records import MeterFinding


def examine(*asked: str) -> list[MeterFinding]:
    return examine_meters(asked, clock=VirtualClock(), seconds=3.0)


def named(findings: list[MeterFinding], source: str) -> MeterFinding:
    return next(finding for finding in findings if finding.source == source)


def test_every_kind_of_meter_is_there_with_reason_and_cure() -> None:
    found = examine()
    assert {finding.source for finding in found} == set(METERS)
    for each in found:
        if each.status != "ok":
            assert each.reason
            assert each.cure


def test_what_is_made_up_is_never_usable() -> None:
    """An assumption may be asked for; it is no measurement, and not ok unasked."""
    found = examine()
    assert named(found, "model").status == "not_trusted"
    assert named(found, "simulated").status == "not_trusted"
    asked = examine("model:250", "simulated:tick_s=0.1")
    for source in ("model", "simulated"):
        assert named(asked, source).status == "ok"
        assert not any(finding.source == source for finding in usable(asked))


@pytest.mark.parametrize(
    ("fault", "flag"),
    [
        ("frozen_at_s=0.5", "frozen"),
        ("duty=0.25", "part_time"),
        ("zero=1", "zero"),
        ("unit_factor=1000", "wrong_unit"),
        ("slices=2", "duplicate"),
    ],
)
def test_a_faulty_meter_is_not_trusted_and_says_why(fault: str, flag: str) -> None:
    found = [f for f in examine(f"simulated:{fault}") if f.source == "simulated"]
    assert found[-1].status == "not_trusted"
    assert found[-1].health is not None
    assert flag in found[-1].health.flags


def test_a_sound_meter_is_trusted_and_its_tick_is_found() -> None:
    found = named(examine("simulated:tick_s=0.1"), "simulated")
    assert found.status == "ok"
    assert found.health is not None
    assert found.health.tick_s == pytest.approx(0.1, rel=0.05)
    assert found.health.counter_over_power == pytest.approx(1.0, abs=0.05)


def test_an_unknown_meter_is_refused() -> None:
    with pytest.raises(ParameterError, match="'thermometer' is unknown; use one of nvml"):
        examine("thermometer")


def test_engines_that_cannot_be_reached_say_so() -> None:
    found = {f.name: f for f in examine_engines(["openai:http://me:hunter2@127.0.0.1:9/v1"])}
    gone = found["openai:http://127.0.0.1:9/v1"]
    assert gone.status == "missing"
    assert gone.reason
    assert gone.cure
    assert set(found) == {gone.name, "transformers", "simulated"}


def test_json_has_stable_keys_and_the_certificate_is_written(tmp_path: Path) -> None:
    path = tmp_path / "certificate.json"
    done = CliRunner().invoke(main, ["doctor", "--seconds", "0.1", "--json", "-o", str(path)])
    assert done.exit_code == 0, done.output
    results: dict[str, Any] = json.loads(done.stdout)["results"]
    assert {"meters", "engines", "knobs", "host", "boot_id", "created"} <= set(results)
    keys = {"name", "source", "kind", "status", "reason", "cure", "info", "health"}
    assert all(set(each) == keys for each in results["meters"])
    statuses = {"ok", "missing", "not_permitted", "not_trusted"}
    assert {each["status"] for each in results["meters"]} <= statuses
    written = json.loads(path.read_text())
    assert written["schema"] == "wattshed/certificate/1"
    assert [m["name"] for m in written["meters"]] == [m["name"] for m in results["meters"]]


def test_without_a_meter_it_says_so() -> None:
    done = CliRunner().invoke(main, ["doctor", "--seconds", "0.1"])
    assert done.exit_code == 0, done.output
    ends = ("No meter can be used here: runs will have", "Energy can be measured here, with")
    assert any(end in done.stdout for end in ends)
