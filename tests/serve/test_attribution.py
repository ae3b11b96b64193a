"""Metered energy falls to those who caused it, and none of it is lost or made up."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from wattshed import read_workload
from wattshed.engines.model import StepModel
from wattshed.fleet import load_fleet
from wattshed.records import Deployment, IterationProfile
from wattshed.replicas import batching
from wattshed.serve.attribution import Resident, Window, attribute, shared_seconds, work_in
from wattshed.serve.pace import Pace
from wattshed.serve.stays import Stay, residents_of, step_weights
from wattshed.simulate.arrivals import draw_requests

MIXED = load_fleet("mixed-70b").deployments
times = st.floats(-5, 15)
spans = st.tuples(times, times).map(lambda pair: (min(pair), max(pair)))
residents = st.builds(
    lambda endpoint, stay, pieces: Resident(
        endpoint,
        stay[0],
        stay[1],
        np.array([p[0][0] for p in pieces]),
        np.array([p[0][1] for p in pieces]),
        np.array([p[1] for p in pieces]),
    ),
    st.sampled_from("ab"),
    spans | times.map(lambda at: (at, math.inf)),
    st.lists(st.tuples(spans, st.floats(0, 1e6)), max_size=4),
)


@given(
    st.lists(residents, max_size=6),
    st.floats(-1e5, 1e7),
    st.floats(0.01, 10),
    st.floats(0, 1e4),
    st.floats(0, 1e4),
)
def test_all_that_is_metered_is_somewhere(
    there: list[Resident], energy_j: float, seconds: float, a_w: float, b_w: float
) -> None:
    found = attribute(Window(0.0, seconds, energy_j), there, {"a": a_w, "b": b_w})
    parts = [p for share in found.parts for p in (share.joules, share.idle_joules)]
    total = math.fsum([*parts, *found.idle_j.values(), found.unattributed_j])
    floor_j = (a_w + b_w) * seconds
    assert total == pytest.approx(energy_j, rel=1e-9, abs=1e-9 * (floor_j + 1e-3))
    assert all(share.joules >= 0 and share.idle_joules >= -1e-9 for share in found.parts)


def resident(begin_s: float, end_s: float, weight: float, endpoint: str = "a") -> Resident:
    work = np.array([begin_s]), np.array([end_s]), np.array([weight])
    return Resident(endpoint, begin_s, end_s, *work)


def test_the_floor_is_shared_and_the_rest_goes_by_work() -> None:
    """10 W for 10 s; one was there for 0 to 4 s, another for 2 to 4 s with a third of the work."""
    found = attribute(
        Window(0.0, 10.0, 130.0, 124.0, 136.0),
        [resident(0.0, 4.0, 20.0), resident(2.0, 4.0, 10.0)],
        {"a": 10.0},
    )
    assert [share.joules for share in found.parts] == pytest.approx([20.0, 10.0])
    assert [share.idle_joules for share in found.parts] == pytest.approx([30.0, 10.0])
    assert [share.low_j for share in found.parts] == pytest.approx([16.0, 8.0])
    assert [share.high_j for share in found.parts] == pytest.approx([24.0, 12.0])
    assert found.idle_j == {"a": pytest.approx(60.0)}
    assert found.unattributed_j == 0.0


def test_what_nobody_caused_is_unattributed_and_nothing_is_capped() -> None:
    nobody = attribute(Window(0.0, 1.0, 25.0), [], {"a": 10.0})
    assert (nobody.idle_j, nobody.unattributed_j) == ({"a": 10.0}, 15.0)
    less = attribute(Window(0.0, 1.0, 4.0), [resident(0.0, 1.0, 1.0)], {"a": 10.0})
    assert (less.parts[0].joules, less.parts[0].idle_joules) == (0.0, 10.0)
    assert less.unattributed_j == -6.0
    much = attribute(Window(0.0, 1.0, 1e9), [resident(0.0, 1.0, 1.0)], {"a": 10.0})
    assert much.parts[0].joules == 1e9 - 10.0


def test_work_falls_into_the_windows_that_it_was_done_in() -> None:
    long = resident(-3.0, 1.0, 8.0)
    found = attribute(Window(0.0, 1.0, 3.0), [long, resident(0.5, 0.5, 1.0)], {"a": 0.0})
    assert [share.joules for share in found.parts] == pytest.approx([2.0, 1.0])
    after = attribute(Window(1.0, 2.0, 3.0), [long, resident(1.0, 2.0, 1.0)], {"a": 0.0})
    assert [share.joules for share in after.parts] == pytest.approx([0.0, 3.0])


@given(st.lists(spans, max_size=8))
def test_shared_time_is_all_the_time(stays: list[tuple[float, float]]) -> None:
    begins, ends = np.array([s[0] for s in stays]), np.array([s[1] for s in stays])
    seconds, empty_s = shared_seconds(Window(0.0, 10.0, 0.0), begins, ends)
    assert seconds.sum() + empty_s == pytest.approx(10.0)
    assert (seconds <= np.clip(ends, 0, 10) - np.clip(begins, 0, 10) + 1e-9).all()


def test_where_no_steps_are_known_time_is_work() -> None:
    """One after the other: the second waits for 2 s, in which it does nothing but be there."""
    stays = [Stay("1", "a", 0.0, 10, end_s=3.0), Stay("2", "a", 1.0, 10, end_s=4.0)]
    found = attribute(Window(0.0, 4.0, 80.0), residents_of(stays, {"a": None}), {"a": 10.0})
    assert [share.joules for share in found.parts] == pytest.approx([30.0, 10.0])
    assert [share.idle_joules for share in found.parts] == pytest.approx([20.0, 20.0])


def test_who_is_answered_beside_another_shares_the_time_with_it() -> None:
    """Engines whose profile knows no steps may batch all the same, as llama.cpp does."""
    tokens = [(0.1 * k, 1) for k in range(10, 40)]
    stays = [Stay("1", "a", 0.0, 10, list(tokens)), Stay("2", "a", 0.5, 10, list(tokens))]
    for window in (Window(1.0, 2.0, 50.0), Window(2.0, 3.0, 50.0)):
        found = attribute(window, residents_of(stays, {"a": None}), {"a": 10.0})
        assert [share.joules for share in found.parts] == pytest.approx([20.0, 20.0])
        for stay in stays:
            stay.forget(window.end_s)
    stays[0].end_s = 3.2
    found = attribute(Window(3.0, 3.6, 46.0), residents_of(stays, {"a": None}), {"a": 10.0})
    assert [share.joules for share in found.parts] == pytest.approx([10.0, 30.0])


def test_requests_without_a_token_are_of_no_group() -> None:
    """Two that the engine failed: when their prompts were through is known of neither."""
    alone = structs.replace(MIXED[0], replicas=1)
    stays = [Stay(str(k), alone.name, 0.1 * k, 100, end_s=1.0) for k in range(2)]
    one, other = residents_of(stays, {alone.name: step_weights(alone)})
    assert one.weights.sum() == pytest.approx(other.weights.sum()) != 0.0


def test_an_answer_that_is_not_streamed_is_spread_over_its_time() -> None:
    alone = structs.replace(MIXED[0], replicas=1)
    stay = Stay("1", alone.name, 0.0, 2000, output_tokens=100, end_s=10.0)
    (there,) = residents_of([stay], {alone.name: step_weights(alone)})
    parts = [work_in(Window(at, at + 1.0, 0.0), there) for at in np.arange(10.0)]
    assert sum(parts) + work_in(Window(10.0, 11.0, 0.0), there) == pytest.approx(
        there.weights.sum()
    )
    assert min(parts) > 0


def test_what_is_forgotten_changes_no_later_window() -> None:
    """Tokens of windows that were split are let go of; their request goes on as it was."""
    alone = structs.replace(MIXED[0], replicas=1)
    weights = {alone.name: step_weights(alone)}
    whole, part = (
        Stay("r", alone.name, 0.0, 500, [(0.5 + 0.1 * k, 1 + k % 2) for k in range(40)])
        for _ in range(2)
    )
    there = residents_of([part], weights)
    part.forget(2.0)
    assert len(part.token_s) < 30
    before, after = residents_of([whole], weights)[0], residents_of([part], weights)[0]
    assert work_in(Window(0.0, 2.0, 0.0), there[0]) == work_in(Window(0.0, 2.0, 0.0), before)
    for begin_s in (2.0, 3.0, 4.0):
        window = Window(begin_s, begin_s + 1.0, 0.0)
        assert work_in(window, after) == pytest.approx(work_in(window, before)) != 0.0


# ------------------------------------------------------------------ against Shapley values


class Recorded(Pace):
    """Keeps who was in each step, with context and prompt tokens, and when it was."""

    def __init__(self, deployment: Deployment) -> None:
        super().__init__(deployment)
        self.steps: list[tuple[float, dict[int, tuple[int, int]]]] = []

    async def _step(self, engine: Any) -> None:
        running = [job for job in self._running if not job.finished]
        held = {id(job): (job.input_tokens + job.made, job.prompt_done) for job in running}
        made = {id(job): job.made for job in running}
        await super()._step(engine)
        step = {}
        for job in self._running:
            context, before = held.get(id(job), (0, 0))
            chunk = job.prompt_done - before
            if chunk or job.made > made.get(id(job), 0):
                step[id(job)] = (0 if chunk else context, chunk)
        self.steps.append((self._due_s, step))


class Game:
    """What members of a step, as (context, prompt tokens), take above the idle power."""

    def __init__(self, deployment: Deployment) -> None:
        assert isinstance(deployment.profile, IterationProfile)
        self.engine = batching(deployment, deployment.profile)
        self.random = np.random.default_rng(0)

    def net_j(self, members: list[tuple[int, int]]) -> float:
        if not members:
            return 0.0
        decoding = sum(not chunk for _, chunk in members)
        context = sum(context for context, _ in members)
        prompt = sum(chunk for _, chunk in members)
        gross_j, seconds = (
            self._cost(model, decoding, context, prompt)
            for model in (self.engine.energy, self.engine.time)
        )
        return gross_j - self.engine.idle_power_w * seconds

    @staticmethod
    def _cost(model: StepModel, decoding: int, context: int, prompt: int) -> float:
        found = float(model.by_batch[decoding]) + model.per_context_token * context
        if prompt and model.prompt is not None:
            found += float(model.prompt.of([prompt])[0])
        return found - (model.saved if prompt and decoding else 0.0)

    def shapley(self, step: dict[int, tuple[int, int]], draws: int) -> dict[int, float]:
        """Mean of what each adds to those before it, in orders drawn at random.

        Those who only decode differ in their context alone, which adds up: theirs is known.
        """
        found, keys = dict.fromkeys(step, 0.0), list(step)
        if not any(chunk for _, chunk in step.values()):
            own = {key: self.net_j([(0, 0)] * len(step)) / len(step) for key in keys}
            context_j = self.net_j([(1, 0)]) - self.net_j([(0, 0)])
            return {key: own[key] + context_j * step[key][0] for key in keys}
        for _ in range(draws):
            before: list[tuple[int, int]] = []
            had = 0.0
            for i in self.random.permutation(len(keys)):
                before.append(step[keys[i]])
                has = self.net_j(before)
                found[keys[i]] += (has - had) / draws
                had = has
        return found


async def watched(
    deployment: Deployment, rate: float, count: int
) -> tuple[Recorded, dict[int, Stay]]:
    """Requests on a simulated engine, as the gateway sees them: by the engine's name of each."""
    requests = draw_requests(read_workload("azure-conv-2023"), count, rate, seed=5)
    pace, loop, stays = Recorded(deployment), asyncio.get_running_loop(), {}
    serving = asyncio.create_task(pace.run())

    async def one(q: int) -> Any:
        await asyncio.sleep(requests.arrival_s[q])
        m, n = int(requests.input_tokens[q]), int(requests.output_tokens[q])
        job = pace.submit(m, n)
        stay = stays[id(job)] = Stay(str(q), deployment.name, loop.time(), m, output_tokens=n)
        for _ in range(n):
            await job.tokens.get()
            stay.token_s.append((loop.time(), 1))
        stay.end_s = loop.time()
        return job  # kept, so that no other gets its id

    await asyncio.gather(*(one(q) for q in range(count)))
    serving.cancel()
    return pace, stays


