"""The gateway in front of two unlike real engines, as examples/real-engines starts them.

Both serve the same random weights. Clients are OpenAI's own; a wire that remembers each byte lies
between the gateway and each engine.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shlex
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import pytest

pytestmark = pytest.mark.slow

EXAMPLE = Path(__file__).parents[2] / "examples" / "real-engines"
ENERGY = {"joules", "idle_joules", "low", "high", "method", "boundary"}
MESSAGES: Any = [{"role": "user", "content": "How much energy does a query cost?"}]
TOOL: Any = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Bern", "Oslo"]}, "now": {"type": "boolean"}},
        },
    },
}
FORCED: Any = {"type": "function", "function": {"name": "weather"}}
OWN_ENERGY = re.compile(rb',"energy":\{[^{}]*\}')
USAGE_ONLY = re.compile(rb'data: \{[^\n]*"choices":\[\],"usage"[^\n]*\n\n')


def load(path: Path) -> Any:
    """A module beside the tests, or of the example, which are no packages."""
    name = f"real_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


example = load(EXAMPLE / "engines.py")
Wire = load(Path(__file__).with_name("wires.py")).Wire


@dataclass
class Engine:
    """A real engine, and the wire to it."""

    process: subprocess.Popen[bytes]
    url: str
    wire: Any

    def cpu_s(self) -> float:
        """Processor time that it has used."""
        used = psutil.Process(self.process.pid).cpu_times()
        return float(used.user + used.system)


@dataclass
class House:
    """Engines, and the gateway in front of them."""

    url: str
    ledger: Path
    llama: Engine
    transformers: Engine

    def of(self, model: str) -> Engine:
        return self.llama if "llama" in model else self.transformers

    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=self.url + "/v1", api_key="none", max_retries=0)


def started(stack: ExitStack, start: Callable[..., Any], folder: Path) -> Engine:
    port = example.free_port()
    process = start(folder, port)
    stack.callback(process.wait)
    stack.callback(process.kill)
    wire = Wire(port)
    stack.callback(wire.close)
    return Engine(process, f"http://127.0.0.1:{port}", wire)


def opened(stack: ExitStack, folder: Path, llama: Engine, transformers: Engine) -> House:
    """Start the gateway on the fleet of the example, at the addresses of the wires."""
    text = (EXAMPLE / "fleet.toml").read_text()
    text = text.replace("127.0.0.1:9101", f"127.0.0.1:{llama.wire.port}")
    text = text.replace("127.0.0.1:9102", f"127.0.0.1:{transformers.wire.port}")
    fleet = folder / "fleet.toml"
    fleet.write_text(text.replace("profiles.json", str(EXAMPLE / "profiles.json")))
    options = ["--port", "0", "--policy", "round-robin"]
    gateway = subprocess.Popen(
        [sys.executable, "-m", "wattshed", "serve", "--fleet", str(fleet), *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
    )
    stack.callback(gateway.communicate)
    stack.callback(gateway.kill)
    assert gateway.stdout is not None
    command = shlex.split(gateway.stdout.readline())
    url = next(word for word in command if word.startswith("http")).partition("/v1")[0]
    return House(url, folder / "ledger.sqlite", llama, transformers)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert example.installed(), "llama.cpp is not installed: run make acceptance"
    folder = tmp_path_factory.mktemp("model")
    example.make_model(folder)
    return folder


@pytest.fixture(scope="module")
def house(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    with ExitStack() as stack:
        llama = started(stack, example.start_llama_cpp, model)
        transformers = started(stack, example.start_transformers, model)
        for engine in (llama, transformers):
            example.wait_until_healthy(engine.process, engine.url)
        yield opened(stack, tmp_path_factory.mktemp("gateway"), llama, transformers)


def until(what: Callable[[], bool], longest_s: float = 60) -> None:
    """Wait for something that must happen."""
    end_s = time.monotonic() + longest_s
    while not what():
        assert time.monotonic() < end_s, "it did not happen"
        time.sleep(0.02)


def outcomes(ledger: Path) -> dict[str, tuple[str, int]]:
    """Of each request: its outcome, and whether the gateway counted its tokens."""
    query = "select id, outcome, tokens_counted from requests order by arrived_at"
    with closing(sqlite3.connect(ledger)) as connection:
        return {name: (outcome, counted) for name, outcome, counted in connection.execute(query)}


BOTH = pytest.mark.parametrize("name", ["tiny-llama-cpp", "tiny-transformers"])

# ------------------------------------------------------------------ the official client


def test_both_engines_serve_and_say_the_same(house: House) -> None:
    with house.client() as client:
        assert {one.id for one in client.models.list()} > {"auto", "tiny", "tiny-llama-cpp"}
        raw = [
            client.chat.completions.with_raw_response.create(
                model="tiny", messages=MESSAGES, max_tokens=24, temperature=0
            )
            for _ in range(4)
        ]
    ends = {answer.headers["x-wattshed-endpoint"] for answer in raw}
    assert ends == {"llama-cpp/0", "transformers/0"}
    answers = [answer.parse() for answer in raw]
    texts = {answer.choices[0].message.content for answer in answers}
    assert len(texts) == 1  # the same weights, and no chance in it
    for answer in answers:
        assert answer.usage is not None
        assert answer.usage.completion_tokens == 24
        energy = answer.usage.model_extra["energy"]  # type: ignore[index]
        assert set(energy) == ENERGY
        assert energy["joules"] > 0
        assert energy["method"] == "modelled"
    asked = {answer.headers["x-wattshed-request"] for answer in raw}
    until(lambda: asked <= set(outcomes(house.ledger)))
    assert {outcomes(house.ledger)[one] for one in asked} == {("served", 0)}


@pytest.mark.parametrize("name", ["tiny", "tiny-llama-cpp"])
def test_more_asynchronous_clients_than_an_engine_takes_at_once(house: House, name: str) -> None:
    async def ask(client: openai.AsyncOpenAI) -> tuple[str, list[Any]]:
        stream = await client.chat.completions.create(
            model=name,
            messages=MESSAGES,
            max_tokens=12,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
        said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
        return said, [chunk.usage for chunk in chunks if chunk.usage]

    async def ask_nine() -> list[tuple[str, list[Any]]]:
        url = house.url + "/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:
            return await asyncio.gather(*[ask(client) for _ in range(9)])

    answers = asyncio.run(ask_nine())
    assert len({said for said, _ in answers}) == 1
    for _, (usage,) in answers:
        assert usage.completion_tokens == 12
        assert set(usage.model_extra["energy"]) == ENERGY


def test_a_tool_call_reaches_the_client(house: House) -> None:
    ask: Any = {
        "model": "tiny-llama-cpp",
        "messages": MESSAGES,
        "tools": [TOOL],
        "tool_choice": FORCED,
        "temperature": 0,
    }
    with house.client() as client:
        whole = client.chat.completions.create(**ask)
        (call,) = whole.choices[0].message.tool_calls or []
        parts = [
            (c.choices[0].delta.tool_calls or [None])[0]
            for c in client.chat.completions.create(**ask, stream=True)
        ]
    told = [part for part in parts if part is not None]
    assert call.type == "function"
    assert (call.function.name, told[0].function.name) == ("weather", "weather")
    arguments = json.loads(call.function.arguments)
    assert arguments["city"] in {"Bern", "Oslo"}
    assert "".join(part.function.arguments for part in told) == call.function.arguments
    assert len(told) > 3  # in parts, as it was made


def test_tools_that_are_not_called_do_no_harm(house: House) -> None:
    with house.client() as client:
        for name in ("tiny-llama-cpp", "tiny-transformers"):
            answer = client.chat.completions.create(
                model=name, messages=MESSAGES, tools=[TOOL], max_tokens=3
            )
            assert answer.choices[0].message.content
            assert not answer.choices[0].message.tool_calls


def test_log_probabilities_reach_the_client_where_the_engine_has_them(house: House) -> None:
    ask: Any = {"messages": MESSAGES, "max_tokens": 4, "temperature": 0}
    ask |= {"logprobs": True, "top_logprobs": 3}
    with house.client() as client:
        answer = client.chat.completions.create(model="tiny-llama-cpp", **ask)
        assert answer.choices[0].logprobs is not None
        said = answer.choices[0].logprobs.content or []
        assert "".join(one.token for one in said) == answer.choices[0].message.content
        assert all(one.logprob == one.top_logprobs[0].logprob < 0 for one in said)
        assert all(len(one.top_logprobs) == 3 for one in said)
        other = client.chat.completions.create(model="tiny-transformers", **ask)
        assert other.choices[0].logprobs is None  # it ignores the wish
        assert other.choices[0].message.content == answer.choices[0].message.content


@BOTH
def test_plain_completions_work(house: House, name: str) -> None:
    with house.client() as client:
        whole = client.completions.create(
            model=name, prompt="Energy is", max_tokens=5, temperature=0
        )
        parts = client.completions.create(
            model=name, prompt="Energy is", max_tokens=5, temperature=0, stream=True
        )
        text = "".join(part.choices[0].text or "" for part in parts if part.choices)
    assert text == whole.choices[0].text
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 5


def test_what_only_one_engine_has_is_passed_through(house: House) -> None:
    with house.client() as client:
        found = client.embeddings.create(
            model="tiny-llama-cpp", input=["one", "two"], encoding_format="float"
        )
        assert [len(one.embedding) for one in found.data] == [384, 384]
        with pytest.raises(openai.NotFoundError):
            client.embeddings.create(model="tiny-transformers", input="one")
        made = client.responses.create(
            model="tiny-transformers", input="Energy is", max_output_tokens=5, stream=False
        )  # it streams responses unless told otherwise
        assert made.usage is not None
        assert made.usage.output_tokens == 5
        assert set(made.usage.model_extra["energy"]) == ENERGY  # type: ignore[index]
        events = list(
            client.responses.create(
                model="tiny-transformers", input="Energy is", max_output_tokens=5, stream=True
            )
        )
        assert events[0].type == "response.created"
        assert events[-1].type == "response.completed"
        assert events[-1].response.usage is not None
        assert set(events[-1].response.usage.model_extra["energy"]) == ENERGY  # type: ignore[index]
        with pytest.raises(openai.NotFoundError):
            client.responses.create(model="tiny-llama-cpp", input="Energy is")


def test_errors_are_those_of_the_engines_and_of_the_gateway(house: House) -> None:
    ask: Any = {"messages": MESSAGES, "max_tokens": 2}
    with house.client() as client:
        with pytest.raises(openai.NotFoundError, match="use one of auto, tiny"):
            client.chat.completions.create(model="gpt-0", **ask)
        with pytest.raises(openai.BadRequestError, match="this engine cannot") as refused:
            client.chat.completions.create(model="tiny-llama-cpp", stop=["x"], **ask)
        assert refused.value.param == "stop"
        with pytest.raises(openai.UnprocessableEntityError, match="Unexpected fields"):
            client.chat.completions.create(model="tiny-transformers", extra_body={"odd": 1}, **ask)
        kept = client.chat.completions.create(
            model="tiny-transformers", extra_body={"ignore_eos": True}, **ask
        )
        assert kept.choices[0].finish_reason == "length"  # `drops` of the fleet kept it back


# ------------------------------------------------------------------ byte for byte

ASKS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat/completions", {"messages": MESSAGES}),
    "probable": ("chat/completions", {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2}),
    "tools": ("chat/completions", {"messages": MESSAGES, "tools": [TOOL], "tool_choice": FORCED}),
    "completion": ("completions", {"prompt": "Energy is"}),
}


def posted(house: House, name: str, path: str, **fields: Any) -> tuple[bytes, bytes]:
    """What a client got, and what the engine had sent to the gateway."""
    wire = house.of(name).wire
    wire.clear()
    body = {"model": name, "max_tokens": 16, "temperature": 0, "seed": 1, **fields}
    body = {key: value for key, value in body.items() if value is not None}
    got = httpx.post(f"{house.url}/v1/{path}", json=body, timeout=60)
    return got.content, wire.body()


@BOTH
@pytest.mark.parametrize("kind", ASKS)
@pytest.mark.parametrize("stream", [False, True])
def test_only_the_energy_is_added(house: House, name: str, kind: str, stream: bool) -> None:
    path, fields = ASKS[kind]
    options = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    got, sent = posted(house, name, path, **fields, **options)
    without, times = OWN_ENERGY.subn(b"", got)
    assert times == 1
    assert without == sent
    assert (b"data: [DONE]" in sent) == (stream and "llama" in name)


@BOTH
def test_without_a_wish_for_usage_only_its_event_is_kept_back(house: House, name: str) -> None:
    got, sent = posted(house, name, "chat/completions", messages=MESSAGES, stream=True)
    events = USAGE_ONLY.findall(sent)
    assert len(events) == (1 if "llama" in name else 0)  # the other tells it with its last token
    assert OWN_ENERGY.sub(b"", got) == USAGE_ONLY.sub(b"", sent)


def test_a_stream_of_a_response_is_passed_on_as_it_is_but_for_the_energy(house: House) -> None:
    fields = {"max_tokens": None, "max_output_tokens": 8, "input": "Energy is", "stream": True}
    got, sent = posted(house, "tiny-transformers", "responses", **fields)
    assert OWN_ENERGY.sub(b"", got) == sent
    assert b'"type":"response.completed"' in sent


def test_an_error_in_the_words_of_openai_is_passed_on_as_it_is(house: House) -> None:
    got, sent = posted(
        house, "tiny-llama-cpp", "chat/completions", messages=MESSAGES, logit_bias={"1": 1}
    )
    assert got == sent


# ------------------------------------------------------------------ who leaves, who dies


@BOTH
def test_the_engine_stops_when_the_client_leaves(house: House, name: str) -> None:
    engine, ask = house.of(name), {"model": name, "messages": MESSAGES}
    with house.client() as client:
        chat: Any = client.chat.completions
        before_s = engine.cpu_s()
        chat.create(max_tokens=100, **ask)
        token_s = (engine.cpu_s() - before_s) / 100
        cancelled = llama_counts(house)["cancelled"]
        engine.wire.clear()
        before_s = engine.cpu_s()
        stream = chat.create(max_tokens=3000, stream=True, **ask)
        for _ in range(4):
            next(stream)
        stream.close()
        (talk,) = engine.wire.posts
        until(lambda: talk.left)
        chat.create(max_tokens=1, **ask)  # transformers does one after the other
        until(lambda: "llama" not in name or llama_counts(house)["running"] == 0)
        assert engine.cpu_s() - before_s < 0.5 * 3000 * token_s
    assert llama_counts(house)["cancelled"] == cancelled + ("llama" in name)
    assert b'"finish_reason":"length"' not in talk.answered


def llama_counts(house: House) -> dict[str, int]:
    found: dict[str, int] = httpx.get(house.llama.url + "/health").json()
    return found


def test_a_dead_engine_ends_its_stream_with_an_error_and_the_other_takes_over(
    house: House, model: Path, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        doomed = started(stack, example.start_llama_cpp, model)
        example.wait_until_healthy(doomed.process, doomed.url)
        other = opened(stack, tmp_path, doomed, house.transformers)
        client = stack.enter_context(other.client())
        chat: Any = client.chat.completions
        ask: Any = {"messages": MESSAGES, "temperature": 0}
        stream = chat.create(model="tiny-llama-cpp", max_tokens=3000, stream=True, **ask)
        for _ in range(4):
            next(stream)
        doomed.process.kill()
        with pytest.raises(openai.APIError, match="llama-cpp/0 broke off"):
            list(stream)
        raw = [chat.with_raw_response.create(model="tiny", max_tokens=3, **ask) for _ in range(3)]
        assert {one.headers["x-wattshed-endpoint"] for one in raw} == {"transformers/0"}
        with pytest.raises(openai.InternalServerError):
            chat.create(model="tiny-llama-cpp", max_tokens=3, **ask)
        until(lambda: len(outcomes(other.ledger)) == 5)
        ends = [outcome for outcome, _ in outcomes(other.ledger).values()]
    assert ends[:4] == ["broken", "served", "served", "served"]
    assert ends[4] in {"failed", "rejected"}
