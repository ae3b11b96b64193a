"""Compose a report from a simulation: who needs how much energy, and which promises it keeps."""

from __future__ import annotations

from typing import NamedTuple

from wattshed import __version__
from wattshed.records import Provenance, SimulatedPolicy, SimulationResults
from wattshed.report.document import Document, Section
from wattshed.report.simulation_charts import (
    energy_chart,
    latency_charts,
    power_charts,
    promises_chart,
)
from wattshed.report.simulation_served import (
    deployments_table,
    factors_table,
    impacts_table,
    served_table,
    throughput_table,
)
from wattshed.report.simulation_tables import (
    classes_table,
    comparable,
    contenders_table,
    energy_table,
    latency_table,
    per_request_table,
    savings_table,
    states_table,
)
from wattshed.report.text import format_number

STOPPED = "Stopped before its end: the figures are those of what was simulated until then."


class Aim(NamedTuple):
    """Which promises are to be kept.

    Attributes
    ----------
    target : float
        Part of them.
    every_token : bool
        The limit between tokens holds for each of them, not for the mean of a request.
    """

    target: float = 0.99
    every_token: bool = False


def simulation_document(
    found: SimulationResults, sources: list[Provenance], command: str, seed: int, aim: Aim
) -> Document:
    """Report of a simulation.

    Parameters
    ----------
    found : SimulationResults
        Of `wattshed.simulate_fleet`.
    aim : Aim
    """
    return Document(
        title=f"{found.workload} on {found.fleet}",
        abstract=headline(found, aim.target),
        sections=simulation_sections(found, aim),
        sources=sources,
        created_by=f"wattshed {__version__}",
        command=command,
        seed=seed,
    )


def simulation_sections(found: SimulationResults, aim: Aim) -> list[Section]:
    """Everything that a simulation found, as the sections of a report."""
    sections = [
        Section("The contenders", [_setting(found, aim)], tables=[contenders_table(found)]),
        *_savings_section(found),
        Section(
            "Energy by whom",
            [
                "Each request is charged for what it adds to the steps it is in, and for its share"
                " of their static power. Idling is charged to nobody, and never lost."
            ],
            tables=[energy_table(found), per_request_table(found), states_table(found)],
            charts=[energy_chart(found)],
        ),
        *_power_section(found),
        _latency_section(found),
        Section(
            "Who served what",
            ["Figures are means over the replications." if found.replications > 1 else ""],
            tables=[deployments_table(found), served_table(found), throughput_table(found)],
        ),
        *_impact_section(found),
        Section("What to know of these figures", _notes(found)),
    ]
    return [_without_empty(section) for section in sections]


def headline(found: SimulationResults, target: float) -> str:
    """The simulation in a few sentences."""
    stopped = [STOPPED] if found.partial else []
    whole = [p for p in found.policies if not p.partial]
    served = [p for p in whole if p.completed]
    if not served:
        none = "No request was served." if whole else "No contender came to its end."
        return " ".join([*stopped, none])
    keeping = [p for p in served if p.attainment is None or p.attainment >= target]
    if not keeping:
        best = max(served, key=lambda p: (p.attainment or 0.0, -p.energy_per_request_j))
        return " ".join([*stopped, _none_keeps(best, target)])
    best = min(keeping, key=lambda p: p.energy_per_request_j)
    return " ".join([*stopped, _least(best, found, target), *_saving_of(best, found), *_gap(best)])


def _none_keeps(best: SimulatedPolicy, target: float) -> str:
    return (
        f"No contender keeps {_percent(target)} of the promises. {best.label} keeps the most,"
        f" {_percent(best.attainment or 0.0)}, at {_joules(best)}."
    )


def _least(best: SimulatedPolicy, found: SimulationResults, target: float) -> str:
    if len(found.policies) == 1:
        kept = "" if best.attainment is None else f", and keeps {_percent(best.attainment)} of the"
        return f"{best.label} needs {_joules(best)}{kept and kept + ' promises'}."
    if best.attainment is None:
        return f"{best.label} needs the least energy: {_joules(best)}. Nothing was promised."
    return (
        f"Of the contenders that keep {_percent(target)} of the promises, {best.label} needs the"
        f" least energy: {_joules(best)}, with {_percent(best.attainment)} kept."
    )


def _saving_of(best: SimulatedPolicy, found: SimulationResults) -> list[str]:
    return [s.sentence for s in comparable(found) if s.contender == best.label][:1]


def _gap(best: SimulatedPolicy) -> list[str]:
    if best.gap is None:
        return []
    return [
        f"Its energy is {100 * best.gap:.3g} % above a bound that no schedule of these requests on"
        " these replicas can undercut."
    ]


def _setting(found: SimulationResults, aim: Aim) -> str:
    seeds = ", ".join(map(str, found.seeds))
    repeated = f", {found.replications} times (seeds {seeds})" if found.replications > 1 else ""
    between = "each time between tokens" if aim.every_token else "the mean time between tokens"
    return (
        f"{found.requests:,} requests, {format_number(found.rate_per_s)} per second on average"
        f" ({found.arrivals}), were sent to the fleet {found.fleet}{repeated}. A promise is kept if"
        f" TTFT, E2E and {between} of a request are within the limits of its class; the aim is to"
        f" keep {_percent(aim.target)} of them."
    )


def _savings_section(found: SimulationResults) -> list[Section]:
    sentences = [s.sentence for s in comparable(found)]
    if not sentences:
        return []
    return [Section("Savings", sentences, tables=[savings_table(found)])]


def _power_section(found: SimulationResults) -> list[Section]:
    charts = power_charts(found)
    text = "What replicas do, and what they draw meanwhile. All pictures have one scale."
    return [Section("Power over time", [text], charts=[*charts])] if charts else []


def _latency_section(found: SimulationResults) -> Section:
    promises = promises_chart(found)
    return Section(
        "Latency and promises",
        tables=[latency_table(found), *([classes_table(found)] if _has_classes(found) else [])],
        charts=[*([promises] if promises else []), *latency_charts(found)],
    )


def _has_classes(found: SimulationResults) -> bool:
    return any(p.classes for p in found.policies)


def _impact_section(found: SimulationResults) -> list[Section]:
    if not any(p.impacts for p in found.policies):
        return []
    tables = [impacts_table(found), factors_table(found)]
    return [Section("Carbon, water and cost", tables=tables)]


def _notes(found: SimulationResults) -> list[str]:
    stopped = [STOPPED] if found.partial else []
    modelled = [f"Modelled: {text}" for text in modelled_of(found)]
    return [*stopped, *map(_sentence, [*found.notes, *modelled])]


def modelled_of(found: SimulationResults) -> list[str]:
    """What rests on assumptions, each once."""
    return list(dict.fromkeys(text for p in found.policies for text in p.modelled))


def _without_empty(section: Section) -> Section:
    paragraphs = [p for p in section.paragraphs if p]
    return Section(section.heading, paragraphs, section.tables, section.charts)


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".")


def _percent(part: float) -> str:
    """A part in percent, as many digits as tell it from the whole."""
    return f"{100 * part:.4g} %"


def _joules(p: SimulatedPolicy) -> str:
    return f"{format_number(p.energy_per_request_j)} J per request"
