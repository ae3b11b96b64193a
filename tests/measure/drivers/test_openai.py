"""The driver of OpenAI-compatible servers, against servers on loopback in their dialects."""

from __future__ import annotations

import itertools
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wattshed.errors import EngineError, ParameterError
from wattshed.measure.clock import SYSTEM_CLOCK
from wattshed.measure.driver import open_driver
from wattshed.measure.drivers.openai import OpenAIDriver
from wattshed.measure.drivers.openai_dialect import NAMED_AS, WORDS, calibrate, settle
from wattshed.measure.drivers.openai_stream import Tally, error_message

VOCABULARY = 1024
IDS = {"token_ids": f"3-{VOCABULARY - 1}"}
Engine = Callable[[list[int], int], Iterator[int]]


Serve = Callable[..., tuple[Any, str]]


@pytest.fixture
def connect() -> Iterator[Callable[..., OpenAIDriver]]:
    """Open drivers, and close them in the end."""
    opened: list[OpenAIDriver] = []

    def start(address: str, **settings: str) -> OpenAIDriver:
        driver = open_driver(address, IDS | settings)
        assert isinstance(driver, OpenAIDriver)
        opened.append(driver)
        return driver

    yield start
    for driver in opened:
        driver.close()


Connect = Callable[..., OpenAIDriver]


@pytest.mark.parametrize("done", [True, False])
@pytest.mark.parametrize("usage", ["last", "finish", "each", "groq", "timings", "never"])
def test_counts_are_the_servers_wherever_it_puts_them(
    serve: Serve, connect: Connect, usage: str, done: bool
) -> None:
    told, address = serve(usage=usage, done=done)
    before = SYSTEM_CLOCK.mono_ns()
    found = connect(address).generate(40, 7)
    after = SYSTEM_CLOCK.mono_ns()
    assert (found.input_tokens, found.output_tokens, found.batch_size) == (40, 7, 1)
    assert found.flags == (("counted_here",) if usage == "never" else ())
    times = [before, found.begun_ns, found.first_token_ns, *found.token_ns, after]
    assert times == sorted(times)
    assert len(found.token_ns) == 6
    assert found.token_ns[-1] == found.ended_ns
    asked = told.asked[-1]
    assert len(asked["prompt"]) == 40
    assert all(3 <= token < VOCABULARY for token in asked["prompt"])
    assert asked["max_tokens"] == asked["min_tokens"] == 7
    assert asked["ignore_eos"] is True
    assert asked["temperature"] == 0


def test_the_model_and_the_engine_are_what_the_server_lists(serve: Serve, connect: Connect) -> None:
    _, address = serve()
    info = connect(
        address, tensor_parallel="2", accelerator="h200", system="rack", api_key="s"
    ).info
    assert (info.model, info.engine, info.system) == ("tiny", "testing", "rack")
    assert (info.accelerator, info.tensor_parallel, info.n_accelerators) == ("h200", 2, 2)
    assert info.note == "prompts are token ids"
    _, other = serve(text_only=True, refuses=("min_tokens",))
    assert connect(other).info.note == "prompts are text; answers may end early"


def test_prompts_differ_and_repeat_with_the_seed(serve: Serve, connect: Connect) -> None:
    told, address = serve()
    for seed in ("1", "1", "2"):
        driver = connect(address, seed=seed)
        driver.generate(20, 1)
        driver.generate(20, 1)
    prompts = [tuple(body["prompt"]) for body in told.asked if len(body["prompt"]) == 20]
    assert prompts[:2] == prompts[2:4]
    assert len(set(prompts)) == 4


@pytest.mark.parametrize("names_it", [True, False])
@pytest.mark.parametrize(
    "refuses",
    [
        ("ignore_eos", "min_tokens"),
        ("stream_options",),
        ("continuous_usage_stats",),
        ("min_tokens", "ignore_eos", "stream_options"),
    ],
)
def test_what_a_server_refuses_is_left_out_from_then_on(
    serve: Serve, connect: Connect, refuses: tuple[str, ...], names_it: bool
) -> None:
    told, address = serve(refuses=refuses, names_it=names_it)
    driver = connect(address)
    probes = len(told.asked)
    assert driver.generate(12, 5).output_tokens == 5
    assert driver.generate(12, 5).output_tokens == 5
    assert len(told.asked) == probes + 2
    sent = told.asked[-1] | (told.asked[-1].get("stream_options") or {})
    optional = {"ignore_eos", "min_tokens", "stream_options", "continuous_usage_stats"}
    kept = optional - set(refuses)
    if "stream_options" in refuses:
        kept -= {"continuous_usage_stats"}
    if "min_tokens" in refuses:
        kept -= {"ignore_eos"}
    assert optional & set(sent) == kept
    assert isinstance(sent["prompt"], list)


