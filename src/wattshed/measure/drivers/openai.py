"""Any OpenAI-compatible server: vLLM, SGLang, llama.cpp, TGI, Ollama and others.

The server is asked for ``/completions``, streamed, greedily, for exactly as many tokens as are
wanted where it knows how. What it accepts is found when it is opened, with a few tiny requests.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx
import msgspec
import numpy as np

from wattshed.errors import EngineError, ParameterError
from wattshed.measure.clock import Clock
from wattshed.measure.drivers.openai_dialect import (
    NAMED_AS,
    Feature,
    IdPrompts,
    Prompt,
    TextPrompts,
    calibrate,
    request_body,
    settle,
)
from wattshed.measure.drivers.openai_http import EXAMPLE, REFUSED, Connection, RefusedError
from wattshed.measure.drivers.openai_stream import (
    Tally,
    check_answered,
    generation_of,
    read_chunk,
)
from wattshed.measure.drivers.settings import Settings, check_query
from wattshed.records import DriverInfo, Generation

SETTINGS = (
    "model",
    "api_key",
    "system",
    "engine",
    "accelerator",
    "n_accelerators",
    "tensor_parallel",
    "timeout_s",
    "prompt",
    "token_ids",
    "seed",
)
PROBE_TOKENS = 8


def open_driver(argument: str, settings: Mapping[str, str], clock: Clock) -> OpenAIDriver:
    """Get to know a server.

    Parameters
    ----------
    argument : str
        Base URL: ``http://HOST:8000/v1``.
    settings : mapping
        ``model`` (the only one that the server lists, unless told), ``api_key`` (shown nowhere),
        ``timeout_s`` (longest silence; 600), ``prompt`` (``auto``, ``ids``, ``text``),
        ``token_ids`` (``LOW-HIGH``, from which prompts are drawn; 1000-30000), ``seed``; and, to be
        written down: ``system``, ``engine``, ``accelerator``, ``n_accelerators``,
        ``tensor_parallel``.
    clock : Clock

    Raises
    ------
    ParameterError
        If the argument or a setting makes no sense.
    EngineError
        If the server cannot be reached, or does not serve completions.
    """
    given = Settings("openai", settings, SETTINGS)
    url = _url(argument)
    connection = Connection(url, _key(given), given.number("timeout_s", 600, above=0), clock)
    try:
        model, owner = _find_model(connection, given.text("model"))
        driver = OpenAIDriver(connection, _info(given, url, model, owner), given)
    except BaseException:
        connection.close()
        raise
    return driver


def _url(argument: str) -> httpx.URL:
    try:
        url = httpx.URL(argument.rstrip("/"))
    except httpx.InvalidURL as error:
        raise ParameterError("openai: URL", f"{argument!r}: {error}", EXAMPLE) from None
    if url.scheme not in ("http", "https") or not url.host:
        raise ParameterError("openai: URL", repr(argument), EXAMPLE)
    return url


def _key(given: Settings) -> str:
    key = given.text("api_key").strip()
    if not (key.isascii() and key.isprintable()):
        raise ParameterError(
            "openai: api_key",
            "has characters that no header may have (it is not shown)",
            "give the key alone",
        )
    return key


def _info(given: Settings, url: httpx.URL, model: str, owner: str) -> DriverInfo:
    parallel = given.whole("tensor_parallel", 1, least=1)
    return DriverInfo(
        system=given.text("system", url.host),
        model=model,
        engine=given.text("engine", owner or "openai-compatible"),
        accelerator=given.text("accelerator"),
        n_accelerators=given.whole("n_accelerators", parallel, least=1),
        tensor_parallel=parallel,
    )


class OpenAIDriver:
    """Queries to one model of a server.

    Parameters
    ----------
    connection : Connection
    info : DriverInfo
    given : Settings
        Read for ``prompt``, ``token_ids`` and ``seed``.
    """

    def __init__(self, connection: Connection, info: DriverInfo, given: Settings) -> None:
        self._connection = connection
        self._info = info
        rng = np.random.default_rng(given.whole("seed", 0))
        self._ids = IdPrompts(*_token_ids(given), rng)
        self._texts: TextPrompts | None = None
        style = given.choice("prompt", ("auto", "ids", "text"), "auto")
        wanted = frozenset(NAMED_AS) - ({"ids"} if style == "text" else frozenset())
        self._features = settle(self._attempt, wanted, connection.where)
        if "ids" not in self._features:
            if style == "ids":
                raise EngineError(
                    connection.where, "refuses token ids as prompt", "give prompt=text"
                )
            self._texts = calibrate(self._count, rng)
        self._info = msgspec.structs.replace(info, note=_note(self._features))

    @property
    def info(self) -> DriverInfo:
        """See `Driver`."""
        return self._info

    @property
    def features(self) -> frozenset[Feature]:
        """What the server accepts of `NAMED_AS`."""
        return self._features

    def close(self) -> None:
        """See `Driver`."""
        self._connection.close()

    def generate(self, input_tokens: int, output_tokens: int, batch_size: int = 1) -> Generation:
        """See `Driver`; a batch is as many requests at once."""
        check_query(input_tokens, output_tokens, batch_size)
        prompts = self._texts or self._ids
        bodies = [
            request_body(
                self._info.model, prompts.prompt(input_tokens), output_tokens, self._features
            )
            for _ in range(batch_size)
        ]
        begun_ns, tallies = self._connection.stream(bodies)
        for tally in tallies:
            check_answered(tally, output_tokens, self._connection.where)
        return generation_of(tallies, begun_ns, input_tokens, output_tokens)

    def _attempt(self, features: frozenset[Feature]) -> str | None:
        """Send a tiny request; what the server says against it."""
        prompt: Prompt = " ".join(["the"] * PROBE_TOKENS)
        if "ids" in features:
            prompt = self._ids.prompt(PROBE_TOKENS)
        body = request_body(self._info.model, prompt, 2, features)
        try:
            _, (tally,) = self._connection.stream([body])
        except RefusedError as refusal:
            if refusal.status not in REFUSED or "vocab" in refusal.message.lower():
                raise
            return refusal.message
        check_answered(tally, 2, self._connection.where)
        if "ids" in features and tally.input_tokens not in (None, PROBE_TOKENS):
            return f"{PROBE_TOKENS} token ids became a prompt of {tally.input_tokens} tokens"
        return None

    def _count(self, text: str) -> int | None:
        """Tokens of a text, as the server counts."""
        body = {"model": self._info.model, "prompt": text, "max_tokens": 1, "temperature": 0}
        tally, where = Tally(), self._connection.where
        tally.add(read_chunk(self._connection.post("completions", body), where), 0)
        return tally.input_tokens


def _note(features: frozenset[Feature]) -> str:
    prompts = "token ids" if "ids" in features else "text"
    lengths = "" if "lengths" in features else "; answers may end early"
    return f"prompts are {prompts}{lengths}"


class _Model(msgspec.Struct):
    id: str
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[_Model]


def _find_model(connection: Connection, wanted: str) -> tuple[str, str]:
    """Name of the model and of its owner, which is the engine's with vLLM, SGLang and llama.cpp."""
    try:
        models = msgspec.json.decode(connection.get("models"), type=_Models).data
    except (EngineError, msgspec.DecodeError) as error:
        if wanted:
            return wanted, ""
        lists_none = not isinstance(error, EngineError) or (
            isinstance(error, RefusedError) and error.status not in (401, 403)
        )
        if not lists_none:
            raise
        raise EngineError(
            f"{connection.where}/models", f"lists no models: {error}", "give model="
        ) from None
    owners = {model.id: model.owned_by or "" for model in models}
    if wanted:
        return wanted, owners.get(wanted, "")
    if len(models) != 1:
        names = ", ".join(list(owners)[:5]) or "none"
        raise EngineError(
            f"{connection.where}/models", f"lists {len(models)} models: {names}", "give model="
        )
    return models[0].id, owners[models[0].id]


def _token_ids(given: Settings) -> tuple[int, int]:
    text = given.text("token_ids", "1000-30000")
    low, _, high = text.partition("-")
    if not (low.isdecimal() and high.isdecimal() and int(low) < int(high) < 2**31):
        raise ParameterError("openai: token_ids", repr(text), "give LOW-HIGH, such as 1000-30000")
    return int(low), int(high)
