import pytest
from msgspec import structs

import wattshed as ws
from wattshed.records import CurvePoint, Provenance
from wattshed.report.document import Document
from wattshed.report.fit_document import fit_sections, fit_summary_table
from wattshed.report.folder import write_report
from wattshed.report.plan_charts import curve_chart, sensitivity_chart
from wattshed.report.plan_document import baselines_table, plan_sections, plan_summary_tables
from wattshed.report.sources import unique_sources
from wattshed.report.text import format_rows


@pytest.fixture(scope="module")
def plan():
    return ws.plan_workload(ws.load_fleet("hybrid-2024"), ws.read_workload("alpaca"))


@pytest.fixture(scope="module")
def profiles():
    return ws.load_profiles()


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


def report_of(sections):
    return Document("Report", "", sections, [], "wattshed", "wattshed plan", 0)


@pytest.mark.slow
def test_a_plan_and_its_profiles_fill_one_report(plan, profiles, tmp_path):
    sections = [*plan_sections(plan), *fit_sections(profiles)]
    names = {p.name for p in write_report(report_of(sections), tmp_path)}
    assert {"index.html", "assignment.csv", "energy-runtime.svg", "accuracy-chart.png"} <= names


def test_every_figure_of_the_comparison_is_in_its_table(plan):
    table = baselines_table(plan)
    assert column(table, "policy") == ["this plan", *(b.name for b in plan.baselines)]
    assert column(table, "energy (kWh)")[0] == plan.energy_j / 3.6e6
    assert column(table, "saving of the plan (%)")[1:] == [b.saving_pct for b in plan.baselines]
    assert column(table, "low (%)")[1:] == [
        b.saving.low if b.saving else None for b in plan.baselines
    ]
    assert plan.reference in table.note


def test_the_verdict_and_the_warnings_are_there(plan):
    sections = plan_sections(plan)
    assert plan.verdict in sections[0].paragraphs
    said = " ".join(p for s in sections for p in s.paragraphs)
    assert all(w in said for w in plan.warnings)


def test_missing_intervals_are_dashes_not_zeros(plan):
    bare = [
        structs.replace(b, saving=None, significant=None, probability_saves=None)
        for b in plan.baselines
    ]
    cases = [
        structs.replace(s, saving=None, significant=None, probability_saves=None)
        for s in plan.sensitivity
    ]
    changed = structs.replace(plan, baselines=bare, sensitivity=cases)
    table = baselines_table(changed)
    assert {row[table.columns.index("low (%)")] for row in format_rows(table)} == {"–"}
    assert "No intervals" in table.note
    assert sensitivity_chart(changed).series[0].low is None
    for short in plan_summary_tables(changed)[1:]:
        assert {row[short.columns.index("interval (%)")] for row in short.rows} == {"–"}


def test_rules_too_far_for_the_picture_are_named(plan):
    chart = curve_chart(plan)
    shown = len(chart.series[1].x) if len(chart.series) > 1 else 0
    hidden = [b.name for b in plan.baselines if b.name in chart.note]
    assert "all v100" in hidden
    assert shown + len(hidden) >= len(plan.baselines)


def test_a_wide_range_of_runtimes_gets_a_log_axis(plan):
    ends = [CurvePoint(k, 2.0 - k, 100.0 if k else 1.0, None, {"a": 1.0}) for k in (0.0, 1.0)]
    assert curve_chart(structs.replace(plan, curve=ends)).x_scale == "log10"


def test_a_plan_without_sensitivity_or_curve_has_fewer_sections(plan):
    bare = structs.replace(plan, sensitivity=[], curve=[], warnings=[])
    assert [s.heading for s in plan_sections(bare)] == ["Recommendation", "Against simpler rules"]
    assert len(plan_summary_tables(bare)) == 2


def test_the_fit_summary_has_a_row_for_each_profile(profiles):
    table = fit_summary_table(profiles)
    assert column(table, "profile") == [p.name for p in profiles]
    for profile, error in zip(profiles, column(table, "bilinear energy MAPE (%)"), strict=True):
        scored = profile.energy.forms.get("bilinear")
        assert error == (scored.mape_pct if scored else None)


def test_each_profile_and_quantity_has_one_selected_form(profiles):
    table = fit_sections(profiles)[0].tables[0]
    chosen = [row[:3] for row in table.rows if row[-1] == "yes"]
    assert chosen == [
        [p.name, quantity, model.form]
        for p in profiles
        for quantity, model in (("energy", p.energy), ("runtime", p.runtime))
    ]
    assert [table.rows[k][:3] for k in table.highlight] == chosen


def test_a_profile_without_domain_or_scores_is_shown_with_dashes(profiles):
    bare = structs.replace(profiles[0], domain=None, kv_cache=None, rules=[])
    assert fit_summary_table([bare]).rows[0][-1] == "–"
    fit_sections([bare])


def test_sources_are_named_once_in_order(profiles):
    own = Provenance("own", "", "", "", "measured")
    found = unique_sources([own], profiles, [own])
    assert found[0] == own
    assert len(found) == len(set(found))
    assert {s for p in profiles for s in p.provenance} <= set(found)