@pytest.mark.parametrize("bos", [0, 1, 3])
def test_text_prompts_have_exactly_as_many_tokens(serve: Serve, connect: Connect, bos: int) -> None:
    told, address = serve(text_only=True, bos=bos)
    driver = connect(address)
    calibrated = len(told.asked)
    for tokens in (bos + 2, 17, 300):
        found = driver.generate(tokens, 3)
        assert (found.input_tokens, found.flags) == (tokens, ())
        assert isinstance(told.asked[-1]["prompt"], str)
    assert len(told.asked) == calibrated + 3
    with pytest.raises(EngineError, match="ask for more than"):
        driver.generate(1, 3)


def test_without_any_count_words_are_taken_for_tokens(serve: Serve, connect: Connect) -> None:
    told, address = serve(text_only=True, usage="never")
    found = connect(address).generate(17, 3)
    assert (found.input_tokens, found.output_tokens) == (17, 3)
    assert found.flags == ("counted_here",)
    assert len(told.asked[-1]["prompt"].split()) == 17


def test_fewer_tokens_than_asked_for_are_told(serve: Serve, connect: Connect) -> None:
    _, address = serve(stop_after=4)
    found = connect(address).generate(12, 9)
    assert (found.output_tokens, found.flags) == (4, ("fewer_tokens",))


def test_a_prefix_from_the_cache_is_told(serve: Serve, connect: Connect) -> None:
    for usage in ("last", "timings"):
        _, address = serve(usage=usage, cached=2)
        found = connect(address).generate(12, 3)
        assert (found.input_tokens, found.flags) == (12, ("cached_prefix",))


def test_several_tokens_in_a_chunk_are_told_apart_only_where_each_is_counted(
    serve: Serve, connect: Connect
) -> None:
    _, counted = serve(usage="each", per_chunk=3)
    found = connect(counted).generate(12, 8)
    assert (found.output_tokens, len(found.token_ns), found.flags) == (8, 7, ())
    assert found.first_token_ns == found.token_ns[0] == found.token_ns[1]
    _, uncounted = serve(usage="last", per_chunk=3)
    found = connect(uncounted).generate(12, 8)
    assert (found.output_tokens, found.token_ns) == (8, ())
    assert found.flags == ("chunks_not_tokens",)


def test_an_answer_that_is_no_stream_has_no_first_token(serve: Serve, connect: Connect) -> None:
    _, address = serve(as_json=True)
    found = connect(address).generate(12, 6)
    assert (found.output_tokens, found.first_token_ns, found.token_ns) == (6, None, ())
    assert found.runtime_s > 0


def test_a_batch_is_sent_at_once(serve: Serve, connect: Connect) -> None:
    together = threading.Barrier(8, timeout=5)

    def engine(prompt: list[int], n: int) -> Iterator[int]:
        if len(prompt) == 30:
            together.wait()  # breaks, unless all eight are there
        return itertools.islice(itertools.count(prompt[-1] + 1), n)

    told, address = serve(engine=engine)
    found = connect(address).generate(30, 4, 8)
    assert (found.input_tokens, found.output_tokens, found.batch_size) == (30, 4, 8)
    assert found.flags == ()
    prompts = {tuple(body["prompt"]) for body in told.asked if len(body["prompt"]) == 30}
    assert len(prompts) == 8


ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "empty": ({"silent": True}, "answered 200 with no token"),
    "cut": ({"cut_after": 1}, "broke off"),
    "no reason": ({"stop_after": 1, "reasons": False, "done": False}, "broke off after 1 of 2"),
    "in stream": ({"in_stream": "out of blocks"}, "failed while it answered: out of blocks"),
    "key": ({"key": "secret"}, "/v1: answers 401: .*; give api_key="),
    "forbidden": ({"status": 403}, "answers 403: no; give api_key="),
    "busy": ({"status": 429}, "answers 429: no; let it finish"),
    "starting": ({"status": 503}, "answers 503: no; wait"),
    "redirected": ({"status": 307}, "answers 307"),
    "broken": ({"status": 500, "message": "cuda\nerror"}, "/v1: refuses any request: cuda error"),
    "vocabulary": (
        {"status": 400, "message": "Token id 999 is out of vocabulary"},
        "give token_ids=",
    ),
    "vocabulary, in stream": ({"in_stream": "Token id 9 is out of vocabulary"}, "give token_ids="),
    "models": ({"models": ("a", "b")}, "lists 2 models: a, b; give model="),
    "not unpacked": ({"encoding": "gzip"}, "sent what is no answer: .*; give a base URL"),
    "no models": ({"models": ()}, "lists 0 models: none; give model="),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_goes_wrong_is_one_clear_line(serve: Serve, case: str) -> None:
    behaviour, says = ERRORS[case]
    _, address = serve(**behaviour)
    with pytest.raises(EngineError, match=says) as caught:
        open_driver(address, IDS | {"api_key": "sk-wrong"})
    assert "\n" not in str(caught.value)
    assert "sk-wrong" not in str(caught.value)


