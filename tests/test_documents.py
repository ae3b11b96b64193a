"""Documents cannot lie by omission: whatever a user can name is looked for in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import click
import pytest

from wattshed import errors
from wattshed.cli import main
from wattshed.fit.curves import CURVE_FORMS
from wattshed.fit.forms import FORMS
from wattshed.fit.rules import FLAGS
from wattshed.fit.step_rules import STEP_RULES
from wattshed.fleet import DeploymentKeys, Slo
from wattshed.measure.driver import DRIVERS
from wattshed.measure.importers.registry import IMPORTERS as RESULT_IMPORTERS
from wattshed.measure.meter import METERS
from wattshed.plan.cost import NORMALISATIONS
from wattshed.plan.files import PlanInputs
from wattshed.records import (
    ComparedFigure,
    Comparison,
    Impact,
    IterationProfile,
    PairedSaving,
    ReplayedPolicy,
    ReplayResults,
    Saving,
    SimulatedPolicy,
    SimulationResults,
    Upstream,
)
from wattshed.records.iteration import StateName
from wattshed.records.measure import MeterStatus
from wattshed.route.registry import GROUP, POLICIES
from wattshed.runs import COLUMNS as RUNS_COLUMNS
from wattshed.series import TIME_COLUMNS
from wattshed.serve.keys import KeyEntry
from wattshed.serve.ledger import metadata
from wattshed.serve.savings import Saved
from wattshed.serve.shown import EndpointNow, Figures, Scene, State
from wattshed.signals import COLUMN as SIGNAL_COLUMN
from wattshed.simulate.layout import STATES
from wattshed.simulate.policies import POLICIES as SIMULATED_POLICIES
from wattshed.sites import SiteKeys
from wattshed.workload.importers import IMPORTERS
from wattshed.workload.rates import COLUMNS as RATES_COLUMNS
from wattshed.workload.table import COLUMNS as WORKLOAD_COLUMNS

DOCS = Path(__file__).parent.parent / "docs"


def commands(group: click.Group, prefix: str = "wattshed") -> list[tuple[str, click.Command]]:
    context = click.Context(group)
    found: list[tuple[str, click.Command]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        found.append((f"{prefix} {name}", command))
        if isinstance(command, click.Group):
            found += commands(command, f"{prefix} {name}")
    return found


@pytest.mark.parametrize("name", [name for name, _ in commands(main)])
def test_every_command_and_option_is_documented(name: str) -> None:
    text = (DOCS / "reference/cli.md").read_text()
    assert name in text
    for parameter in dict(commands(main))[name].params:
        if isinstance(parameter, click.Option):
            assert parameter.opts[-1] in text


SHOWN = (State, Scene, EndpointNow, Figures, Saved)
WORDS = {
    "explanation/query-models.md": [*FORMS, *FLAGS],
    "explanation/iteration-models.md": [*CURVE_FORMS, *STEP_RULES, *get_args(StateName)],
    "explanation/plans.md": [
        *NORMALISATIONS,
        "single",
        "round-robin",
        "random",
        "t-in",
        "t-out",
        "product",
        "box",
    ],
    "how-to/measure-your-machine.md": [*METERS, *DRIVERS, *get_args(MeterStatus)],
    "explanation/impacts.md": Impact.__struct_fields__,
    "explanation/routing.md": [*POLICIES, GROUP],
    "explanation/simulation.md": [*SIMULATED_POLICIES, *STATES],
    "reference/files.md": [
        *(column.name for column in (*RUNS_COLUMNS, *WORKLOAD_COLUMNS)),
        *IterationProfile.__struct_fields__,
        *DeploymentKeys.__struct_fields__,
        *Slo.__struct_fields__,
        *Upstream.__struct_fields__,
        *KeyEntry.__struct_fields__,
        *metadata.tables["requests"].columns.keys(),
        *(f"`{name}`" for kind in SHOWN for name in kind.__struct_fields__),
        *SiteKeys.__struct_fields__,
        *RATES_COLUMNS,
        *TIME_COLUMNS,
        SIGNAL_COLUMN,
        *PlanInputs.__struct_encode_fields__,
        *SimulatedPolicy.__struct_fields__,
        *SimulationResults.__struct_fields__,
        *Saving.__struct_fields__,
        *ReplayedPolicy.__struct_fields__,
        *ReplayResults.__struct_fields__,
        *Comparison.__struct_fields__,
        *ComparedFigure.__struct_fields__,
        *PairedSaving.__struct_fields__,
        *(column for importer in IMPORTERS.values() for column in importer.columns),
        *(f"`{name}`" for name in RESULT_IMPORTERS),
    ],
    "reference/python.md": [
        name
        for name, item in vars(errors).items()
        if isinstance(item, type) and issubclass(item, Exception)
    ],
}


@pytest.mark.parametrize(
    ("page", "word"),
    [(page, word) for page, words in WORDS.items() for word in dict.fromkeys(words)],
)
def test_every_word_a_user_may_write_is_documented(page: str, word: str) -> None:
    assert word in (DOCS / page).read_text()


def test_every_fault_has_the_test_that_is_named() -> None:
    lines = (DOCS / "explanation/faults.md").read_text().splitlines()
    rows = [line.split(" | ") for line in lines if "| `test_" in line]
    assert len(rows) > 25
    for *_, tests in rows:
        for name, words in re.findall(r"`(test_\w+)`((?:[:,] `(?!test_)\w+`)*)", tests):
            text = (DOCS.parent / "tests/serve" / f"{name}.py").read_text()
            for part in re.findall(r"`(\w+)`", words):
                assert re.search(rf"def test_\w*{part}", text), (name, part)
