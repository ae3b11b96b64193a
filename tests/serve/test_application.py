"""The gateway for those who run it in a server of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import wattshed as ws
from wattshed.errors import FleetError
from wattshed.serve.background import background
from wattshed.serve.rows import read_rows
from wattshed.serve.simulated import simulated_app

CHAT = "/v1/chat/completions"
FLEET = """
[[deployments]]
name = "h100"
profile = "splitwise/h100-80gb-tp8/llama-2-70b"
[deployments.upstream]
urls = ["{url}"]
models = ["llama"]
"""


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    with background(simulated_app(ws.load_fleet("mixed-70b").deployments[0], 500)) as url:
        yield url


def test_a_fleet_becomes_an_application_that_serves(tmp_path: Path, engine: str) -> None:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.format(url=engine))
    ledger = tmp_path / "ledger.sqlite"
    app = ws.gateway(
        path, policy="least-loaded", canary="round-robin", ledger=f"sqlite:///{ledger}"
    )
    with background(app) as url:
        ask = {"model": "llama", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        assert httpx.post(url + CHAT, json=ask).json()["usage"]["energy"]["joules"] > 0
        assert httpx.get(url + "/ready").json() == {"ready": True}
        assert httpx.get(url + "/metrics").status_code == 403
        assert app.state.gateway.decider.canary.share == 0.05
    rows = read_rows(str(ledger))  # all is written when the server has ended
    assert rows["outcome"].to_list() == ["served"]


def test_a_fleet_that_cannot_be_served_is_refused_before_a_ledger_is_opened(
    tmp_path: Path,
) -> None:
    ledger = f"sqlite:///{tmp_path / 'ledger.sqlite'}"
    with pytest.raises(FleetError, match="none has an address"):
        ws.gateway("hybrid-2024", ledger=ledger)
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET.format(url="http://127.0.0.1:1") + 'meters = ["nonsense"]\n')
    with pytest.raises(FleetError, match=r"h100\.upstream\.meters: nonsense"):
        ws.gateway(path, ledger=ledger)
    assert list(tmp_path.iterdir()) == [path]