def test_trouble_after_opening_is_told_too(serve: Serve, connect: Connect) -> None:
    told, address = serve()
    driver = connect(address)
    told.status, told.message = 400, "maximum context length is 128 tokens"
    with pytest.raises(EngineError, match=r"answers 400: .* 128 tokens; ask for fewer tokens"):
        driver.generate(200, 3)
    told.message = "min_tokens must be less than or equal to max_tokens=24, got 100."
    with pytest.raises(EngineError, match="ask for fewer tokens"):
        driver.generate(200, 100)
    told.status, told.cut_after = 200, 2
    with pytest.raises(EngineError, match="broke off"):
        driver.generate(20, 5, 3)
    told.cut_after = None
    assert driver.generate(20, 5, 3).output_tokens == 5


def test_a_model_that_is_not_there(serve: Serve) -> None:
    _, address = serve()
    with pytest.raises(EngineError, match="answers 404: Not Found; give a base URL"):
        open_driver(address, {"model": "huge"})


def test_nobody_there_and_nobody_answering(serve: Serve) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    with pytest.raises(EngineError, match=r"cannot be reached: .*; start the engine"):
        open_driver(f"openai:http://127.0.0.1:{port}/v1")
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        with pytest.raises(EngineError, match=r"cannot be reached: it does not .*; start the"):
            open_driver(f"openai:http://127.0.0.1:{port}/v1", {"timeout_s": "0.2"})
        for each in waiting:
            each.close()
    stuck = threading.Event()
    _, address = serve(stuck=stuck)
    with pytest.raises(EngineError, match=r"said nothing for 0\.2 s; raise timeout_s"):
        open_driver(address, {"timeout_s": "0.2"})
    stuck.set()


