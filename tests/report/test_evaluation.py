"""The judgement of a rule, rendered from records made by hand."""

from __future__ import annotations

import pytest
from msgspec import structs

from wattshed.records import Interval, LimitUse, OutOfSample
from wattshed.report.evaluation import evaluation_section, evaluation_table
from wattshed.report.text import format_rows


@pytest.fixture
def found() -> list[OutOfSample]:
    interval = Interval(1.0, 3.0, "made up")
    known = OutOfSample("known", 3.6e6, 2.0, "all a", 2.0, interval, True, 0.0, 0, {"a": 1.0}, 0.9)
    loses = structs.replace(known, predictor="mean", saving_pct=-5.0, saving=None, significant=None)
    loses = structs.replace(loses, probability_saves=None)
    return [known, structs.replace(loses, regret_pct=None, displaced_queries=7)]


def test_each_source_of_lengths_has_a_row(found: list[OutOfSample]) -> None:
    table = evaluation_table(found, "past", "future")
    assert table.rows[0] == ["known", 1.0, 2.0, 1.0, 3.0, "yes", 0.9, 0.0, 0]
    assert table.rows[1] == ["mean", 1.0, -5.0, None, None, None, None, None, 7]
    assert table.title == "The rule of past on future"
    assert "against all a" in table.note
    assert "95 % intervals: made up" in table.note


def test_what_is_not_known_is_a_dash(found: list[OutOfSample]) -> None:
    bare = [structs.replace(each, saving=None) for each in found]
    table = evaluation_table(bare, "past", "future")
    assert "No intervals" in table.note
    assert format_rows(table)[1][3:7] == ["–"] * 4


def test_the_section_says_on_what_the_rule_was_made(found: list[OutOfSample]) -> None:
    section = evaluation_section(found, "past", "future")
    assert "made on past" in section.paragraphs[0]
    assert "On future" in section.paragraphs[0]
    assert [table.slug for table in section.tables] == ["out-of-sample"]


def test_what_is_used_of_each_limit_is_told(found: list[OutOfSample]) -> None:
    kept, broken = (
        LimitUse("busy time of a", "s", used, 100.0, used <= 100) for used in (90.0, 105.0)
    )
    none = LimitUse("query cap of b", "queries", 0.0, 0.0, True)
    limited = [
        structs.replace(each, limits=[use, none])
        for each, use in zip(found, (kept, broken), strict=True)
    ]
    table = evaluation_section(limited, "past", "future").tables[1]
    assert table.rows[:2] == [
        ["busy time of a", "known", 90.0, 100.0, "s", 90.0, "yes"],
        ["busy time of a", "mean", 105.0, 100.0, "s", 105.0, "no"],
    ]
    assert table.rows[2][5] is None
