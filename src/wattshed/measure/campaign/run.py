"""Carry a campaign out: trials one after the other, each on disk before the next."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from wattshed.errors import EngineError, ParameterError
from wattshed.measure.campaign.design import Campaign, check, next_trial
from wattshed.measure.campaign.grid import Cell
from wattshed.measure.campaign.guard import Observation, decide
from wattshed.measure.campaign.journal import Journal, JournalFile, read_journal
from wattshed.measure.campaign.lines import Failure, Idle, Manifest, Resumed, Trial, WarmUp
from wattshed.measure.campaign.outlook import outlook
from wattshed.measure.campaign.trials import (
    flags_of,
    flags_of_repeats,
    margin_of,
    trial_of,
    windows_of,
)
from wattshed.measure.clock import NS_PER_S, SYSTEM_CLOCK, Clock
from wattshed.measure.driver import Driver
from wattshed.measure.meter import Meter
from wattshed.measure.recorder import Recorder
from wattshed.measure.trace import Manifest as TraceManifest
from wattshed.measure.trace import TraceFile
from wattshed.records import Generation, Health

Progress = Callable[[str, int, int], None]
Lease = Callable[[Cell], AbstractContextManager[object]]


@dataclass(frozen=True)
class Bench:
    """What surrounds a campaign on its machine, beside engine and meters.

    Attributes
    ----------
    resume : bool
        Go on with the journal that is there.
    inputs : mapping
        How engine and meters were opened; kept in the journal, and must be the same on resuming.
    health : sequence of Health
        Certificates of the meters.
    settings : mapping
        Clocks and power limits as they are, by component.
    lease : callable, optional
        Holds the clock and the power limit of a cell for one trial.
    observe : callable, optional
        Temperature, clock, and why it is lowered.
    traces : Path, optional
        Folder that keeps the readings of every trial.
    """

    resume: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)
    health: Sequence[Health] = ()
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    lease: Lease | None = None
    observe: Callable[[], Observation] | None = None
    traces: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What a campaign left when it ended or was broken off.

    Attributes
    ----------
    journal : Journal
    stopped : bool
        It was broken off; what was measured so far is whole.
    failed : tuple of Failure
        Cells that the engine could not serve, since it began or was resumed.
    """

    journal: Journal
    stopped: bool
    failed: tuple[Failure, ...] = ()


def run_campaign(
    campaign: Campaign,
    driver: Driver,
    meters: Sequence[Meter],
    clock: Clock = SYSTEM_CLOCK,
    *,
    path: Path,
    bench: Bench | None = None,
    on_progress: Progress | None = None,
) -> Outcome:
    """Measure what is left of a campaign.

    KeyboardInterrupt ends it: the trial under way is dropped, the others are in the journal.

    Parameters
    ----------
    campaign : Campaign
    driver : Driver
        Stays open.
    meters : sequence of Meter
        None of them is fine: then there is no energy, and each run says so.
    clock : Clock
        That of driver and meters.
    path : Path
        Of the journal.
    bench : Bench, optional
    on_progress : callable, optional
        Called with (what is measured and how long it will take, trials done, trials expected).

    Raises
    ------
    ParameterError
        If the campaign makes no sense, or asks for what nobody can set.
    EngineError
        If the engine fails at the smallest cell, too, and not at one that is too large for it.
    FileError
        If the journal is of another campaign, or cannot be written.
    """
    bench = bench or Bench()
    refuse_what_nobody_sets(check(campaign), driver, bench)
    manifest = Manifest(
        campaign,
        driver.info,
        [meter.info for meter in meters],
        dict(bench.inputs),
        list(bench.health),
        {name: dict(values) for name, values in bench.settings.items()},
        clock.wall_s(),
        platform.node(),
    )
    file = JournalFile(path, manifest, resume=bench.resume)
    session = _Session(driver, meters, clock, bench, file, manifest, on_progress)
    try:
        session.run()
    except KeyboardInterrupt:  # it may have come between a line and our knowing of it
        return Outcome(read_journal(path), stopped=True, failed=tuple(session.failed.values()))
    finally:
        file.close()
    return Outcome(file.journal, stopped=False, failed=tuple(session.failed.values()))


def refuse_what_nobody_sets(campaign: Campaign, driver: Driver, bench: Bench) -> None:
    """Refuse cells whose settings would not be those of the engine or the hardware.

    Raises
    ------
    ParameterError
    """
    if campaign.guard is not None and bench.observe is None:
        found = f"up to {campaign.guard.max_temperature_c:g} °C, but nothing here tells it"
        raise ParameterError("guard", found, "leave it out")
    for cell in campaign.cells:
        if cell.kv_cache not in (None, driver.info.kv_cache):
            found = f"{cell}, but the engine runs with kv_cache={driver.info.kv_cache}"
            raise ParameterError("kv_cache", found, "set the engine, one campaign for each")
        if bench.lease is None and (cell.clock_mhz, cell.power_limit_w) != (None, None):
            cure = "leave clock and power limit out, or give a lease that sets them"
            raise ParameterError("cells", f"{cell}, but nothing can set that here", cure)


