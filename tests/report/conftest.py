import math

import pytest

from wattshed.records import (
    ClassResult,
    DeploymentResult,
    Distribution,
    Factor,
    Impact,
    Interval,
    Latency,
    Provenance,
    Saving,
    SimulatedEnergy,
    SimulatedPolicy,
    SimulationResults,
    Stack,
)
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


BINS, END_S = 60, 3600.0
DEPLOYMENTS = {"a100-tp8": 1.0, "h100-tp8": 1.6, "h100-tp4": 0.8}


def _latency(median_s):
    return Latency(1.2 * median_s, median_s, 2 * median_s, 6 * median_s, 30 * median_s)


def _distribution(median_s):
    part = [k / 100 for k in range(1, 100)]
    return Distribution([median_s * (p / (1 - p)) ** 0.4 for p in part], part)


def _stack(power_w):
    edges = [END_S * k / BINS for k in range(BINS + 1)]
    busy = [0.5 + 0.4 * math.sin(k / 7) for k in range(BINS)]
    by_state = {
        "idle": [0.4 * power_w * (1 - b) for b in busy],
        "prefill": [0.3 * power_w * b for b in busy],
        "decode": [0.7 * power_w * b for b in busy],
        "query": [0.0] * BINS,
        "sleep": [0.0] * BINS,
    }
    total = [sum(values) for values in zip(*by_state.values(), strict=True)]
    return Stack(edges, by_state, {"a100-tp8/0": total})


def _impact(energy_j):
    kwh = energy_j / 3.6e6
    factors = (
        Factor("pue", 1.2, "modelled", "fleet.toml"),
        Factor("carbon_signal", 410.0, "derived", "eia-2022-carbon#PJM"),
    )
    facility = 1.2 * energy_j
    return Impact(
        energy_j, facility, "accelerator", 410 * 1.2 * kwh, None, 2.0 * kwh, None, 0.1 * kwh, "USD",
        factors,
    )  # fmt: skip


def make_contender(name, controller, factor, attainment):
    """A contender with `factor` times the energy of another one."""
    energy = SimulatedEnergy(
        5e7 * factor, 1.5e7 * factor, 1.8e7 * factor, 1.65e7 * factor, 0.05e7 * factor
    )
    limits = {"ttft_limit_s": 1.0, "tbt_limit_s": 0.22, "e2e_limit_s": None}
    latencies = {"ttft_s": _latency(0.3), "tpot_s": _latency(0.04), "e2e_s": _latency(9.0)}
    return SimulatedPolicy(
        name=name,
        controller=controller,
        settings={},
        replications=3,
        requests=20_000,
        completed=19_990,
        failed=10,
        rejected=4,
        lost=6,
        unfinished=0,
        retries=3,
        preemptions=12,
        duration_s=END_S,
        throughput_per_s=5.5,
        goodput_per_s=5.5 * attainment,
        output_tokens_per_s=1200.0,
        tbt_s=_latency(0.045 / factor),
        **latencies,
        attainment=attainment,
        attainment_every_token=attainment - 0.01,
        classes=[
            ClassResult("default", 20_000, 19_990, attainment, **limits, **latencies),
        ],
        energy_j=energy,
        energy_by_state_j={"idle": energy.idle, "decode": 2.5e7 * factor, "prefill": 0.8e7},
        energy_per_request_j=2500.0 * factor,
        energy_per_output_token_j=11.8 * factor,
        net_energy_per_request_j=750.0 * factor,
        net_energy_per_output_token_j=3.5 * factor,
        balance_error=-2e-13,
        deployments=[
            DeploymentResult(d, 4, int(6000 * w), int(1.2e6 * w), 1.5e7 * w, 0.31 * w, 1000 * w)
            for d, w in DEPLOYMENTS.items()
        ],
        impacts={"east": _impact(energy.total)},
        modelled=["energy of the H100s: modelled from thermal design power (Splitwise)"],
        intervals={
            "attainment": Interval(attainment - 0.002, min(1, attainment + 0.002), "t"),
            "energy_per_request_j": Interval(2450.0 * factor, 2550.0 * factor, "t"),
            "energy_per_output_token_j": Interval(11.5 * factor, 12.1 * factor, "t"),
        },
        bound_j=3.1e7,
        gap=5e7 * factor / 3.1e7 - 1,
        stack=_stack(14e3 * factor),
        cdf={
            "ttft_s": _distribution(0.3 * factor),
            "tbt_s": _distribution(0.045 / factor),
            "e2e_s": _distribution(9.0),
        },
    )


@pytest.fixture
def contender():
    return make_contender


@pytest.fixture
def simulated():
    """Three contenders, one of which saves energy and another breaks promises."""
    best = "frugal + phases:0.5"
    sentence = f"{best} saves 12 % (95 % interval 11 to 13 %) against round-robin + pinned."
    return SimulationResults(
        fleet="mixed-70b",
        workload="azure-conv-2023",
        arrivals="replayed",
        requests=20_000,
        rate_per_s=5.55,
        replications=3,
        seeds=[1, 2, 3],
        policies=[
            make_contender("round-robin", "pinned", 1.0, 0.995),
            make_contender("frugal", "phases:0.5", 0.88, 0.993),
            make_contender("packed", "pinned", 0.8, 0.95),
        ],
        savings=[
            Saving(
                best,
                "round-robin + pinned",
                0.12,
                Interval(0.11, 0.13, "t"),
                -0.002,
                True,
                sentence,
            ),
            Saving(
                "packed + pinned",
                "round-robin + pinned",
                0.2,
                None,
                -0.045,
                False,
                "packed + pinned needs 20 % less, but keeps 4.5 points fewer promises: no saving.",
            ),
        ],
        notes=["12 requests were preempted"],
    )
