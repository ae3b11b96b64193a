"""What `wattshed measure` makes of its options, and how it is carried out."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from wattshed.cli.metering import (
    AUTO,
    SIMULATED,
    lease_of,
    observe_of,
    only_ok,
    open_all,
    refuse_repeats,
    settings_of,
    tell_health,
)
from wattshed.cli.shared import finite, note
from wattshed.errors import EngineError, MeterError, ParameterError

if TYPE_CHECKING:
    from wattshed.measure.campaign.design import Campaign
    from wattshed.measure.campaign.run import Outcome
    from wattshed.measure.campaign.stopping import Rule

SECRETS = ("api_key",)
"""Settings of engines that no file keeps."""
JOURNAL, RUNS, CERTIFICATE, TRACES = "journal.jsonl", "runs.csv", "certificate.json", "traces"


@dataclass(frozen=True)
class Wanted:
    """What is to be opened, as it was asked for."""

    engine: str
    settings: tuple[str, ...]
    meters: tuple[str, ...]
    gpus: str
    kv_cache: bool | None
    resume: bool
    traces: bool

    def engine_settings(self) -> dict[str, str]:
        """Settings of the engine by name."""
        found = {}
        for text in self.settings:
            name, equals, value = text.partition("=")
            if not equals:
                raise ParameterError("--set", f"{text!r}", "give KEY=VALUE")
            found[name] = value
        if self.kv_cache is not None:
            found["kv_cache"] = str(self.kv_cache).lower()
        return found

    def inputs(self) -> dict[str, str]:
        """What of it decides the result, for the journal; no secrets."""
        settings = self.engine_settings().items()
        kept = {f"set {name}": value for name, value in sorted(settings) if name not in SECRETS}
        from wattshed.measure.driver import without_user

        return {"engine": without_user(self.engine), "meters": " ".join(self.meters), **kept}


# ---------------------------------------------------------------- options to a campaign


def campaign_of(
    *,
    grid: str | None,
    axes: tuple[str | None, str | None, str, str | None, str | None],
    stop: str,
    trials: tuple[int | None, int],
    kv_cache: bool | None,
    max_cells: int,
    max_temperature_c: float | None,
    others: dict[str, Any],
) -> Campaign:
    """The campaign that the options describe.

    Raises
    ------
    ParameterError, ProfileError, FileError
    """
    from wattshed.measure.campaign.design import Campaign, check, rival_of
    from wattshed.measure.campaign.grid import make_cells
    from wattshed.measure.campaign.guard import Guard
    from wattshed.profiles import load_profile

    inputs, outputs, batch, clocks, limits = axes
    name, m, n, against = _grid(grid, inputs, outputs)
    cells = make_cells(
        m,
        n,
        _whole("--batch", batch),
        kv_cache=kv_cache,
        clocks_mhz=_numbers("--clock", clocks),
        power_limits_w=_numbers("--power-limit", limits),
    )
    rule, profile = _rule(stop, *trials)
    if against and profile not in (None, against):
        raise ParameterError("--stop", stop, f"decide against {against}, as --grid does")
    rival = profile or against
    guard = None if max_temperature_c is None else Guard(max_temperature_c)
    return check(
        Campaign(
            cells,
            rule,
            name,
            max_cells=max_cells if name == "adaptive" else None,
            guard=guard,
            rival=rival_of(load_profile(rival), cells) if rival else None,
            **others,
        )
    )


def _grid(
    grid: str | None, inputs: str | None, outputs: str | None
) -> tuple[str, Sequence[int], Sequence[int], str | None]:
    """Name, input tokens, output tokens, and the profile to compare with."""
    from wattshed.measure.campaign.grid import PRESETS

    if grid is None:
        if inputs is None or outputs is None:
            known = ", ".join(PRESETS)
            cure = f"give --input and --output, or --grid ({known})"
            raise ParameterError("cells", "there are none", cure)
        return "explicit", _whole("--input", inputs), _whole("--output", outputs), None
    name, _, profile = grid.partition(":")
    if name not in PRESETS or (profile and name != "adaptive"):
        raise ParameterError("--grid", repr(grid), f"use one of {', '.join(PRESETS)}")
    if name == "adaptive" and not profile:
        raise ParameterError("--grid", repr(grid), "give adaptive:PROFILE, to compare with")
    m, n = PRESETS[name]
    given = [
        _whole("--input", inputs) if inputs else m,
        _whole("--output", outputs) if outputs else n,
    ]
    return name, given[0], given[1], profile or None


def _rule(text: str, least: int | None, most: int) -> tuple[Rule, str | None]:
    """A stopping rule, and the profile that it decides against."""
    from wattshed.measure.campaign.stopping import Decision, Paper, Relative

    name, _, argument = text.partition(":")
    limits = {"at_most": most} | ({} if least is None else {"at_least": least})
    if name == "paper" and not argument:
        return Paper(**limits), None
    if name == "relative":
        percent = argument.removesuffix("%") or "5"
        return Relative(part=_number("--stop", percent) / 100, **limits), None
    if name == "decision" and argument:
        return Decision(profile=argument, **limits), argument
    raise ParameterError("--stop", repr(text), "use paper, relative:PERCENT or decision:PROFILE")


def _whole(option: str, text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ParameterError(option, repr(text), "give whole numbers, such as 8,64,512") from None


def _numbers(option: str, text: str | None) -> list[float | None]:
    if text is None:
        return [None]
    return [_number(option, part) for part in text.split(",")]


def _number(option: str, text: str) -> float:
    try:
        return finite(text)
    except ValueError:
        raise ParameterError(option, repr(text), "give a finite number") from None


# ---------------------------------------------------------------- carrying it out


def carry_out(
    campaign: Campaign, wanted: Wanted, into: Path, on_progress: Callable[[str, int, int], None]
) -> Outcome:
    """Open engine and meters, measure, and write the runs, also if it was broken off.

    Raises
    ------
    InputError
    """
    from wattshed.measure.campaign.journal import read_journal
    from wattshed.measure.campaign.run import Bench, run_campaign
    from wattshed.measure.campaign.table import write_runs
    from wattshed.measure.clock import SYSTEM_CLOCK, VirtualClock
    from wattshed.measure.doctor import certify, findings_of, write_certificate
    from wattshed.measure.driver import open_driver
    from wattshed.measure.health import look_at_all

    simulated = wanted.engine.partition(":")[0] == SIMULATED
    clock = VirtualClock() if simulated else SYSTEM_CLOCK
    lease = lease_of(campaign, wanted.gpus)
    observe = observe_of(campaign, wanted.gpus)
    path = into / JOURNAL
    before = len(read_journal(path).trials) if path.exists() else None
    with closing(open_driver(wanted.engine, wanted.engine_settings(), clock)) as driver:
        meters = open_all(wanted.meters, driver, clock)
        health = look_at_all(meters, clock)
        tell_health(health)
        if wanted.meters == (AUTO,):
            meters, health = only_ok(meters, health)
        refuse_repeats(meters, health)
        if not meters:
            tell_what_nothing_decides(campaign)
        bench = Bench(
            resume=wanted.resume,
            inputs=wanted.inputs(),
            health=health,
            settings=settings_of(meters),
            lease=lease,
            observe=observe,
            traces=into / TRACES if wanted.traces else None,
        )
        try:
            with terminated_as_interrupted():
                outcome = run_campaign(
                    campaign,
                    driver,
                    meters,
                    clock,
                    path=path,
                    bench=bench,
                    on_progress=on_progress,
                )
        except (EngineError, MeterError):  # what was measured before is whole
            write_runs(read_journal(path), into / RUNS)
            raise
    write_runs(outcome.journal, into / RUNS)
    if len(outcome.journal.trials) != before:  # else the certificate of what was measured stays
        write_certificate(certify(findings_of(meters, health)), into / CERTIFICATE)
    return outcome


def tell_what_nothing_decides(campaign: Campaign) -> None:
    """Say which rules of a campaign wait for energies that no meter will tell."""
    from wattshed.measure.campaign.stopping import Decision

    ends = []
    if isinstance(campaign.stop, Decision):
        ends.append(f"each cell takes {campaign.stop.at_most} trials (--max-trials)")
    if campaign.is_adaptive:
        ends.append(f"the grid grows to {campaign.max_cells} cells (--max-cells)")
    if ends:
        against = campaign.rival.profile if campaign.rival else "another"
        note(
            f"without a meter no energy is known, so nothing can be decided against {against}:"
            f" {' and '.join(ends)}"
        )


@contextmanager
def terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends a campaign as Ctrl-C does."""

    def interrupt(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