class _Session:
    """One run of a campaign, from opening the journal to its end."""

    def __init__(
        self,
        driver: Driver,
        meters: Sequence[Meter],
        clock: Clock,
        bench: Bench,
        file: JournalFile,
        manifest: Manifest,
        on_progress: Progress | None,
    ) -> None:
        self.campaign, self.driver, self.clock = manifest.campaign, driver, clock
        self.meters, self.bench, self.file = tuple(meters), bench, file
        self.manifest, self.on_progress = manifest, on_progress
        self.failed: dict[int, Failure] = {}
        self.tracing = TraceManifest([m.info for m in self.meters], health=list(bench.health))
        self.margin_s = margin_of(self.campaign, self.tracing.meters, bench.health)

    def run(self) -> None:
        """Idle, warm up, trials, idle; nothing of it if nothing is left to measure."""
        if self._next() is None:
            return
        if self.file.journal.lines:
            self.file.append(self._resumed())
        self._idle("before")
        for _ in range(self.campaign.warm_up):
            self._warm_up()
        while (chosen := self._next()) is not None:
            self._report(*chosen)
            self._try(*chosen)
        self._idle("after")

    def _next(self) -> tuple[int, int] | None:
        return next_trial(self.campaign, self.file.journal.samples, self.failed)

    def _report(self, cell: int, trial: int) -> None:
        if self.on_progress is None:
            return
        seen = outlook(self.campaign, self.file.journal, self.margin_s, self.failed)
        stage = f"{self.campaign.cells[cell]}, trial {trial}{seen.text}"
        self.on_progress(stage, seen.done, seen.expected)

    def _resumed(self) -> Resumed:
        now = self.manifest
        return Resumed(now.begun_s, now.host, now.created_by, now.health, now.settings)

    def _warm_up(self) -> None:
        """Serve the smallest cell, for no trial."""
        cells, begun_s = self.campaign.cells, self.clock.wall_s()
        smallest = min(range(len(cells)), key=lambda i: cells[i].tokens)
        with self._held(cells[smallest]):
            found = self._generate(cells[smallest])
        self.file.append(WarmUp(smallest, found.runtime_s, begun_s))

    def _try(self, cell: int, trial: int) -> None:
        begun_s = self.clock.wall_s()
        try:
            self.file.append(self._trial(cell, trial))
        except EngineError as error:
            self.failed[cell] = Failure(cell, trial, str(error), begun_s)
            self.file.append(self.failed[cell])
            self._warm_up()  # if that fails, too, it is not because the cell is too large

    def _trial(self, index: int, number: int) -> Trial:
        cell = self.campaign.cells[index]
        flags = self._cool_down()
        with self._held(cell), self._recording(f"trial-{index}-{number}") as recorder:
            self.clock.sleep(self.margin_s)
            begun_s = self.clock.wall_s()
            found, alone = self._generations(cell)
            ended_s = self.clock.wall_s()
            seen = self.bench.observe() if self.bench.observe else None
            self.clock.sleep(self.margin_s)
        rest_s = self.margin_s if alone else 0.0
        windows = windows_of(recorder.trace, found[0].begun_ns, found[-1].ended_ns, rest_s)
        flags += (*flags_of_repeats(found), *flags_of(self.campaign.guard, seen, cell))
        return trial_of(index, number, found, windows, (begun_s, ended_s), seen, flags)

    def _generations(self, cell: Cell) -> tuple[list[Generation], bool]:
        """Those that count: one that fills the window, or repeats between two that do not count.

        And whether it was one alone, with rest before and after.
        """
        before = self._generate(cell)
        if before.runtime_s >= self.campaign.window_s:
            return [before], True
        found = [self._generate(cell)]
        while (found[-1].ended_ns - found[0].begun_ns) < self.campaign.window_s * NS_PER_S:
            found.append(self._generate(cell))
        self._generate(cell)
        return found, False

    def _generate(self, cell: Cell) -> Generation:
        found = self.driver.generate(cell.input_tokens, cell.output_tokens, cell.batch_size)
        if found.output_tokens < 1 or found.ended_ns <= found.begun_ns:
            got = f"{found.output_tokens} tokens in {found.runtime_s:g} s"
            raise EngineError("engine", f"{cell}: {got}", "see why it answers nothing")
        return found

    def _held(self, cell: Cell) -> AbstractContextManager[object]:
        return self.bench.lease(cell) if self.bench.lease else nullcontext()

    def _recording(self, name: str) -> Recorder:
        folder = self.bench.traces
        file = TraceFile(folder / f"{name}.jsonl", self.tracing) if folder else None
        return Recorder(self.meters, self.campaign.interval_s, self.tracing, file, self.clock)

    def _idle(self, when: Literal["before", "after"]) -> None:
        seconds, begun_s = self.campaign.idle_s, self.clock.wall_s()
        if not seconds or not self.meters:
            return
        with self._recording(f"idle-{when}-{len(self.file.journal.lines)}") as recorder:
            self.clock.sleep(self.margin_s)
            begun_ns = self.clock.mono_ns()
            self.clock.sleep(seconds)
            ended_ns = self.clock.mono_ns()
            self.clock.sleep(self.margin_s)
        windows = windows_of(recorder.trace, begun_ns, ended_ns)
        self.file.append(Idle(when, seconds, begun_s, windows))

    def _cool_down(self) -> tuple[str, ...]:
        """Wait while the guard says so; flags if it gave up."""
        guard, observe = self.campaign.guard, self.bench.observe
        if guard is None or observe is None:
            return ()
        waited_s = 0.0
        while (action := decide(guard, observe(), waited_s)) == "wait":
            self.clock.sleep(guard.look_s)
            waited_s += guard.look_s
        return ("throttled", "hot") if action == "give_up" else ()
