"""The picture of a plan: where its prices send a query, and what the best thresholds lose."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from msgspec import structs

from wattshed import load_fleet, plan_workload, read_workload
from wattshed.documents import regions_section
from wattshed.fleet import Fleet, Slo
from wattshed.plan.limits import Bound, Limits
from wattshed.plan.regions import find_regions
from wattshed.records import DeploymentPrices
from wattshed.report.document import Map
from wattshed.workload.table import Workload


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return load_fleet("hybrid-2024")


@pytest.fixture(scope="module")
def alpaca() -> Workload:
    return read_workload("alpaca")


def maps(plan, fleet, workload) -> list[Map]:
    return [c for c in regions_section(plan, fleet, workload).charts if isinstance(c, Map)]


def test_a_price_moves_the_border(fleet: Fleet, alpaca: Workload) -> None:
    rule = plan_workload(fleet, alpaca).rule
    assert rule is not None
    around = alpaca.distinct()
    free = find_regions(fleet, rule, around)
    small = free.names.index("m1-pro")
    dear = structs.replace(
        rule, deployments={**rule.deployments, "m1-pro": DeploymentPrices(query_j=10.0)}
    )
    priced = find_regions(fleet, dear, around)
    assert 0 < (priced.cheapest == small).sum() < (free.cheapest == small).sum()
    assert not ((priced.cheapest == small) & (free.cheapest != small)).any()


def test_the_picture_is_of_the_plan_within_its_limits(fleet: Fleet, alpaca: Workload) -> None:
    plan = plan_workload(fleet, alpaca, limits=Limits(runtime=Bound(1.1, relative=True)))
    (picture,) = maps(plan, fleet, alpaca)
    (free,) = maps(plan_workload(fleet, alpaca), fleet, alpaca)
    small = picture.names.index("m1-pro")
    count = [int((np.array(p.values) == small).sum()) for p in (picture, free)]
    assert 0 < count[0] < count[1]
    assert "prices of the limits included" in picture.note


def test_the_best_rules_are_drawn_with_what_they_lose(fleet: Fleet, alpaca: Workload) -> None:
    plan = plan_workload(fleet, alpaca)
    section = regions_section(plan, fleet, alpaca)
    (picture,) = maps(plan, fleet, alpaca)
    assert [cut.name.partition(":")[0] for cut in picture.cuts] == [
        "best T_in 6",
        "best T_out 67",
        "best box 38, 76",
    ]
    box = next(b for b in plan.baselines if b.family == "box")
    loss = 100 * (box.energy_j / plan.energy_j - 1)
    assert f"{loss:+.2g} % energy" in picture.cuts[2].name
    assert f"{box.name}, against this plan: {loss:+.2g} % energy" in section.paragraphs[0]


def test_classes_that_differ_have_a_picture_each(fleet: Fleet, alpaca: Workload) -> None:
    names = np.array(["batch", "interactive"])[np.arange(alpaca.table.height) % 2]
    mixed = replace(alpaca, table=alpaca.table.with_columns(pl.Series("class", names)))
    promised = structs.replace(fleet, slo={"interactive": Slo(ttft_s=1.0, tbt_s=0.2)})
    pictures = maps(plan_workload(promised, mixed), promised, mixed)
    assert [p.slug for p in pictures] == ["regions", "regions-2"]
    assert [p.title.rpartition(" ")[2] for p in pictures] == ["batch", "interactive"]
    weights = [sum(point[2] for point in p.density) for p in pictures]
    assert sum(weights) == alpaca.queries
    assert pictures[0].values != pictures[1].values
    assert len(maps(plan_workload(fleet, mixed), fleet, mixed)) == 1
