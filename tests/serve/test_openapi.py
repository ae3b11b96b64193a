"""The gateway's description of itself, and what is found when requests are made up from it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import wattshed.serve
from wattshed.fleet import load_fleet
from wattshed.serve.app import gateway_app
from wattshed.serve.background import background
from wattshed.serve.intake import CLASS, DEADLINE
from wattshed.serve.openapi import CODES
from wattshed.serve.simulated import simulated_app
from wattshed.serve.wishes import GREENEST, LAMBDA

CHAT = "/v1/chat/completions"


def test_every_path_is_described_and_every_error_has_its_shape(
    live: Callable[..., Any], raw_engine: Callable[..., Any]
) -> None:
    started = live(raw_engine().url)
    with httpx.Client(base_url=started.url) as http:
        document = http.get("/openapi.json").json()
        for path, methods in document["paths"].items():
            (method,) = methods
            wrong = http.request("GET" if method == "post" else "POST", path)
            unknown = http.request(method, path + "/x")
            for found, status in ((wrong, 405), (unknown, 404)):
                assert found.status_code == status
                assert set(found.json()["error"]) == {"message", "type", "param", "code"}
    assert set(document["paths"]) == {route.path for route in gateway_app(started.gateway).routes}
    named = {p["name"].lower() for p in document["paths"][CHAT]["post"]["parameters"]}
    assert named == {CLASS, DEADLINE, LAMBDA, GREENEST}
    usage = document["components"]["schemas"]["Usage"]["properties"]
    assert usage["energy"] == {"$ref": "#/components/schemas/Energy"}


def codes_in(source: str) -> Iterator[tuple[int, str]]:
    """Status and code of each error that a module can answer with, where both stand there."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "RefusedError":
            status, *rest = node.args
            code = rest[1] if len(rest) > 1 else None
            if isinstance(status, ast.Constant) and isinstance(code, ast.Constant):
                yield status.value, code.value


def test_every_code_of_an_error_is_described() -> None:
    folder = Path(wattshed.serve.__path__[0])
    found = {pair for path in folder.glob("*.py") for pair in codes_in(path.read_text())}
    described = {(status, code) for status, codes in CODES.items() for code in codes}
    assert len(found) > 20
    assert found <= described


def with_names(document: dict[str, Any]) -> dict[str, Any]:
    """The same with names that this gateway knows: else nearly all would ask for unknown ones."""
    for methods in document["paths"].values():
        for operation in methods.values():
            if "requestBody" in operation:
                schema = operation["requestBody"]["content"]["application/json"]["schema"]
                schema["properties"]["model"]["enum"] = ["llama", "auto", "none"]
                slo_class, deadline, *_ = operation["parameters"]
                slo_class["schema"]["enum"] = ["quick", "none"]
                deadline["schema"]["minimum"] = 10
    return document


@pytest.mark.slow
def test_made_up_requests_find_no_fault(live: Callable[..., Any], tmp_path: Path) -> None:
    """Schemathesis makes requests up, right ones and wrong ones; no answer may be a 500.

    Nor one that the description does not tell of, in status, type or content.
    """
    deployment = load_fleet("mixed-70b").deployments[0]
    with background(simulated_app(deployment, 1000.0)) as engine:
        started = live(engine)
        path = tmp_path / "openapi.json"
        path.write_text(json.dumps(with_names(httpx.get(started.url + "/openapi.json").json())))
        checks = "not_a_server_error,status_code_conformance,content_type_conformance"
        done = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", path, "--url", started.url),
                *("--checks", f"{checks},response_schema_conformance,unsupported_method"),
                *("--phases", "examples,coverage,fuzzing", "--max-examples", "100"),
                *("--seed", "1", "--no-color", "--continue-on-failure", "--warnings", "off"),
            ],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        rows = started.rows()
    assert sum(row["outcome"] == "served" for row in rows) > 40
    assert {row["status"] for row in rows} <= {200, 400, 404}
