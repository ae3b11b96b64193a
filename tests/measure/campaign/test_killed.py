"""Campaigns in processes of their own, which are killed, terminated, and resumed."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from wattshed.measure.campaign.design import Campaign, Sample, next_trial
from wattshed.measure.campaign.grid import PRESETS, make_cells
from wattshed.measure.campaign.journal import read_journal
from wattshed.measure.campaign.stopping import Relative

ENGINE = "simulated:splitwise/h100-80gb-tp8/llama-2-70b"
CELLS = make_cells(*PRESETS["vary-input"])


def start(folder: Path, trials: int, *more: str) -> subprocess.Popen[str]:
    asked = (
        f"--min-trials {trials} --max-trials {trials} --grid vary-input --idle 1 --set noise=0.1"
    )
    command = [sys.executable, "-m", "wattshed", "measure", "--engine", ENGINE, *asked.split()]
    return subprocess.Popen(
        [*command, "-o", str(folder), *more],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        preexec_fn=listen,  # noqa: PLW1509 - nothing here starts threads
    )


def listen() -> None:
    """It is ignored where tests run in the background of a shell."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def lines_in(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_for(process: subprocess.Popen[str], path: Path, lines: int) -> None:
    while process.poll() is None and lines_in(path) < lines:
        time.sleep(0.001)


def uninterrupted(trials: int) -> list[tuple[int, int]]:
    """Cells and trials in the order of a campaign that nobody kills."""
    campaign = Campaign(CELLS, Relative(at_least=trials, at_most=trials), "vary-input")
    done: dict[int, list[Sample]] = {}
    order = []
    while (chosen := next_trial(campaign, done)) is not None:
        done.setdefault(chosen[0], []).append(Sample(1.0, 1.0))
        order.append(chosen)
    return order


@pytest.mark.parametrize(
    ("kills", "trials"), [(2, 6), pytest.param(50, 60, marks=pytest.mark.slow)]
)
def test_killed_at_any_moment_it_is_whole_and_resuming_measures_each_trial_once(
    tmp_path: Path, kills: int, trials: int
) -> None:
    rng, path = random.Random(5), tmp_path / "journal.jsonl"
    killed = 0
    for _ in range(kills):
        process = start(tmp_path, trials, "--resume")
        step = trials * len(CELLS) // (2 * kills)
        wait_for(process, path, lines_in(path) + rng.randrange(step))
        time.sleep(rng.uniform(0, 0.02))
        process.kill()
        process.communicate()
        killed += process.returncode == -signal.SIGKILL
        if path.exists():  # it may have been killed before it began
            found = [(t.cell, t.trial) for t in read_journal(path).trials]
            assert found == uninterrupted(trials)[: len(found)]
    assert killed == kills
    last = start(tmp_path, trials, "--resume")
    _, told = last.communicate()
    assert last.returncode == 0, told
    found = [(t.cell, t.trial) for t in read_journal(path).trials]
    assert found == uninterrupted(trials)
    assert set(Counter(found).values()) == {1}
    assert pl.read_csv(tmp_path / "runs.csv").height == len(found)


@pytest.mark.parametrize(
    "ending", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_terminated_it_writes_its_runs_and_tells_how_to_go_on(
    tmp_path: Path, ending: signal.Signals
) -> None:
    path = tmp_path / "journal.jsonl"
    process = start(tmp_path, 200)
    wait_for(process, path, 15)
    process.send_signal(ending)
    _, told = process.communicate()
    assert process.returncode == 1, told
    assert "the same command with --resume goes on" in told
    trials = read_journal(path).trials
    assert pl.read_csv(tmp_path / "runs.csv")["trial"].to_list() == [t.trial for t in trials]


def test_a_journal_on_disk_that_is_full_stays_whole(tmp_path: Path) -> None:
    """Not a fake disk: the limit of the operating system on the size of files."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "from wattshed.cli import main\n"
        "main(sys.argv[1:])\n"
    )
    asked = f"measure --engine {ENGINE} --grid vary-input --window 0 --idle 1 -o {tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", code, *asked.split()], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "journal.jsonl: " in done.stderr
    assert "make room" in done.stderr
    content = (tmp_path / "journal.jsonl").read_bytes()
    assert content.endswith(b"\n")
    assert read_journal(tmp_path / "journal.jsonl").trials
