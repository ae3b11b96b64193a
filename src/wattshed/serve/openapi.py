"""The gateway's own description, for tools: OpenAPI 3.1.

Requests and answers are the OpenAI API's, whose fields pass through as they are. What is described
is what the gateway reads and adds: the fields that decide, its headers, `usage.energy`, errors.
"""

from __future__ import annotations

from typing import Any

from wattshed import __version__
from wattshed.serve.body import CHAT, COMPLETIONS, EMBEDDINGS, PATHS, RESPONSES, TEXT_OF
from wattshed.serve.refused import KINDS
from wattshed.serve.search import MOST_ROWS, SHOWN
from wattshed.serve.shown import State

Json = dict[str, Any]
SUMMARIES = {
    CHAT: "Answer a conversation.",
    COMPLETIONS: "Go on with a text.",
    EMBEDDINGS: "Embed texts.",
    RESPONSES: "Answer, in the words of the Responses API; all but usage passes through.",
}
ERRORS = {
    400: "The request is wrong, or no endpoint may serve it.",
    401: "No valid key.",
    403: "The key is not for this model, or there is none for this page.",
    404: "No such model, or the engine has no such path.",
    408: "The request did not come in time.",
    413: "The body is too long.",
    422: "The engine refuses the request.",
    429: "A budget is used up, or the queue is full.",
    431: "The headers are too long.",
    500: "The gateway failed.",
    502: "Engines failed.",
    503: "No endpoint is healthy, has room, or the gateway is stopping.",
    504: "Engines did not answer in time, the deadline passed, or a search took too long.",
}
CODES = {
    400: (
        "invalid_http",
        "invalid_json",
        "invalid_value",
        "missing_field",
        "unknown_class",
        "unservable",
    ),
    401: ("invalid_api_key",),
    403: ("key_required", "model_not_allowed", "no_keys"),
    404: ("model_not_found",),
    408: ("request_timeout",),
    413: ("request_too_large",),
    429: ("joules_budget", "queue_full", "requests_budget", "tokens_budget"),
    431: ("headers_too_large",),
    500: ("internal_error", "policy_failed"),
    502: ("upstream_broke", "upstream_failed"),
    503: (
        "ledger_full",
        "ledger_unreadable",
        "no_endpoint",
        "queue_timeout",
        "stopping",
        "upstream_busy",
    ),
    504: ("deadline", "search_too_long", "upstream_failed"),
}
"""``code`` of the gateway's own errors by status; an engine's are passed on as they are."""


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
            _header(
                "X-Wattshed-Lambda",
                "Weight of energy against runtime in the choice of the endpoint.",
                {"type": "number", "minimum": 0, "maximum": 1},
            ),
            _header(
                "X-Wattshed-Greenest",
                "True: where it adds least energy or carbon; not beside X-Wattshed-Lambda.",
                {"type": "boolean"},
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
        **_dashboard(),
    }


def _dashboard() -> Json:
    """The page in a browser, and what it asks."""
    text = {"type": "string"}
    state = {"type": "object", "required": list(State.__struct_fields__)}
    rows = {"type": "array", "items": {"type": "object", "required": list(SHOWN)}}
    found = {"type": "object", "required": ["requests"], "properties": {"requests": rows}}
    asked = [
        _query("id", "First letters of the id.", text),
        _query("tenant", "Only its requests; those of the key, where there is one.", text),
        _query("endpoint", "Only its requests, or those of a deployment.", text),
        _query("limit", "Rows.", {"type": "integer", "minimum": 1, "maximum": MOST_ROWS}),
    ]
    page = {"description": "The page, which holds no data.", "content": {"text/html": {}}}
    return {
        "/ui": {
            "get": {
                "operationId": "ui",
                "summary": "The dashboard.",
                "responses": {"200": page},
            }
        },
        "/ui/state": {"get": _page("ui_state", "Figures of now.", state, 401, 403)},
        "/ui/requests": {
            "get": {
                **_page("ui_requests", "Rows of the ledger.", found, 400, 401, 403, 503, 504),
                "parameters": asked,
            }
        },
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
    found: Json = {str(s): {"description": _told(s), "content": content} for s in statuses}
    for status in {"429", "503"} & set(found):
        later = {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}}
        found[status]["headers"] = {"Retry-After": later}
    return found


def _told(status: int) -> str:
    codes = ", ".join(CODES.get(status, ()))
    return f"{ERRORS[status]} Codes: {codes}." if codes else ERRORS[status]


def _error() -> Json:
    text = {"type": ["string", "null"]}
    fields = {
        "message": {"type": "string"},
        "type": {"type": "string", "examples": sorted(set(KINDS.values()))},
        "param": text,
        "code": {**text, "examples": sorted({code for those in CODES.values() for code in those})},
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


def _query(name: str, text: str, schema: Json) -> Json:
    return {**_header(name, text, schema), "in": "query"}


def _content(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}
