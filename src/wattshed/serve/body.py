"""What a request asks for, and what the engine is told.

Fields that the gateway does not know travel on byte for byte: the values of the request are kept as
they were sent. A name that occurs twice is sent once, with its last value, which is also the one
that was read: engine and gateway cannot disagree on it.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

import msgspec

from wattshed.serve.refused import RefusedError

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
EMBEDDINGS, RESPONSES = "/v1/embeddings", "/v1/responses"
PATHS = (CHAT, COMPLETIONS, EMBEDDINGS, RESPONSES)

TEXT_OF = {CHAT: "messages", COMPLETIONS: "prompt", EMBEDDINGS: "input", RESPONSES: "input"}
"""Field that holds the prompt, by path."""
TEXTS = ("choices", "message", "output", "content", "text")
"""Keys under which prompts and answers hold text."""
NOTHING = msgspec.Raw(b"")
MEDIA = re.compile(rb'"(image_url|input_image|input_audio|input_file|file)"')
TOKENS = re.compile(rb"\[[\s\[]*\d")


class Ask(msgspec.Struct, frozen=True):
    """A request as it came.

    Attributes
    ----------
    fields : dict
        All of it, values as they were sent.
    model : str
    stream, wants_usage : bool
        Whether the answer is to come token by token, and its usage with it.
    max_tokens : int or None
        Longest answer.
    text_bytes : int
        Bytes of the prompt, without what is not text.
    prompt_tokens : int or None
        Where the prompt was sent as tokens.
    """

    path: str
    fields: dict[str, msgspec.Raw]
    model: str
    stream: bool
    wants_usage: bool
    max_tokens: int | None
    text_bytes: int
    prompt_tokens: int | None = None


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


Count = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""Of tokens; JSON has longer numbers, which no float holds."""


class _Known(msgspec.Struct):
    model: str
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    max_output_tokens: Count | None = None


_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_KNOWN = msgspec.json.Decoder(_Known)


def read_ask(path: str, body: bytes) -> Ask:
    """Read the body of a request.

    Raises
    ------
    RefusedError
        If it is not a JSON object, or a field that decides where it goes is of the wrong kind.
    """
    try:
        known = _KNOWN.decode(body)
        fields = _FIELDS.decode(body)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        field = where.strip("`").removeprefix("$").removeprefix(".")
        raise RefusedError(
            400, f"{field or 'body'}: {message}", "invalid_value", param=field
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusedError(400, f"the body is not JSON: {error}", "invalid_json") from None
    text = bytes(fields.get(TEXT_OF[path], NOTHING))
    if not text or text == b"null":
        param = TEXT_OF[path]
        raise RefusedError(400, f"{param}: missing; send it", "missing_field", param=param)
    options, most = known.stream_options, None
    for limit in (known.max_completion_tokens, known.max_tokens, known.max_output_tokens):
        if limit is not None and limit > 0:
            most = limit
            break
    return Ask(
        path,
        fields,
        known.model,
        bool(known.stream) and path != EMBEDDINGS,
        bool(options and options.include_usage),
        most,
        _text_bytes(text),
        _tokens(text),
    )


def engine_body(ask: Ask, model: str, drops: list[str]) -> bytes:
    """What an engine is sent: its own name of the model, and usage asked for in any case."""
    fields = {name: value for name, value in ask.fields.items() if name not in drops}
    fields["model"] = msgspec.Raw(msgspec.json.encode(model))
    if ask.stream and ask.path in (CHAT, COMPLETIONS) and "stream_options" not in drops:
        options: dict[str, Any] = {}
        if "stream_options" in fields:
            options = msgspec.json.decode(fields["stream_options"]) or {}
        options["include_usage"] = True
        fields["stream_options"] = msgspec.Raw(msgspec.json.encode(options))
    return msgspec.json.encode(fields)


def _tokens(text: bytes) -> int | None:
    """Tokens of a prompt that was sent as numbers, of one list or several."""
    if not TOKENS.match(text):
        return None
    try:
        lists = msgspec.json.decode(text, type=list[int | list[int]])
    except (msgspec.DecodeError, RecursionError):
        return None
    return sum(len(part) if isinstance(part, list) else 1 for part in lists)


def _text_bytes(text: bytes) -> int:
    """Bytes of a prompt; of one with pictures or sound only its text."""
    if not MEDIA.search(text):
        return len(text)
    return text_bytes_inside(text)


def text_bytes_inside(document: bytes) -> int:
    """Bytes of the text in prompts and answers."""
    return _text_inside(msgspec.json.decode(document))


def _text_inside(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_text_inside, value))
    if isinstance(value, dict):
        return sum(_text_inside(value[key]) for key in TEXTS if key in value)
    return len(value.encode()) if isinstance(value, str) else 0
