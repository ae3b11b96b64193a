"""Bad input of `wattshed replay`: one line, exit status 2."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from wattshed.serve.background import listening

Run = Callable[..., Result]


def line_of(done: Result) -> str:
    assert done.exit_code == 2, done.output
    assert done.stderr.count("\n") == 1
    assert not done.stdout
    return done.stderr


def test_nobody_there(run: Run) -> None:
    free = listening()
    port = free.getsockname()[1]
    free.close()
    line = line_of(run("--url", f"http://127.0.0.1:{port}"))
    assert f"127.0.0.1:{port}: cannot be reached" in line
    assert "check --url" in line


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://x", "http://", "http://x/?a=b", "http://x:70000"]
)
def test_no_address(run: Run, url: str) -> None:
    assert f"--url: '{url}'" in line_of(run("--url", url))


def test_a_password_in_the_address_is_refused_and_not_repeated(run: Run) -> None:
    line = line_of(run("--url", "http://me:secret@127.0.0.1:8080"))
    assert "--url: holds a user or a password" in line
    assert "--key-env" in line
    assert "secret" not in line


def test_an_unknown_model(run: Run, gateway: Any) -> None:
    line = line_of(run("--url", gateway.url, "--model", "gpt-9"))
    assert "has no model 'gpt-9'; use one of auto, llama-2-70b" in line


def test_a_file_that_is_not_in_order(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "w.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n1,1,1\n0.5,1,1\n")
    assert "w.csv: row 3, column arrival_s" in line_of(run("--workload", path)).replace(",row", "")


def test_a_workload_without_arrivals(run: Run) -> None:
    assert "has no arrivals to replay; give --rate R" in line_of(run("--workload", "alpaca"))


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--key-env", "NO_SUCH_KEY"], "--key-env: NO_SUCH_KEY holds no API key"),
        (["--load", "0.5"], "--load: 0.5 of an unknown fleet; name the fleet with --fleet"),
        (["--engine-speed", "0"], "--engine-speed: '0' is out of range; give a number above 0"),
        (["--max-error", "2"], "--max-error: '2' is out of range; give a number from 0 to 1"),
        (["--target", "0"], "--target: '0' is out of range; give a number above 0, up to 1"),
        (["--timeout", "nan"], "--timeout: 'nan' is not a finite number; give a number above 0"),
        (["--fleet", "nowhere"], "nowhere"),
    ],
)
def test_options_that_make_no_sense(run: Run, options: list[str], found: str) -> None:
    assert found in line_of(run(*options))
