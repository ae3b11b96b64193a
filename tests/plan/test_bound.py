"""The offline energy bound: below every simulation, and near it where nothing is wasted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import structs

import wattshed as ws
from wattshed.engines.model import BatchingDeployment, OneQueryDeployment, affine_steps
from wattshed.engines.model import Deployment as Simulated
from wattshed.errors import InfeasibleError, ParameterError, UnservableError
from wattshed.fleet import Deployment, Fleet
from wattshed.plan.least import least_costs
from wattshed.records import (
    ClockResponse,
    ContextCost,
    Curve,
    IterationProfile,
    PowerState,
    Profile,
    StepDomain,
)
from wattshed.serving import engine_settings
from wattshed.simulate.model import Requests
from wattshed.workload.table import Queries

MakeProfile = Callable[..., Profile]


@dataclass(frozen=True)
class Engine:
    """An affine engine: fixed cost of any step, further cost of decoding, and slopes; s and J."""

    fixed: tuple[float, float] = (0.01, 5.0)
    decode: tuple[float, float] = (0.01, 5.0)
    sequence: tuple[float, float] = (1e-4, 0.3)
    context: tuple[float, float] = (1e-7, 1e-4)
    prompt: tuple[float, float] = (1e-4, 0.1)
    idle_w: float = 100.0

    def profile(self, name: str = "engine") -> IterationProfile:
        def curve(axis: int, fixed: float, slope: float) -> Curve:
            at = [1.0, 1000.0]
            return Curve(at, [fixed + slope * x for x in at], "affine", {}, "modelled", "made up")

        decode = [curve(i, self.fixed[i] + self.decode[i], self.sequence[i]) for i in (0, 1)]
        # A step that does both saves a weight pass, and as much of its energy as of its time.
        shared_s = self.fixed[0]
        shared_j = shared_s / decode[0].value[0] * decode[1].value[0]
        prefill = [curve(0, shared_s, self.prompt[0]), curve(1, shared_j, self.prompt[1])]
        state = PowerState(self.idle_w, 1.0, self.idle_w, "modelled", "", "modelled", "")
        sleep = PowerState(self.idle_w / 4, 1.0, self.idle_w, "modelled", "", "modelled", "")
        return IterationProfile(
            name=name,
            system=name,
            model="made-up",
            architecture="dense",
            accelerator="made-up",
            n_accelerators=1,
            tensor_parallel=1,
            workload="",
            boundary="accelerator",
            weight_bytes=1e9,
            decode_time_s=decode[0],
            decode_energy_j=decode[1],
            prefill_time_s=prefill[0],
            prefill_energy_j=prefill[1],
            context=ContextCost(*self.context, 0.0, "modelled", "made up"),
            weight_pass_s=shared_s,
            clock=ClockResponse(0.6, 2.0, self.idle_w, "modelled", "made up"),
            states={"resident": state, "sleep": sleep},
            domain=StepDomain((1.0, 1000.0)),
            cells=0,
            held_out=[],
            rules=[],
            data=[],
        )

    def simulated(self, deployment: Deployment) -> BatchingDeployment:
        """The same engine as the simulator takes it."""
        found = engine_settings(deployment)
        steps = ws.step_coefficients(self.profile())
        models = []
        for decode, prefill, context in (
            (steps.decode_s, steps.prefill_s, steps.context_s),
            (steps.decode_j, steps.prefill_j, steps.context_j),
        ):
            model = affine_steps(found.max_batch, *decode[0], context, prefill[0, 1])
            model.by_batch[0] = prefill[0, 0]
            models.append(model)
        return BatchingDeployment(
            deployment.name,
            deployment.replicas,
            *models,
            chunk_tokens=found.chunk_tokens,
            kv_tokens=found.kv_tokens,
            max_context_tokens=found.max_context_tokens,
            idle_power_w=found.idle_power_w,
        )


def random_engine(rng: np.random.Generator) -> Engine:
    def cost(time: float, energy: float) -> tuple[float, float]:
        return tuple((rng.exponential([time, energy]) * (rng.random(2) < 0.9) + 1e-9).tolist())

    return Engine(
        (0.001 + rng.exponential(0.02), 0.01 + rng.exponential(5.0)),
        cost(0.02, 5.0),
        cost(1e-3, 0.3),
        cost(1e-5, 1e-3),
        cost(1e-3, 0.3),
        rng.exponential(100.0),
    )


def random_fleet(
    rng: np.random.Generator, requests: Requests, make_profile: MakeProfile
) -> tuple[Fleet, list[Simulated]]:
    deployments, simulated = [], []
    for index in range(rng.integers(1, 4)):
        name, replicas = f"d{index}", int(rng.integers(1, 3))
        if rng.random() < 0.25:
            costs = rng.exponential([5.0, 0.5]), rng.exponential([0.1, 0.01])
            profile = make_profile(name, *costs)
            idle_w = float(rng.exponential(30.0))
            deployments.append(Deployment(name, profile, replicas, idle_power_w=idle_w))
            found = ws.predict(profile, requests.input_tokens, requests.output_tokens)
            simulated.append(
                OneQueryDeployment(
                    name, replicas, found.runtime_s, found.energy_j, idle_power_w=idle_w
                )
            )
            continue
        engine, batch = random_engine(rng), int(rng.integers(1, 9))
        keys: dict[str, Any] = {"max_batch": batch, "chunk_tokens": int(rng.integers(batch, 40))}
        if rng.random() < 0.6:  # little room: requests are computed again
            keys["kv_tokens"] = int(rng.integers(30, 120))
        deployments.append(Deployment(name, engine.profile(name), replicas, **keys))
        simulated.append(engine.simulated(deployments[-1]))
    return Fleet("random", deployments), simulated


@pytest.mark.slow
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32 - 1), policy=st.sampled_from(["random", "least-outstanding"]))
def test_no_simulation_needs_less(make_profile: MakeProfile, seed: int, policy: str) -> None:
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 40))
    arrival = np.cumsum(rng.exponential(rng.choice([0.0, 0.01, 1.0]), count))
    m, n = rng.integers(1, rng.choice([4, 60]), (2, count))
    fleet, simulated = random_fleet(rng, requests := Requests(arrival, m, n), make_profile)
    found = ws.simulate_requests(simulated, requests, policy=policy, seed=1, gaps=False)
    served = found.replica >= 0
    if not served.any():
        return
    bound = ws.energy_bound(fleet, (m[served], n[served]), found.end_s)
    assert bound.bound_j <= found.total_energy_j * (1 + 1e-9)
    assert bound.bound_j == pytest.approx(bound.idle_floor_j + bound.dynamic_j)
    assert sum(part.queries for part in bound.parts) == served.sum()


def test_requests_that_are_computed_again_do_not_undercut_it() -> None:
    """Prompts that cost less than a step: preemption, which computes them again, saves energy."""
    slight = (1e-12, 1e-9)
    engine = Engine(slight, slight, (1e-2, 9.0), (0.0, 0.0), slight)
    deployment = Deployment("a", engine.profile(), max_batch=8, chunk_tokens=64, kv_tokens=40)
    m, n = np.full(40, 3), np.full(40, 30)
    found = ws.simulate_requests([engine.simulated(deployment)], Requests(np.zeros(40), m, n))
    assert found.preemptions.sum() > 20
    bound = ws.energy_bound(Fleet("one", [deployment]), (m, n), found.end_s)
    assert bound.bound_j <= found.total_energy_j
    roomy = structs.replace(deployment, kv_tokens=8 * 32)  # no decode step can be left out
    assert ws.energy_bound(Fleet("one", [roomy]), (m, n), 1e3).dynamic_j == pytest.approx(
        40 * 29 * 8
    )


@pytest.mark.parametrize("idle_w", [0.0, 100.0, 400.0])
def test_a_batch_that_is_always_full_comes_within_a_few_percent(idle_w: float) -> None:
    engine = Engine(idle_w=idle_w + 1e-9)
    deployment = Deployment("a", engine.profile(), max_batch=16)
    m, n = np.full(64, 20), np.full(64, 500)
    found = ws.simulate_requests([engine.simulated(deployment)], Requests(np.zeros(64), m, n))
    bound = ws.energy_bound(Fleet("one", [deployment]), (m, n), found.end_s)
    assert 0.97 * found.total_energy_j <= bound.bound_j <= found.total_energy_j


def test_steps_below_idle_power_do_not_reward_repeating_them() -> None:
    engine = Engine(idle_w=1e5)
    deployment = Deployment("a", engine.profile(), max_batch=16)
    m, n = np.full(64, 20), np.full(64, 500)
    found = ws.simulate_requests([engine.simulated(deployment)], Requests(np.zeros(64), m, n))
    bound = ws.energy_bound(Fleet("one", [deployment]), (m, n), found.end_s)
    assert bound.parts[0].floor_power_w < 1e5
    assert 0.5 * found.total_energy_j <= bound.bound_j <= found.total_energy_j


def fleet_of(*deployments: Deployment) -> Fleet:
    return Fleet("made-up", list(deployments))


SIZES = (np.array([100, 100, 300]), np.array([50, 50, 1]))


def test_more_freedom_lowers_the_bound() -> None:
    deployment = Deployment("a", Engine().profile(), max_batch=8)
    bounds = [
        ws.energy_bound(fleet_of(each), SIZES, 100.0, clocks=clocks).bound_j
        for each, clocks in (
            (deployment, None),
            (deployment, [1.0, 0.8]),
            (deployment, [1.0, 0.8, 0.6]),
            (structs.replace(deployment, sleep_after_s=0.0), [1.0, 0.8, 0.6]),
        )
    ]
    assert all(after < before for before, after in pairwise(bounds))
    more = structs.replace(deployment, max_batch=16)
    tokens = [
        ws.energy_bound(fleet_of(each), SIZES, 100.0).dynamic_j for each in (deployment, more)
    ]
    assert tokens[1] < tokens[0]
    slow = structs.replace(deployment, clock=0.8)
    found = ws.energy_bound(fleet_of(slow), SIZES, 100.0)
    assert found == structs.replace(
        ws.energy_bound(fleet_of(deployment), SIZES, 100.0, clocks=[0.8]), clocks=None
    )


def test_one_query_by_hand() -> None:
    """Batch 1, one chunk: nothing can be shared but the weight pass."""
    engine = Engine(context=(0.0, 0.0), idle_w=1e-9)
    deployment = Deployment("a", engine.profile(), max_batch=1, chunk_tokens=64)
    queries = Queries(np.array([64.0]), np.array([11.0]), np.ones(1, int), np.zeros(1, int), ("",))
    found = least_costs(deployment, queries)
    assert found.energy_j[0] == pytest.approx(64 * 0.1 + 10 * 10.3)
    assert found.time_s[0] == pytest.approx(64 * 1e-4 + 10 * 0.0201)


def test_seconds_send_queries_where_there_are_some_left() -> None:
    frugal = Engine(sequence=(0.05, 0.1), idle_w=1e-9)
    fast = Engine(sequence=(1e-4, 5.0), idle_w=1e-9)
    fleet = fleet_of(
        Deployment("fast", fast.profile(), max_batch=4),
        Deployment("frugal", frugal.profile(), max_batch=4),
    )
    sizes = (np.full(200, 50), np.arange(2, 202))
    free, tight = (ws.energy_bound(fleet, sizes, on_s) for on_s in (2000.0, 400.0))
    assert [part.queries for part in free.parts] == [0, 200]
    assert tight.parts[1].busy_s == pytest.approx(400.0, rel=0.01)
    assert tight.dynamic_j > free.dynamic_j
    parts_j = sum(part.dynamic_j for part in tight.parts)
    assert tight.dynamic_j <= parts_j <= tight.dynamic_j * 1.01
    with pytest.raises(InfeasibleError, match="no schedule serves these queries"):
        ws.energy_bound(fleet, sizes, 10.0)


def test_steps_that_contain_their_prefill_count_decode_tokens() -> None:
    profile = ws.load_iteration_profile(
        "mlenergy-v3/h100x4-tp4/llama-3.3-70b-instruct/lm-arena-chat"
    )
    deployment = Deployment("a", profile)
    found = ws.energy_bound(fleet_of(deployment), (np.full(9, 700), np.full(9, 101)), 1e4)
    batch = np.arange(1.0, 725.0)
    steps = ws.predict_steps(profile, batch)
    net = (steps.energy_j - profile.states["resident"].power_w * steps.time_s) / batch
    assert found.dynamic_j == pytest.approx(9 * 100 * net.min())
    # Prompts that may be computed again give tokens that no decode step was needed for.
    again = structs.replace(deployment, kv_tokens=10_000)
    less = ws.energy_bound(fleet_of(again), (np.full(9, 700), np.full(9, 101)), 1e4)
    assert 0 < less.dynamic_j < found.dynamic_j


def test_hosts_and_single_queries_count(make_profile: MakeProfile) -> None:
    profile = make_profile("one", (10.0, 0.0), (2.0, 0.0))
    one = Deployment("one", profile, replicas=2, idle_power_w=3.0, host_power_w=1.0)
    found = ws.energy_bound(fleet_of(one), ([5, 6], [4, 1]), 60.0)
    assert found.idle_floor_j == pytest.approx(2 * 60 * 3.0)
    assert found.dynamic_j == pytest.approx(5 * (10.0 - 2.0 * 3.0 + 2.0 * 1.0))
    assert found.parts[0].busy_s == pytest.approx(10.0)
    engine = Deployment("engine", Engine().profile(), max_batch=4)
    bare, hosted = (
        ws.energy_bound(fleet_of(structs.replace(engine, host_power_w=w)), SIZES, 60.0)
        for w in (0.0, 50.0)
    )
    assert hosted.dynamic_j - bare.dynamic_j == pytest.approx(50 * bare.parts[0].busy_s)


def test_what_is_modelled_is_said() -> None:
    phases = "splitwise/a100-80gb-tp8/llama-2-70b"
    assert (
        ws.energy_bound(fleet_of(Deployment("a", ws.load_iteration_profile(phases))), SIZES, 9).kind
        == "modelled"
    )
    single = Deployment("a", ws.load_profile("wilkins-2024/swing-a100/llama-2-7b"))
    assert ws.energy_bound(fleet_of(single), SIZES, 1e3).kind == "derived"
    steady = ws.load_iteration_profile("mlenergy-v3/h100x1/llama-3.1-8b-instruct/lm-arena-chat")
    found = [
        ws.energy_bound(fleet_of(Deployment("a", steady)), SIZES, 60.0, clocks=clocks).kind
        for clocks in (None, [1.0], [1.0, 0.9])
    ]
    assert found == ["derived", "derived", "modelled"]


def test_replicas_that_are_off_draw_nothing() -> None:
    fleet = fleet_of(Deployment("a", Engine().profile(), replicas=3, max_batch=4))
    same = ws.energy_bound(fleet, SIZES, {"a": 180.0})
    assert same == ws.energy_bound(fleet, SIZES, 60.0)
    less = ws.energy_bound(fleet, SIZES, {"a": 90.0})
    assert (less.on_s, less.parts[0].on_s) == (30.0, 90.0)
    assert less.bound_j == pytest.approx(same.bound_j - 90.0 * 100.0)


def test_rows_and_counts_are_the_same() -> None:
    fleet = fleet_of(Deployment("a", Engine().profile(), max_batch=4))
    m, n = np.array([100.0, 300.0]), np.array([50.0, 1.0])
    counted = Queries(m, n, np.array([2, 1]), np.zeros(2, int), ("",))
    assert ws.energy_bound(fleet, counted, 60.0) == ws.energy_bound(fleet, SIZES, 60.0)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        ((SIZES, 0.0), ParameterError, "on_s: 0 s; give seconds"),
        ((SIZES, float("nan")), ParameterError, "on_s: nan"),
        ((SIZES, {"b": 1.0}), ParameterError, r"on_s\['a'\]: missing"),
        ((SIZES, {"a": -1.0}), ParameterError, r"on_s\['a'\]: -1 s"),
        ((([1, 2], [1]), 1.0), ParameterError, "queries: shapes"),
        ((([1, 0], [1, 1]), 1.0), ParameterError, "not whole and positive"),
        ((([900], [200]), 100.0), UnservableError, "input_tokens=900, output_tokens=200"),
    ],
)
def test_bad_input_is_named(arguments: Any, error: type[Exception], match: str) -> None:
    fleet = fleet_of(Deployment("a", Engine().profile(), max_batch=4, kv_tokens=1000))
    with pytest.raises(error, match=match):
        ws.energy_bound(fleet, *arguments)
    for clocks, words in (([], "clocks: none"), ([1.5], "clock: 1.5")):
        with pytest.raises(ParameterError, match=words):
            ws.energy_bound(fleet, SIZES, 60.0, clocks=clocks)
