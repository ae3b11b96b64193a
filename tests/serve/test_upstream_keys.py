"""Where the replicas of a deployment answer, as a fleet file says it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from wattshed.cli import main
from wattshed.errors import FleetError
from wattshed.fleet import engine_keys, load_fleet
from wattshed.records import Upstream

CHAT = "/v1/chat/completions"
HEAD = '[[deployments]]\nname = "a"\nprofile = "wilkins-2024/swing-a100/llama-2-7b"\n'


def write(folder: Path, text: str) -> Path:
    path = folder / "fleet.toml"
    path.write_text(HEAD + text)
    return path


def test_addresses_and_names_are_read(tmp_path: Path) -> None:
    text = (
        "replicas = 2\n[deployments.upstream]\n"
        'urls = ["http://[::1]:8000", "https://engine-1.local:8443/base"]\n'
        'models = ["chat", "llama"]\nidle_s = 5\n'
    )
    (deployment,) = load_fleet(write(tmp_path, text)).deployments
    urls = ["http://[::1]:8000", "https://engine-1.local:8443/base"]
    assert deployment.upstream == Upstream(urls, ["chat", "llama"], idle_s=5)


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ('urls = ["http://a:1", "http://b:1"]', "urls", "2 for 1 replicas"),
        ('urls = ["http://me:secret@a:1"]', "urls[0]", "holds a user or a password"),
        ('urls = ["http://a:70000"]', "urls[0]", "70000"),
        ('urls = ["ftp://a:1"]', "urls[0]", "ftp"),
        ('urls = ["http://a:1/v1?key=2"]', "urls[0]", "key=2"),
        ("urls = []", "urls", "length >= 1"),
        ('urls = ["http://a:1"]\nurl = 2', "url", "unknown key"),
        ('urls = ["http://a:1"]\nidle_s = 0', "idle_s", "> 0"),
        ('urls = ["http://a:1"]\nmeters = ["nvml:0", "nvml:1"]', "meters", "2 for 1 replicas"),
    ],
)
def test_wrong_keys_are_refused_with_their_place(
    tmp_path: Path, text: str, where: str, found: str
) -> None:
    path = write(tmp_path, f"[deployments.upstream]\n{text}\n")
    with pytest.raises(FleetError) as refused:
        load_fleet(path)
    assert refused.value.where.endswith(f"deployments[0].upstream.{where}")
    assert found in refused.value.found
    assert "secret" not in str(refused.value)
    if found == "unknown key":
        assert "max_in_flight" in refused.value.cure


@pytest.mark.parametrize(
    ("text", "where", "found"),
    [
        ('metrics = "metrics"', "metrics", "'metrics'"),
        ('metrics = "http://b:2/metrics"', "metrics", "http://b:2"),
        ('metrics = "/metrics?x=1"', "metrics", "x=1"),
        ("metrics_age_s = 0", "metrics_age_s", "> 0"),
        ('key_env = "sk-1234"', "key_env", "is not the name of a variable"),
    ],
)
def test_metrics_are_on_the_same_host_and_keys_are_named(
    tmp_path: Path, text: str, where: str, found: str
) -> None:
    path = write(tmp_path, f'[deployments.upstream]\nurls = ["http://a:1"]\n{text}\n')
    with pytest.raises(FleetError) as refused:
        load_fleet(path)
    assert refused.value.where.endswith(f"deployments[0].upstream.{where}")
    assert found in refused.value.found
    assert "sk-1234" not in str(refused.value)


def keyed(folder: Path, text: str) -> Path:
    return write(folder, f'[deployments.upstream]\nurls = ["http://127.0.0.1:1"]\n{text}\n')


def test_keys_are_read_from_the_environment_and_from_files_beside_the_fleet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENGINE_KEY", "sk-env")
    assert engine_keys(load_fleet(keyed(tmp_path, 'key_env = "ENGINE_KEY"'))) == {"a": "sk-env"}
    (tmp_path / "key").write_text("sk-file\n")
    assert engine_keys(load_fleet(keyed(tmp_path, 'key_file = "key"'))) == {"a": "sk-file"}
    assert engine_keys(load_fleet(keyed(tmp_path, ""))) == {}


@pytest.mark.parametrize(
    ("text", "value", "words"),
    [
        ('key_env = "ENGINE_KEY"', None, "ENGINE_KEY is not set; export ENGINE_KEY before"),
        ('key_env = "ENGINE_KEY"', "", "ENGINE_KEY is empty"),
        ('key_env = "ENGINE_KEY"', "sk-1\r\nx: y", "characters that no key has"),
        ('key_file = "nowhere"', None, "cannot be read: No such file"),
        ('key_file = "\\u0000"', None, "is not text"),
    ],
)
def test_a_missing_key_is_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, value: str | None, words: str
) -> None:
    monkeypatch.delenv("ENGINE_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("ENGINE_KEY", value)
    monkeypatch.chdir(tmp_path)
    path = keyed(tmp_path, text)
    done = CliRunner().invoke(main, ["serve", "--port", "0", "--fleet", str(path)])
    assert done.exit_code == 2
    (line,) = done.stderr.splitlines()
    assert "deployments[0].upstream.key_" in line
    assert words in line
    assert "sk-1" not in line
    assert [each.name for each in tmp_path.iterdir()] == ["fleet.toml"]


def test_the_key_goes_to_the_engine_and_nowhere_else(
    live: Callable[..., Any],
    raw_engine: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Not to the client, the log, the ledger, or the target of a redirection."""
    monkeypatch.setenv("ENGINE_KEY", "sk-engine")
    other = raw_engine(lambda connection: None)
    moved = b"HTTP/1.1 302 Found\r\nlocation: %s\r\ncontent-length: 0\r\n\r\n" % other.url.encode()
    body = b'{"choices":[],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
    good = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)
    first = raw_engine(lambda connection: connection.sendall(moved))
    second = raw_engine(lambda connection: connection.sendall(good))
    started = live(first.url, second.url, key_env="ENGINE_KEY")
    ask = {"model": "llama", "messages": [{"role": "user", "content": "x"}]}
    with caplog.at_level(logging.DEBUG):
        found = httpx.post(started.url + CHAT, json=ask, headers={"authorization": "Bearer client"})
    assert found.status_code == 200
    for engine in (first, second):
        (request,) = engine.requests
        assert b"authorization: bearer sk-engine" in request.lower()
        assert b"Bearer client" not in request
    assert other.requests == []
    said = found.text + str(found.headers) + caplog.text + str(started.rows())
    assert "sk-engine" not in said
