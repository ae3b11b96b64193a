"""Find out whether a gateway is there, before anything is sent to it."""

from __future__ import annotations

import asyncio

import aiohttp
import msgspec

from wattshed.errors import EngineError, ParameterError
from wattshed.measure.drivers.openai_stream import error_message
from wattshed.replay.door import Door, get, reason_of, session_of


def knock(door: Door) -> str:
    """Find out whether a gateway is there and has the model; the policy that decides, if it says.

    Raises
    ------
    EngineError
        If it cannot be reached, or refuses the key.
    ParameterError
        If it has no such model.
    """
    return asyncio.run(_knock(door))


async def _knock(door: Door) -> str:
    async with session_of(door) as session:
        try:
            status, body = await get(session, f"{door.url}/v1/models")
            if status in (401, 403):
                cure = "name the variable that holds the API key with --key-env"
                raise EngineError(door.url, f"answers {status}: {error_message(body)}", cure)
            _check_model(door, status, body)
            _, ready = await get(session, f"{door.url}/ready")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            cure = "start it, or check --url, such as http://127.0.0.1:8080"
            raise EngineError(door.url, reason_of(error, door.timeout_s), cure) from None
    return _policy(ready)


class _Model(msgspec.Struct):
    id: str


class _Models(msgspec.Struct):
    data: list[_Model]


class _Ready(msgspec.Struct):
    policy: str = ""


def _check_model(door: Door, status: int, body: bytes) -> None:
    """A server that lists its models has to list ours; not every server does."""
    if status != 200:
        return
    try:
        names = [model.id for model in msgspec.json.decode(body, type=_Models).data]
    except msgspec.DecodeError:
        cure = "give the address of an OpenAI-compatible server, without /v1"
        raise EngineError(f"{door.url}/v1/models", "answers with no list of models", cure) from None
    if door.model not in names:
        cure = f"use one of {', '.join(sorted(names)[:8]) or 'none, it lists no model'}"
        raise ParameterError("--model", f"{door.url} has no model {door.model!r}", cure)


def _policy(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Ready).policy
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
