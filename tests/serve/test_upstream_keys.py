"""Where the replicas of a deployment answer, as a fleet file says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from wattshed.errors import FleetError
from wattshed.fleet import load_fleet
from wattshed.records import Upstream

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
        ('urls = ["http://me:secret@a:1"]', "urls[0]", "me:secret"),
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
    if found == "unknown key":
        assert "max_in_flight" in refused.value.cure
