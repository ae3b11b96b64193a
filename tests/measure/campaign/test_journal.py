"""The file of a campaign: whole at any time, resumed by the same campaign only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from wattshed.errors import FileError
from wattshed.measure.campaign.design import Campaign
from wattshed.measure.campaign.grid import make_cells
from wattshed.measure.campaign.journal import JournalFile, read_journal
from wattshed.measure.campaign.lines import Failure, Idle, Line, Manifest, Trial, WarmUp
from wattshed.measure.campaign.stopping import Paper, Relative
from wattshed.records import DriverInfo, Generation, MeterInfo, WindowEnergy

CAMPAIGN = Campaign(make_cells([8, 16], [32]), Relative(part=0.02))
METER = MeterInfo("m:0", "m", "counter", "gpu", ("gpu-0",))
WINDOW = WindowEnergy("m:0", 8.0, 7.0, 9.0, "tick-interpolated", 1.0, (), "gpu", "measured")
LINES: list[Line] = [
    Idle("before", 30.0, 1.0, (WINDOW,)),
    WarmUp(1, 0.5, 2.0),
    Trial(1, 0, Generation(16, 32, 4, 0, 10**9), 1, 1.0, None, 0, 10**9, (WINDOW,), 3.0, 4.0),
    Failure(0, 0, "engine: out of memory; use less", 5.0),
    Trial(1, 1, Generation(16, 32, 4, 0, 10**9), 2, 0.5, 0.1, 0, 10**9, (WINDOW,), 6.0, 7.0),
]


def manifest(**changes: Any) -> Manifest:
    made = Manifest(CAMPAIGN, DriverInfo("lab", "tiny", "made-up"), [METER], {"engine": "x"})
    return msgspec.structs.replace(made, **changes)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = JournalFile(tmp_path / "folder" / "journal.jsonl", manifest())
    for line in LINES:
        file.append(line)
    file.close()
    return file.path


def test_what_was_written_is_read(path: Path) -> None:
    found = read_journal(path)
    assert (found.manifest, found.lines) == (manifest(), LINES)
    assert [line.trial for line in found.trials] == [0, 1]
    # A query takes a quarter of the window of a batch of four, and an eighth of that of two.
    assert {c: [(s.runtime_s, s.energy_j) for s in t] for c, t in found.samples.items()} == {
        1: [(1.0, 2.0), (0.5, 1.0)]
    }


def test_it_is_readable_while_it_is_written(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "journal.jsonl", manifest())
    for count, line in enumerate(LINES):
        assert read_journal(file.path).lines == LINES[:count]
        file.append(line)
    file.close()


def test_cut_off_anywhere_in_its_last_line_it_loses_that_line_only(path: Path) -> None:
    content = path.read_bytes()
    end = content.rstrip(b"\n").rfind(b"\n") + 1
    for cut in range(end, len(content), 9):
        path.write_bytes(content[:cut])
        assert read_journal(path).lines == LINES[:-1]
        file = JournalFile(path, manifest(), resume=True)
        file.append(LINES[-1])
        file.close()
        assert path.read_bytes() == content


def test_a_journal_is_not_overwritten(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(FileError, match=r"there is a journal already; add --resume"):
        JournalFile(path, manifest())
    assert path.read_bytes() == before


def test_two_campaigns_do_not_write_one_journal(path: Path) -> None:
    first = JournalFile(path, manifest(), resume=True)
    with pytest.raises(FileError, match="another campaign is writing it"):
        JournalFile(path, manifest(), resume=True)
    first.append(LINES[0])
    first.close()
    assert read_journal(path).lines == [*LINES, LINES[0]]
    JournalFile(path, manifest(), resume=True).close()


def test_resuming_what_is_not_there_begins_it(tmp_path: Path) -> None:
    file = JournalFile(tmp_path / "journal.jsonl", manifest(), resume=True)
    file.close()
    assert read_journal(file.path).lines == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"campaign": msgspec.structs.replace(CAMPAIGN, seed=1)}, "seed was 0, and now is 1"),
        ({"campaign": msgspec.structs.replace(CAMPAIGN, stop=Paper())}, "stop was Relative"),
        ({"campaign": msgspec.structs.replace(CAMPAIGN, cells=CAMPAIGN.cells[:1])}, "cells was"),
        ({"driver": DriverInfo("lab", "large", "made-up")}, "engine model was tiny"),
        ({"meters": []}, "meters was"),
        (
            {"meters": [msgspec.structs.replace(METER, covers=("gpu-1",))]},
            r"meters was .*, and now is \['m:0 \(counter, gpu, gpu-1",
        ),
        ({"inputs": {"engine": "y"}}, "inputs was {'engine': 'x'}"),
    ],
)
def test_another_campaign_is_refused(path: Path, changes: dict[str, Any], found: str) -> None:
    before = path.read_bytes()
    with pytest.raises(FileError, match=f"is of another campaign: {found}"):
        JournalFile(path, manifest(**changes), resume=True)
    assert path.read_bytes() == before


def test_another_time_host_or_version_is_no_other_campaign(path: Path) -> None:
    file = JournalFile(path, manifest(begun_s=9.0, host="h", created_by="later"), resume=True)
    file.close()
    assert read_journal(path).manifest == manifest()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"", "holds no whole line"),
        (b'{"campaign":', "holds no whole line"),
        (b"{}\n", "line 1"),
        (b"\xff\n", "line 1"),
    ],
)
def test_what_is_no_journal_is_refused_with_its_line(
    tmp_path: Path, content: bytes, found: str
) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(content)
    with pytest.raises(FileError, match=found):
        read_journal(path)


def test_a_bad_line_in_the_middle_is_named_and_a_newer_schema_is_refused(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content.replace(b'"idle"', b'"idol"'))
    with pytest.raises(FileError, match="line 2"):
        read_journal(path)
    path.write_bytes(content.replace(b"wattshed/campaign/1", b"wattshed/campaign/9"))
    with pytest.raises(FileError, match="has schema 'wattshed/campaign/9'"):
        read_journal(path)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        read_journal(tmp_path / "journal.jsonl")
