import pytest

from wattshed.records import Provenance
from wattshed.report.document import Chart, Document, Map, Section, Series, Table


@pytest.fixture
def table():
    return Table(
        "savings",
        "Savings <b>by</b> policy",
        ["policy & more", "energy (kWh)", "saving (%)", "significant"],
        [
            ["this plan", 5.589387251330465, None, None],
            ["best box T_in <= 38, T_out <= 76 on m1-pro, else a100", 1e-7, 0.1, "yes"],
            ["[bold]markup[/bold]", 51924.123456789, -3.25, "no"],
        ],
        highlight=[0],
        note="Interval <0>; see https://example.org/a?b=1&c=2.",
    )


@pytest.fixture
def chart():
    x = [8.0, 64.0, 512.0]
    return Chart(
        "curve",
        "Energy & <runtime>",
        "tokens $n$",
        "energy (J) $ per _token",
        [Series("a_b $ <c>", x, [1.0, 2.0, 30.0], [0.5, 1.0, 20.0], [2.0, 3.0, 40.0])],
        x_scale="log2",
        note="No queueing.",
    )


@pytest.fixture
def regions():
    return Map(
        "regions",
        "Cheapest",
        "m",
        "n",
        [8.0, 16.0, 32.0],
        [8.0, 16.0],
        [[0, 0, 1], [0, 1, 1]],
        ["m1-pro", "a100", "v100"],
        [(4.0, 9.0, 10.0), (20.0, 12.0, 1.0), (100.0, 50.0, 0.0)],
    )


@pytest.fixture
def document(table, chart, regions):
    return Document(
        "Plan for <alpaca>",
        "A & B.",
        [
            Section("First", ["Text <script>alert(1)</script>."], [table], [chart]),
            Section("Second", charts=[regions]),
        ],
        [
            Provenance(
                "src", "Paper: https://example.org/paper", "abc123", "CC BY 4.0", "measured", "n"
            )
        ],
        "wattshed 0.0.0",
        "wattshed plan --fleet 'a<b'",
        7,
    )
