"""What `wattshed replay` prints and writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wattshed.cli import simulated
from wattshed.cli.shared import command_line, note, print_tables, write_folder
from wattshed.records import Fleet

if TYPE_CHECKING:
    from wattshed.records import Provenance, ReplayResults
    from wattshed.replay.compare import Other
    from wattshed.replay.door import Door
    from wattshed.replay.run import Replayed
    from wattshed.simulate.scenario import Arrivals


def inputs_of(
    door: Door, arrivals: Arrivals, fleet: Fleet | None, settings: dict[str, Any]
) -> dict[str, Any]:
    """Everything that decided the result, but the key."""
    found = simulated.inputs_of(fleet or Fleet("", []), arrivals, (), {**settings, "plan": None})
    del found["plan"], found["outages"]
    names = ("url", "model", "timeout_s", "prompt", "exact", "engine_speed", "max_error")
    door_inputs = {name: getattr(door, name) for name in names}
    return {
        **found,
        **door_inputs,
        "fleet": found["fleet"] if fleet and fleet.deployments else None,
    }


def replay_results(found: ReplayResults) -> dict[str, Any]:
    """The stable keys of `wattshed replay --json`: those of `wattshed simulate`, and more."""
    import msgspec

    results: dict[str, Any] = msgspec.to_builtins(found)
    for policy in results["policies"]:
        for key in simulated.SERIES:
            del policy[key]
    return results


def print_replay(found: ReplayResults) -> None:
    """Tables and sentences on stdout, what to know of them on stderr."""
    from wattshed.report.replay_document import (
        caveats,
        comparison_tables,
        headline,
        summary_table,
    )

    print_tables([summary_table(found), *comparison_tables(found, short=True)])
    click.echo(headline(found))
    for each in caveats(found):
        note(f"note: {each}")


def write_replay(
    found: Replayed,
    others: Sequence[Other],
    inputs: dict[str, Any],
    sources: list[Provenance],
    folder: Path,
) -> None:
    """The report, replay.json, and the requests."""
    import msgspec

    from wattshed import __version__
    from wattshed.report.replay_document import replay_document

    tables = simulated.RequestTables()
    tables.keep(found.table)
    beside = [other.policy for other in others]
    seed = inputs["seed"]
    document = replay_document(found.results, beside, sources, command_line(), seed)
    content = {
        "schema": "wattshed/replay",
        "version": 1,
        "created_by": f"wattshed {__version__}",
        "inputs": inputs,
        "seed": seed,
        "replay": found.results,
    }
    encoded = msgspec.json.format(msgspec.json.encode(content), indent=1)
    write_folder(document, folder, {"replay.json": encoded, **tables.by_name()})
