"""Campaigns on a simulated machine: what is measured, what is kept, how they end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import polars as pl
import pytest

from wattshed.errors import EngineError, FileError, ParameterError
from wattshed.fit.campaign import Options, fit_profiles
from wattshed.measure.campaign.design import Campaign
from wattshed.measure.campaign.grid import Cell, make_cells
from wattshed.measure.campaign.guard import Guard, Observation
from wattshed.measure.campaign.journal import read_journal
from wattshed.measure.campaign.lines import Failure, Idle, Resumed, WarmUp
from wattshed.measure.campaign.outlook import describe, outlook
from wattshed.measure.campaign.run import Bench, run_campaign
from wattshed.measure.campaign.stopping import Relative
from wattshed.measure.campaign.table import runs_of, write_runs
from wattshed.measure.meters.simulated import Faults, meters_for
from wattshed.measure.trace import read_trace
from wattshed.records import Health, Profile
from wattshed.runs import read_runs

Make = Callable[..., Any]
CELLS = make_cells([8, 64], [8, 32], [1, 4])
CAMPAIGN = Campaign(
    CELLS, Relative(at_least=2, at_most=3), idle_s=5.0, margin_s=0.5, window_s=0.0, interval_s=0.05
)
BUSY_W, IDLE_W = 300.0, 50.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_every_cell_is_measured_and_its_energy_is_that_of_one_query(
    make_machine: Make, path: Path
) -> None:
    machine = make_machine()
    meters = [machine.meter(), machine.meter(id="h:0", scope="cpu_package", covers=("package-0",))]
    found = run_campaign(CAMPAIGN, machine, meters, machine.clock, path=path)
    assert (found.stopped, found.failed) == (False, ())
    table = runs_of(read_journal(path))
    assert table.height == len(CELLS) * 2
    for row in table.iter_rows(named=True):
        m, n, batch = row["input_tokens"], row["output_tokens"], row["batch_size"]
        energy_j = BUSY_W * machine.runtime_s(m, n, batch) / batch
        assert row["runtime_s"] == pytest.approx(machine.runtime_s(m, n, batch))
        assert row["energy_low_j"] <= energy_j <= row["energy_high_j"]
        assert row["accelerator_energy_j"] == row["host_energy_j"]
        assert row["accelerator_energy_j"] == pytest.approx(energy_j, rel=0.2)
    assert table["trial"].unique().sort().to_list() == [0, 1]
    assert set(table["flags"].str.split("|").list.first()) == {"simulated"}


def test_queries_are_repeated_between_others_or_come_alone_between_rests(
    make_machine: Make, path: Path
) -> None:
    """The shortest query is over within two ticks of a counter: its energy is found either way."""
    ticking = {"tick_s": 0.1, "jitter_s": 0.002}
    error = {}
    for window_s in (0.0, 3.0):
        machine = make_machine()
        meters = meters_for(machine.plant, machine.clock, Faults(**ticking))
        campaign = msgspec.structs.replace(
            CAMPAIGN, cells=make_cells([8], [8, 32, 400]), window_s=window_s, interval_s=0.01
        )
        done = run_campaign(
            campaign, machine, meters, machine.clock, path=path.with_name(f"{window_s}.jsonl")
        )
        table = runs_of(done.journal).select("output_tokens", "runtime_s", "accelerator_energy_j")
        table = table.group_by("output_tokens").mean().sort("output_tokens")
        true_j = [BUSY_W * machine.runtime_s(8, n) for n in (8, 32, 400)]
        error[window_s] = (table["accelerator_energy_j"] / pl.Series(true_j) - 1).to_list()
        repeats = {(line.generation.output_tokens, line.repeats) for line in done.journal.trials}
        runtimes = [machine.runtime_s(8, n) for n in (8, 32, 400)]
        assert repeats == {
            (n, math.ceil(window_s / r) if 0 < window_s > r else 1)
            for n, r in zip((8, 32, 400), runtimes, strict=True)
        }
        assert table["runtime_s"].to_list() == pytest.approx(runtimes)
        alone = {
            line.generation.output_tokens
            for line in done.journal.trials
            if line.windows[0].method == "tick-interpolated between rests"
        }
        assert alone == ({8, 32, 400} if window_s == 0 else {400})
    assert max(map(abs, error[0.0])) < 0.01
    assert max(map(abs, error[3.0])) < 0.01


def test_a_single_repeat_between_others_is_not_taken_to_be_at_rest(
    make_machine: Make, path: Path
) -> None:
    """The first query is too short for the window, so that the second counts, and fills it."""
    machine = make_machine()
    lengths_s = cycle([0.9, 1.1, 1.0])
    machine.runtime_s = lambda m, n, batch: next(lengths_s)
    campaign = msgspec.structs.replace(
        CAMPAIGN, cells=make_cells([8], [8]), window_s=1.0, warm_up=0
    )
    meters = meters_for(machine.plant, machine.clock, Faults(tick_s=0.1, jitter_s=0.002))
    done = run_campaign(campaign, machine, meters, machine.clock, path=path)
    assert [line.repeats for line in done.journal.trials] == [1] * len(done.journal.trials)
    for line in done.journal.trials:
        assert line.runtime_s == 1.1
        assert line.windows[0].method == "tick-interpolated"
        assert line.windows[0].value_j == pytest.approx(BUSY_W * 1.1, rel=0.01)


def test_the_table_is_read_and_fitted_as_any_other(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    done = run_campaign(CAMPAIGN, machine, [machine.meter()], machine.clock, path=path)
    for suffix in (".csv", ".parquet"):
        write_runs(done.journal, path.with_suffix(suffix))
        read = read_runs(path.with_suffix(suffix)).table
        assert read["runtime_s"].to_list() == runs_of(done.journal)["runtime_s"].to_list()
    with pytest.raises(FileError, match="unknown kind"):
        write_runs(done.journal, path.with_suffix(".xlsx"))


def test_it_idles_warms_up_and_idles_and_none_of_that_is_a_run(
    make_machine: Make, path: Path
) -> None:
    machine = make_machine()
    run_campaign(CAMPAIGN, machine, [machine.meter()], machine.clock, path=path)
    lines = read_journal(path).lines
    first, last = lines[0], lines[-1]
    assert isinstance(first, Idle)
    assert isinstance(last, Idle)
    assert (first.when, last.when) == ("before", "after")
    assert first.windows[0].value_j == pytest.approx(IDLE_W * CAMPAIGN.idle_s, rel=0.05)
    assert [type(line) for line in lines[1:4]] == [WarmUp] * 3
    assert len(machine.calls) == 3 + len(CELLS) * 2


def test_without_meters_energy_is_missing_and_said_to_be(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    done = run_campaign(CAMPAIGN, machine, [], machine.clock, path=path)
    table = runs_of(done.journal)
    assert table["accelerator_energy_j"].null_count() == table.height
    assert set(table["flags"]) == {"simulated|no_meter"}


def test_where_only_the_host_is_metered_its_energy_decides_and_is_fitted(
    make_machine: Make, path: Path
) -> None:
    machine = make_machine()
    machine.info = msgspec.structs.replace(machine.info, accelerator="cpu")
    campaign = msgspec.structs.replace(CAMPAIGN, cells=make_cells([8, 64, 512], [8, 32, 128]))
    meter = machine.meter(id="h:0", scope="cpu_package", covers=("package-0",))
    done = run_campaign(campaign, machine, [meter], machine.clock, path=path)
    assert all(s.energy_j is not None for found in done.journal.samples.values() for s in found)
    write_runs(done.journal, path.with_suffix(".csv"))
    table = read_runs(path.with_suffix(".csv")).table
    assert table["accelerator_energy_j"].null_count() == table.height
    assert table["host_energy_j"].null_count() == 0
    assert not any("no_meter" in flags for flags in table["flags"])
    assert fit_profiles(read_runs(path.with_suffix(".csv")), Options(draws=0))[0].boundary == "host"


def test_an_estimate_is_flagged(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    guess = machine.meter(kind="model", provenance="modelled")
    done = run_campaign(CAMPAIGN, machine, [guess], machine.clock, path=path)
    assert all("modelled" in flags for flags in runs_of(done.journal)["flags"])


@pytest.mark.parametrize("moment", [1, 2, 4, 5, 11, 18])
def test_an_interrupt_drops_the_trial_under_way_and_resuming_finishes(
    make_machine: Make, path: Path, moment: int
) -> None:
    machine = make_machine()
    whole = run_campaign(
        CAMPAIGN, machine, [machine.meter()], machine.clock, path=path.with_name("whole.jsonl")
    )
    broken = make_machine()
    broken.interrupt_at = moment
    found = run_campaign(CAMPAIGN, broken, [broken.meter()], broken.clock, path=path)
    assert found.stopped
    assert len(found.journal.trials) == max(0, moment - 1 - CAMPAIGN.warm_up)
    again = make_machine()
    health = [Health("m:0", "ok")]
    bench = Bench(resume=True, health=health)
    done = run_campaign(CAMPAIGN, again, [again.meter()], again.clock, path=path, bench=bench)
    assert not done.stopped
    assert [x.health for x in done.journal.lines if isinstance(x, Resumed)] == [health]
    assert [(t.cell, t.trial) for t in done.journal.trials] == [
        (t.cell, t.trial) for t in whole.journal.trials
    ]
    kept = ["input_tokens", "output_tokens", "batch_size", "trial", "runtime_s"]
    assert runs_of(done.journal).select(kept).equals(runs_of(whole.journal).select(kept))


def test_what_is_complete_is_not_touched_by_resuming(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    run_campaign(CAMPAIGN, machine, [], machine.clock, path=path)
    before = path.read_bytes()
    again = make_machine()
    run_campaign(CAMPAIGN, again, [], again.clock, path=path, bench=Bench(resume=True))
    assert (path.read_bytes(), again.calls) == (before, [])


def test_a_cell_that_is_too_large_is_left_out_and_told(make_machine: Make, path: Path) -> None:
    machine = make_machine(cannot=frozenset({4096, 8192}))
    campaign = msgspec.structs.replace(CAMPAIGN, cells=make_cells([8, 4096, 8192, 64], [8]))
    done = run_campaign(campaign, machine, [], machine.clock, path=path)
    assert sorted((f.cell, f.trial) for f in done.failed) == [(1, 0), (2, 0)]
    assert all("tokens are too many" in f.reason for f in done.failed)
    assert {t.cell for t in done.journal.trials} == {0, 3}
    assert sum(isinstance(line, Failure) for line in done.journal.lines) == 2


def test_an_engine_that_fails_at_the_smallest_cell_ends_the_campaign_and_resuming_goes_on(
    make_machine: Make, path: Path
) -> None:
    machine = make_machine()
    machine.dies_at = 8
    with pytest.raises(EngineError, match="connection refused"):
        run_campaign(CAMPAIGN, machine, [], machine.clock, path=path)
    assert len(read_journal(path).trials) == 5
    machine.dies_at = None
    bench = Bench(resume=True)
    done = run_campaign(CAMPAIGN, machine, [], machine.clock, path=path, bench=bench)
    assert len(done.journal.trials) == 16
    assert done.failed == ()


def test_the_lease_of_a_cell_is_held_during_its_trials_only(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    campaign = msgspec.structs.replace(
        CAMPAIGN, cells=make_cells([8], [8], clocks_mhz=[900.0, 1400.0]), warm_up=1
    )
    held: list[Cell | None] = [None]
    during: list[Cell | None] = []

    @contextmanager
    def lease(cell: Cell) -> Iterator[None]:
        held.append(cell)
        yield
        held.append(None)

    def observe() -> Observation:
        during.append(held[-1])
        return Observation(60.0, 890.0)

    bench = Bench(lease=lease, observe=observe)
    campaign = msgspec.structs.replace(campaign, guard=Guard())
    done = run_campaign(campaign, machine, [], machine.clock, path=path, bench=bench)
    cells = [campaign.cells[t.cell] for t in done.journal.trials]
    assert during == [each for cell in cells for each in (None, cell)]
    assert held[-1] is None
    table = runs_of(done.journal)
    assert table["clock_mhz"].to_list() == [cell.clock_mhz for cell in cells]
    slowed = table.filter(pl.col("flags").str.contains(r"throttled\|low_clock"))
    assert set(slowed["clock_mhz"]) == {1400.0}


def test_runs_under_different_power_limits_are_told_apart(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    cells = make_cells([8], [8], power_limits_w=[None, 250.0, 400.0])
    campaign = msgspec.structs.replace(CAMPAIGN, cells=cells)
    bench = Bench(lease=lambda cell: nullcontext())
    done = run_campaign(campaign, machine, [], machine.clock, path=path, bench=bench)
    engine = machine.info.engine
    assert set(runs_of(done.journal)["engine"]) == {
        engine,
        f"{engine} power_limit=250W",
        f"{engine} power_limit=400W",
    }


def test_it_waits_until_it_is_cool_or_says_that_it_was_hot(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    guard = Guard(max_temperature_c=80, look_s=5, limit_s=20)
    campaign = msgspec.structs.replace(
        CAMPAIGN, cells=make_cells([8], [8]), guard=guard, warm_up=0, idle_s=0
    )
    heat = iter([85.0, 82.0, 79.0, 79.0, *[90.0] * 5, 79.0])
    begun = machine.clock.mono_ns()
    bench = Bench(observe=lambda: Observation(next(heat)))
    done = run_campaign(campaign, machine, [], machine.clock, path=path, bench=bench)
    assert [t.flags for t in done.journal.trials] == [(), ("throttled", "hot")]
    assert (machine.clock.mono_ns() - begun) * 1e-9 > 2 * 5 + 20


@pytest.mark.parametrize(
    ("cells", "found"),
    [
        (make_cells([8], [8], clocks_mhz=[900.0]), "nothing can set that here"),
        (make_cells([8], [8], power_limits_w=[250.0]), "nothing can set that here"),
        (make_cells([8], [8], kv_cache=False), "engine runs with kv_cache=True"),
    ],
)
def test_settings_that_nobody_sets_are_refused(
    make_machine: Make, path: Path, cells: tuple[Cell, ...], found: str
) -> None:
    machine = make_machine()
    campaign = msgspec.structs.replace(CAMPAIGN, cells=cells)
    with pytest.raises(ParameterError, match=found):
        run_campaign(campaign, machine, [], machine.clock, path=path)
    assert not path.exists()


def test_a_guard_that_sees_nothing_is_refused(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    campaign = msgspec.structs.replace(CAMPAIGN, guard=Guard())
    with pytest.raises(ParameterError, match="nothing here tells it"):
        run_campaign(campaign, machine, [], machine.clock, path=path)


def test_readings_are_kept_if_asked(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    folder = path.parent / "traces"
    meters, bench = [machine.meter()], Bench(traces=folder)
    run_campaign(CAMPAIGN, machine, meters, machine.clock, path=path, bench=bench)
    assert len(list(folder.glob("trial-*.jsonl"))) == len(CELLS) * 2
    assert len(read_trace(folder / "trial-0-0.jsonl").series("m:0")) > 10


def test_progress_counts_up_to_what_is_measured(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    told: list[tuple[str, int, int]] = []
    run_campaign(
        CAMPAIGN,
        machine,
        [machine.meter()],
        machine.clock,
        path=path,
        on_progress=lambda *now: told.append(now),
    )
    assert [done for _, done, _ in told] == list(range(len(CELLS) * 2))
    assert {total for _, _, total in told} == {len(CELLS) * 2}
    assert "left" in told[-1][0]
    seen = outlook(CAMPAIGN, read_journal(path), 0.5)
    assert (seen.done, seen.expected, seen.left_s) == (16, 16, 0)


def test_time_left_is_what_it_then_takes(make_machine: Make, path: Path) -> None:
    machine = make_machine()
    machine.interrupt_at = len(CELLS) + 1  # after the first round
    campaign = msgspec.structs.replace(CAMPAIGN, idle_s=0.0, warm_up=0)
    found = run_campaign(campaign, machine, [machine.meter()], machine.clock, path=path)
    left_s = outlook(campaign, found.journal, campaign.margin_s).left_s
    again = make_machine()
    bench = Bench(resume=True)
    run_campaign(campaign, again, [again.meter()], again.clock, path=path, bench=bench)
    assert left_s == pytest.approx(again.clock.mono_ns() * 1e-9, rel=1e-6)


def test_a_description_tells_trials_and_time(make_profile: Callable[..., Profile]) -> None:
    profile = make_profile("known", (1.0, 0.0), (0.5, 0.0))  # half a second for each output token
    campaign = Campaign(
        make_cells([8], [8, 16]),
        Relative(at_least=3, at_most=5),
        idle_s=10.0,
        margin_s=1.0,
        window_s=5.0,
    )
    found = describe(campaign, profile)
    assert sorted(found.cells, key=str) == sorted(campaign.cells, key=str)
    assert (found.at_least, found.at_most) == (6, 10)
    once_s = (4 * 4 + 2) + (8 + 2)  # two repeats of 4 s fill 5 s, between two more
    assert found.seconds == pytest.approx((3 * once_s + 20, 5 * once_s + 20))
    assert describe(campaign).seconds is None