@pytest.mark.parametrize(
    ("address", "settings", "says"),
    [
        ("openai:", {}, "openai: URL: ''; give a base URL"),
        ("openai:localhost:8000", {}, "give a base URL"),
        ("openai:http://h/v1", {"modle": "x"}, "no such setting; did you mean model"),
        ("openai:http://h/v1", {"timeout_s": "0"}, "timeout_s: '0'; give a number above 0"),
        ("openai:http://h/v1", {"timeout_s": "soon"}, "timeout_s: 'soon'"),
    ],
)
def test_settings_that_make_no_sense(address: str, settings: dict[str, str], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        open_driver(address, settings)


@pytest.mark.parametrize("ids", ["9-3", "3", "3-x", "3-99999999999999999999"])
def test_token_ids_that_are_none_are_refused(serve: Serve, ids: str) -> None:
    _, address = serve()
    with pytest.raises(ParameterError, match=f"token_ids: '{ids}'; give LOW-HIGH"):
        open_driver(address, {"token_ids": ids})


def test_queries_of_no_size_are_refused(serve: Serve, connect: Connect) -> None:
    _, address = serve()
    driver = connect(address)
    for sizes in ((0, 1, 1), (1, 0, 1), (1, 1, 0)):
        with pytest.raises(ParameterError, match="give 1 or more"):
            driver.generate(*sizes)


def test_a_key_is_sent_and_never_shown(serve: Serve, connect: Connect) -> None:
    _, address = serve(key="sk-true")
    assert connect(address, api_key="sk-true\n").generate(12, 3).output_tokens == 3
    with pytest.raises(ParameterError, match="api_key") as caught:
        open_driver(address, {"api_key": "sk-\nother"})
    assert "other" not in str(caught.value)
    with pytest.raises(EngineError, match=r"answers 401: bad key Bearer \*\*\*;"):
        open_driver(address, {"api_key": "sk-other"})


def test_chunks_without_text_are_tokens_only_between_others() -> None:
    tally = Tally()
    for t_ns, text in enumerate(("", "a", "", "b")):
        tally.add_line(f"data: {json.dumps({'choices': [{'text': text}]})}", t_ns, "here")
    tally.add_line('data: {"choices": [{"text": "", "finish_reason": "length"}]}', 9, "here")
    assert tally.token_ns() == (1, 2, 3)
    assert (tally.counted, tally.ended_ns, tally.finished) == (3, 3, True)


@pytest.mark.parametrize("each", [True, False])
def test_a_last_token_of_half_a_character_counts_where_each_is_counted(each: bool) -> None:
    tally = Tally()
    for t_ns, (text, made) in enumerate((("a", 1), ("b", 2), ("", 3))):
        event: dict[str, Any] = {"choices": [{"text": text}]}
        if each or made == 3:
            event["usage"] = {"completion_tokens": 3 if not each else made}
        if made == 3:
            event["choices"][0]["finish_reason"] = "length"
        tally.add_line(f"data: {json.dumps(event)}", t_ns, "here")
    assert tally.counted == 3
    assert tally.token_ns() == ((0, 1, 2) if each else ())


FEATURES = st.sets(st.sampled_from(sorted(NAMED_AS))).map(frozenset)


@given(accepted=FEATURES, wanted=FEATURES, named=st.booleans())
def test_exactly_what_a_server_accepts_is_kept(
    accepted: frozenset[str], wanted: frozenset[str], named: bool
) -> None:
    def attempt(features: frozenset[str]) -> str | None:
        wrong = sorted(features - accepted)
        if not wrong:
            return None
        return f"what is {NAMED_AS[wrong[0]][0]}?" if named else "no"

    assert settle(attempt, wanted, "here") == accepted & wanted


@given(
    known=st.sets(st.sampled_from(WORDS), min_size=8),
    extra=st.integers(0, 4),
    tokens=st.integers(6, 200),
    seed=st.integers(0, 99),
)
def test_texts_are_calibrated_to_any_tokenizer_with_a_few_common_words(
    known: set[str], extra: int, tokens: int, seed: int
) -> None:
    def count(text: str) -> int:
        return extra + sum(1 if word in known else len(word) + 1 for word in text.split())

    first = count(WORDS[0])
    prompts = calibrate(count, np.random.default_rng(seed))
    assert set(prompts.words) <= known
    if tokens > first:
        assert count(prompts.prompt(tokens)) == tokens


def test_a_tokenizer_of_letters_is_refused() -> None:
    with pytest.raises(EngineError, match="only 0 of"):
        calibrate(len, np.random.default_rng(0))


@given(st.lists(st.integers(1, 5), min_size=1, max_size=30))
def test_each_token_has_a_time_where_usage_comes_with_each_chunk(pieces: list[int]) -> None:
    tally = Tally()
    total = 0
    for t_ns, tokens in enumerate(pieces):
        total += tokens
        usage = {"prompt_tokens": 3, "completion_tokens": total}
        event = json.dumps({"choices": [{"text": "x" * tokens}], "usage": usage})
        tally.add_line(f"data: {event}", t_ns, "here")
    assert tally.counted == total == len(tally.token_ns())
    assert list(tally.token_ns()) == [t for t, tokens in enumerate(pieces) for _ in range(tokens)]


@pytest.mark.parametrize(
    "body",
    [
        '{"error": {"message": "too\\n long"}}',
        '{"error": "too long"}',
        '{"object": "error", "message": "too long"}',
        '{"detail": "too long"}',
        b"too  long\n",
    ],
)
def test_messages_are_found_in_all_shapes_of_errors(body: str | bytes) -> None:
    assert error_message(body) == "too long"


@pytest.mark.slow
def test_a_real_model_behind_a_real_server(
    serve: Serve, connect: Connect, real_engine: Engine
) -> None:
    for behaviour in ({"usage": "each"}, {"usage": "never", "done": False}, {"text_only": True}):
        _, address = serve(engine=real_engine, **behaviour)
        driver = connect(address)
        for batch_size in (1, 3):
            found = driver.generate(25, 12, batch_size)
            assert (found.input_tokens, found.output_tokens) == (25, 12)
            assert found.batch_size == batch_size
            assert len(found.token_ns) == 11
            assert found.begun_ns < (found.first_token_ns or 0) < found.ended_ns