@pytest.mark.parametrize(
    ("deployment", "rate", "count"),
    [
        (MIXED[0], 2.0, 12),
        (MIXED[1], 0.3, 12),
        (MIXED[1], 2.0, 12),
        pytest.param(MIXED[0], 8.0, 40, marks=pytest.mark.slow),
        pytest.param(MIXED[2], 4.0, 40, marks=pytest.mark.slow),
    ],
    ids=lambda value: getattr(value, "name", value),
)
def test_shares_are_near_shapley_values(
    deployment: Deployment, rate: float, count: int, virtually: Callable[[Any], Any]
) -> None:
    """Each step's energy above idle, shared by what each member adds to it in orders at random."""
    alone = structs.replace(deployment, replicas=1)
    pace, stays = virtually(watched(alone, rate, count))
    game = Game(alone)
    fair = dict.fromkeys(stays, 0.0)
    for _, step in pace.steps:
        for key, value in game.shapley(step, draws=40).items():
            fair[key] += value
    there = residents_of(list(stays.values()), {alone.name: step_weights(alone)})
    used = np.array([(at, game.net_j(list(step.values()))) for at, step in pace.steps])
    got = np.zeros(len(stays))
    for begin_s in np.arange(0.0, used[-1, 0] + 1.0):
        inside = (used[:, 0] > begin_s) & (used[:, 0] <= begin_s + 1.0)
        window = Window(begin_s, begin_s + 1.0, float(used[inside, 1].sum()))
        found = attribute(window, there, {alone.name: 0.0})
        got += [share.joules for share in found.parts]
    expected = np.array(list(fair.values()))
    assert got.sum() == pytest.approx(expected.sum(), rel=0.01)
    assert np.abs(got - expected).sum() <= 0.05 * expected.sum()
    # Where dozens come at once, it is not seen whose prompts shared a step.
    np.testing.assert_allclose(got, expected, rtol=0.05 if count < 40 else 0.25)
