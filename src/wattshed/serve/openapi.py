"""The gateway's own description, for tools: OpenAPI 3.1.

Requests and answers are the OpenAI API's, whose fields pass through as they are. What is described
is what the gateway reads and adds: the fields that decide, its headers, `usage.energy`, errors.
"""

from __future__ import annotations

from typing import Any

from wattshed import __version__
from wattshed.serve.body import CHAT, COMPLETIONS, EMBEDDINGS, PATHS, RESPONSES, TEXT_OF
from wattshed.serve.refused import KINDS

Json = dict[str, Any]
SUMMARIES = {
    CHAT: "Answer a conversation.",
    COMPLETIONS: "Go on with a text.",
    EMBEDDINGS: "Embed texts.",
    RESPONSES: "Answer, in the words of the Responses API; passed through.",
}
ERRORS = {
    400: "The request is wrong, or no endpoint may serve it.",
    401: "No valid key.",
    403: "The key is not for this model.",
    404: "No such model, or the engine has no such path.",
    408: "The body did not come.",
    413: "The body is too long.",
    422: "The engine refuses the request.",
    429: "A budget is used up, or the queue is full.",
    500: "The gateway failed.",
    502: "Engines failed.",
    503: "No endpoint is healthy, has room, or the gateway is stopping.",
    504: "Engines did not answer in time, or the deadline passed.",
}


def openapi() -> Json:
    """The document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "wattshed",
            "version": __version__,
            "description": "Sends each request where it costs least energy, with a receipt.",
        },
        "security": [{}, {"key": []}],
        "paths": {**{path: {"post": _ask(path)} for path in PATHS}, **_pages()},
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _error(), "Energy": _energy(), "Usage": _usage()},
        },
    }


def _ask(path: str) -> Json:
    return {
        "operationId": path.removeprefix("/v1/").replace("/", "_"),
        "summary": SUMMARIES[path],
        "parameters": [
            _header("X-Wattshed-Class", "SLO class of the fleet.", {"type": "string"}),
            _header(
                "X-Wattshed-Deadline",
                "Seconds until the last token.",
                {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e9},
            ),
        ],
        "requestBody": {"required": True, "content": _content(_request(path))},
        "responses": {"200": _answer(path), **_refusals(*ERRORS)},
    }


def _request(path: str) -> Json:
    """What the gateway reads; further fields go on to the engine as they are."""
    count = {"type": ["integer", "null"], "minimum": -(2**63), "maximum": 2**63 - 1}
    known: Json = {
        "model": {"type": "string", "description": "A name of /v1/models, or auto."},
        "stream": {"type": ["boolean", "null"]},
        "stream_options": {
            "type": ["object", "null"],
            "properties": {"include_usage": {"type": ["boolean", "null"]}},
        },
        "max_tokens": count,
        "max_completion_tokens": count,
        "max_output_tokens": count,
        TEXT_OF[path]: {"type": ["string", "array", "object"]},
    }
    return {"type": "object", "required": ["model", TEXT_OF[path]], "properties": known}


def _answer(path: str) -> Json:
    whole = {"type": "object", "properties": {"usage": {"$ref": "#/components/schemas/Usage"}}}
    content = _content({"type": "object"} if path == RESPONSES else whole)
    if path != EMBEDDINGS:
        told = "Server-sent events, where the request says stream; usage is in one of the last."
        content["text/event-stream"] = {"schema": {"description": told}}
    text = {"schema": {"type": "string"}}
    return {
        "description": "The engine's answer, with its energy.",
        "headers": {
            "X-Wattshed-Request": {"description": "Its row in the ledger.", **text},
            "X-Wattshed-Endpoint": {"description": "Who answered.", **text},
            "X-Energy-Joules": {
                "description": "As usage.energy.joules; not of streams.",
                "schema": {"type": "number"},
            },
            "X-Energy-Method": {"description": "As usage.energy.method.", **text},
        },
        "content": content,
    }


def _pages() -> Json:
    state = {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}}
    models = {"type": "object", "required": ["object", "data"]}
    return {
        "/v1/models": {"get": _page("models", "Models to ask for.", models, 401)},
        "/health": {"get": _page("health", "The process lives.", {"type": "object"})},
        "/ready": {
            "get": {
                **_page("ready", "Whether it can serve.", state),
                "responses": {
                    "200": {"description": "It can.", "content": _content(state)},
                    "503": {"description": "It cannot.", "content": _content(state)},
                },
            }
        },
        "/metrics": {
            "get": {
                **_page("metrics", "For Prometheus.", {}),
                "responses": {
                    "200": {
                        "description": "Its text format.",
                        "content": {"text/plain": {"schema": {"type": "string"}}},
                    },
                    **_refusals(403),
                },
            }
        },
        "/openapi.json": {"get": _page("openapi", "This document.", {"type": "object"})},
    }


def _page(name: str, summary: str, schema: Json, *errors: int) -> Json:
    found = {"description": summary, "content": _content(schema)}
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": found, **_refusals(*errors)},
    }


def _refusals(*statuses: int) -> Json:
    """Answers that are errors, and when to come again."""
    content = _content({"$ref": "#/components/schemas/Error"})
    found: Json = {str(s): {"description": ERRORS[s], "content": content} for s in statuses}
    for status in {"429", "503"} & set(found):
        later = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        found[status]["headers"] = {"Retry-After": later}
    return found


def _error() -> Json:
    text = {"type": ["string", "null"]}
    fields = {
        "message": {"type": "string"},
        "type": {"type": "string", "examples": sorted(set(KINDS.values()))},
        "param": text,
        "code": text,
    }
    error = {"type": "object", "required": list(fields), "properties": fields}
    return {"type": "object", "required": ["error"], "properties": {"error": error}}


def _energy() -> Json:
    joules, known = {"type": "number"}, {"type": ["number", "null"]}
    fields = {
        "joules": {**joules, "description": "What the request added, net of the idle power."},
        "idle_joules": {**known, "description": "Its part of the idle power of the replica."},
        "low": {**known, "description": "95 % of the bootstrap draws of the profile."},
        "high": {**known, "description": "The same, at the other end."},
        "method": {"type": "string", "description": "How it is known."},
        "boundary": {"type": "string", "description": "What it covers."},
    }
    return {"type": "object", "required": list(fields), "properties": fields}


def _usage() -> Json:
    count = {"type": "integer", "minimum": 0}
    fields = {
        "prompt_tokens": count,
        "completion_tokens": count,
        "estimated": {"type": "boolean", "description": "Counted by the gateway."},
        "energy": {"$ref": "#/components/schemas/Energy"},
    }
    return {"type": "object", "properties": fields}


def _header(name: str, text: str, schema: Json) -> Json:
    return {"name": name, "in": "header", "description": text, "schema": schema}


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
