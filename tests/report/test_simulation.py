import math

import pytest
from msgspec import structs

from wattshed.records import Latency
from wattshed.report.charts import draw, to_svg
from wattshed.report.document import Chart, Series
from wattshed.report.folder import write_report
from wattshed.report.simulation_charts import (
    distinct_slugs,
    energy_chart,
    latency_charts,
    power_charts,
    promises_chart,
)
from wattshed.report.simulation_document import (
    STOPPED,
    Aim,
    headline,
    simulation_document,
    simulation_sections,
)
from wattshed.report.simulation_tables import (
    contenders_table,
    energy_table,
    per_request_table,
    savings_table,
    states_table,
    summary_table,
)
from wattshed.report.stacks import base_of, tops_of


def column(table, name):
    return [row[table.columns.index(name)] for row in table.rows]


def changed(found, **fields):
    return structs.replace(found, policies=[structs.replace(p, **fields) for p in found.policies])


@pytest.mark.slow
def test_a_simulation_fills_a_report(simulated, tmp_path):
    document = simulation_document(simulated, [], "wattshed simulate", 0, Aim())
    names = {p.name for p in write_report(document, tmp_path)}
    assert {"contenders.csv", "energy-by-part.svg", "power-frugal-phases-0.5.png"} <= names
    assert {"ttft-cdf.svg", "attainment-energy.svg", "impacts.csv", "deployments.csv"} <= names
    page = (tmp_path / "index.html").read_text()
    for text in (*simulated.notes, *(s.sentence for s in simulated.savings)):
        assert text[1:] in page
    assert simulated.policies[0].modelled[0] in page
    assert ">nan<" not in page.lower()


def test_the_headline_names_the_least_energy_of_those_that_keep_the_promises(simulated):
    text = headline(simulated, 0.99)
    assert "frugal + phases:0.5 needs the least energy" in text
    assert simulated.savings[0].sentence in text
    assert "packed" not in text
    assert "packed + pinned needs the least energy" in headline(simulated, 0.9)
    assert "No contender keeps 99.9 % of the promises" in headline(simulated, 0.999)


def test_without_promises_the_headline_says_so(simulated):
    text = headline(changed(simulated, attainment=None), 0.99)
    assert "packed + pinned needs the least energy" in text
    assert "Nothing was promised" in text


def test_a_stopped_contender_is_not_judged(simulated):
    last = structs.replace(simulated.policies[2], partial=True)
    policies = [*simulated.policies[:2], last]
    found = structs.replace(simulated, policies=policies, partial=True)
    assert headline(found, 0.9).startswith(STOPPED)
    assert "packed" not in headline(found, 0.9)
    assert column(summary_table(found), "attainment (%)")[-1] is None
    assert column(savings_table(found), "contender") == ["frugal + phases:0.5"]
    assert "No contender came to its end" in headline(changed(found, partial=True), 0.9)


def test_energy_per_request_is_unknown_where_none_was_served(simulated):
    found = changed(simulated, completed=0)
    assert set(column(contenders_table(found), "energy (J/request)")) == {None}
    assert set(column(per_request_table(found), "net (J/request)")) == {None}
    assert "No request was served" in headline(found, 0.99)
    assert promises_chart(found) is None


def test_figures_of_tables_are_those_of_the_record(simulated):
    totals = column(energy_table(simulated), "total (kWh)")
    assert totals == [p.energy_j.total / 3.6e6 for p in simulated.policies]
    assert column(savings_table(simulated), "saving (%)") == [12, 20]
    assert states_table(simulated).columns[1:] == ["idle (kWh)", "decode (kWh)", "prefill (kWh)"]


def test_settings_that_were_found_are_shown(simulated):
    assert "settings" not in contenders_table(simulated).columns
    found = changed(simulated, settings={"clock": "best", "aim": "0.995"})
    assert column(contenders_table(found), "settings")[0] == "clock best, aim 0.995"


def test_intervals_are_shown_where_there_are_any(simulated):
    assert column(summary_table(simulated), "interval")[0] == "2450 to 2550"
    once = structs.replace(changed(simulated, intervals={}), replications=1)
    assert "interval" not in summary_table(once).columns
    assert "low (%)" not in savings_table(once).columns
    assert "No intervals" in per_request_table(once).note
    assert promises_chart(once).series[0].low is None


def test_parts_of_a_bar_add_up_to_the_energy_of_the_contender(simulated):
    chart = energy_chart(simulated)
    stacked = [s for s in chart.series if s.style == "stacked bars"]
    assert [s.name for s in stacked] == ["dynamic", "static", "idle", "transitions"]
    whole = tops_of(chart, len(stacked) - 1)
    assert whole == pytest.approx([p.energy_j.total / 3.6e6 for p in simulated.policies])
    assert chart.series[-1].style == "limits"
    assert [s.style for s in energy_chart(changed(simulated, bound_j=None)).series] == [
        "stacked bars"
    ] * 4


def test_states_without_power_are_left_out_and_pictures_share_a_scale(simulated):
    charts = power_charts(simulated)
    assert [s.name for s in charts[0].series] == ["idle", "decode", "prefill"]
    assert len({c.y_end for c in charts}) == 1
    limits = {draw(c).axes[0].get_ylim() for c in charts}
    assert limits == {(0.0, charts[0].y_end)}
    assert power_charts(changed(simulated, stack=None)) == []


def test_limits_are_lines_in_the_distributions(simulated):
    ttft, tbt, e2e = latency_charts(simulated)
    assert ttft.series[-1].name == "limit 1 s (default)"
    assert tbt.series[-1].x == [0.22, 0.22]
    assert {s.style for s in e2e.series} == {"line"}
    assert latency_charts(changed(simulated, cdf={})) == []


def test_what_is_not_there_has_no_section(simulated):
    bare = changed(simulated, impacts={}, stack=None, attainment=None, classes=[])
    bare = structs.replace(bare, savings=[])
    headings = [s.heading for s in simulation_sections(bare, Aim())]
    assert headings == [
        "The contenders",
        "Energy by whom",
        "Latency and promises",
        "Who served what",
        "What to know of these figures",
    ]


def test_unknown_latencies_are_dashes(simulated):
    nothing = Latency(None, None, None, None, None)
    found = changed(simulated, ttft_s=nothing, tbt_s=nothing)
    assert column(summary_table(found), "TTFT p99 (s)") == [None] * 3


def test_names_of_files_differ_even_where_case_does_not_count():
    slugs = distinct_slugs(["A + b", "a + B", "ü", "ä"])
    assert slugs == ["a-b", "a-b-2", "contender", "contender-2"]


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("style", ["stacked bars", "stacked areas"])
def test_stacked_series_stand_on_those_of_their_style(style, horizontal):
    x = [0.0, 1.0, 2.0]
    series = [
        Series("low", x, [1.0, 2.0, 3.0], style=style),
        Series("line", x, [9.0, 9.0, 9.0], style="line"),
        Series("high", x, [4.0, 5.0, 6.0], style=style, labels=["a", "b", "c"], muted=True),
        Series("limit", x, [7.0, 8.0, 9.0], style="limits"),
    ]
    chart = Chart("c", "", "x", "y", series, horizontal=horizontal, y_end=20.0)
    assert base_of(chart, 2) == [1.0, 2.0, 3.0]
    assert tops_of(chart, 2) == [5.0, 7.0, 9.0]
    assert to_svg(chart).startswith("<svg")
    axes = draw(chart).axes[0]
    assert (axes.get_xlim() if horizontal else axes.get_ylim())[1] == 20.0
    assert all(map(math.isfinite, axes.get_xlim()))
