"""The dashboard as people see it: in Chromium, on the real command."""

from __future__ import annotations

import hashlib
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from wattshed.serve.ledger import Ledger

pytestmark = pytest.mark.slow
CHAT = "/v1/chat/completions"
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
OWNED = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    """A Chromium without a window, whose console is kept."""
    from selenium import webdriver

    found = shutil.which("chromium"), shutil.which("chromedriver")
    assert all(found), "install Chromium and its driver (Debian: chromium, chromium-driver)"
    options = webdriver.ChromeOptions()
    options.binary_location = found[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(found[1]))
    yield made
    made.quit()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., str]]:
    """Start the demo; gives its address."""
    running: list[subprocess.Popen[str]] = []

    def start(*options: str) -> str:
        command = [sys.executable, "-m", "wattshed", "serve", "--demo", "--port", "0", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path)
        running.append(process)
        assert process.stdout is not None
        return shlex.split(process.stdout.readline())[1].removesuffix(CHAT)

    yield start
    for process in running:
        process.kill()
        process.communicate()


def ask(url: str, words: int, headers: dict[str, str] | None = None) -> str:
    """One streamed request; its id."""
    body = {
        "model": "auto",
        "stream": True,
        "max_tokens": 20,
        "messages": [{"role": "user", "content": "flow " * words}],
    }
    answer = httpx.post(url + CHAT, json=body, headers=headers, timeout=60)
    return str(answer.raise_for_status().headers["x-wattshed-request"])


def ask_all(url: str, number: int) -> list[str]:
    """Many at once, of unlike sizes."""
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda k=k: ids.append(ask(url, 10 * (k + 1))))
        for k in range(number)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == number
    return ids


def text(driver: Any, id_: str) -> str:
    return str(driver.execute_script(f"return document.getElementById('{id_}').textContent"))


def until(driver: Any, condition: Callable[[], Any]) -> Any:
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 30).until(lambda _: condition())


def rows(driver: Any, table: str) -> list[list[str]]:
    script = (
        f"return [...document.querySelectorAll('#{table} tbody tr')]"
        ".map((r) => [...r.cells].map((c) => c.textContent))"
    )
    return [list(map(str, row)) for row in driver.execute_script(script)]


def search(driver: Any, **fields: str) -> list[list[str]]:
    for name in ("id", "tenant", "endpoint"):
        field = driver.find_element("css selector", f"#search input[name={name}]")
        field.clear()
        field.send_keys(fields.get(name, ""))
    driver.execute_script("document.getElementById('found').textContent = ''")
    driver.find_element("css selector", "#search button").click()
    until(driver, lambda: text(driver, "found"))
    return rows(driver, "rows") if text(driver, "found") != "No request fits." else []


def complaints(driver: Any) -> list[str]:
    return [entry["message"] for entry in driver.get_log("browser")]


def test_the_page_shows_what_was_served(
    driver: Any, serve: Callable[..., str], tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'own.sqlite'}"
    ledger = Ledger(database)
    evil = {"id": "evil", "arrived_at": 1e9, "outcome": OWNED, "status": 200, "reason": OWNED}
    columns = {"tenant": OWNED, "model": OWNED, "endpoint": OWNED}
    ledger.append({**evil, **columns})
    assert ledger.close() == 0
    url = serve("--speed", "20", "--ledger", database, "--shadow", "round-robin")
    driver.get(url + "/ui")
    until(driver, lambda: "policy frugal" in text(driver, "status"))
    assert text(driver, "watts") == "–"
    assert "No requests yet" in text(driver, "plane")
    ids = ask_all(url, 70)
    until(driver, lambda: driver.find_elements("css selector", "#plane path.mark:nth-of-type(70)"))
    names = [row[0] for row in rows(driver, "endpoints")]
    assert names == ["a100-tp8/0", "h100-tp4/0"]
    assert sum(int(row[4]) for row in rows(driver, "endpoints")) == 70
    number, unit = text(driver, "watts").replace(",", "").split()
    assert float(number) > 0
    assert unit in ("W", "kW")
    # What is modelled at first is metered once the windows are split.
    until(driver, lambda: "energy metered, boundary" in text(driver, "watts-note"))
    assert {row[8] for row in rows(driver, "endpoints") if row[4] != "0"} == {"metered"}
    assert "simulated" in text(driver, "watts-note")
    assert driver.find_element("id", "simulated").is_displayed()
    assert "the shadow policy" in text(driver, "saved-note")
    assert "95 %" in text(driver, "saved-note")
    assert text(driver, "kept").endswith("%")
    (row,) = search(driver, id=ids[5])
    assert row[1] == ids[5]
    assert row[13] == "attributed"
    assert row[15] == "served"
    hidden = driver.find_elements("css selector", "#rows th.reason, #rows th.arm")
    assert not any(head.is_displayed() for head in hidden)
    assert len(search(driver, endpoint="h100-tp4")) > 0
    assert search(driver, id="nobody") == []
    (row,) = search(driver, id="evil")
    assert row[2] == row[3] == row[5] == row[15] == row[16] == OWNED
    assert [head.is_displayed() for head in hidden] == [True, False]
    assert not driver.find_elements("tag name", "img")
    assert driver.title == "wattshed"
    assert complaints(driver) == []


def test_it_is_whole_on_a_telephone_and_in_both_colours(
    driver: Any, serve: Callable[..., str]
) -> None:
    url = serve("--speed", "20")
    ask_all(url, 5)
    size = {"width": 360, "height": 740, "deviceScaleFactor": 1, "mobile": True}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    backs = set()
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        driver.get(url + "/ui")
        until(driver, lambda: text(driver, "watts") != "–")
        search(driver)
        assert driver.execute_script("return document.documentElement.scrollWidth") <= 360
        backs.add(driver.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(backs) == 2
    unnamed = driver.execute_script(
        "return [...document.querySelectorAll('input, select')].filter((e) => !e.labels.length)"
        ".concat([...document.querySelectorAll('svg[role=img]:not([aria-label])')]).length"
    )
    assert unnamed == 0
    assert complaints(driver) == []


def test_others_are_asked_for_a_key_which_stays_out_of_addresses(
    driver: Any, serve: Callable[..., str], tmp_path: Path
) -> None:
    key = "a-long-and-random-key"
    keys = tmp_path / "keys.toml"
    digest = hashlib.sha256(key.encode()).hexdigest()
    keys.write_text(f'[[keys]]\ntenant = "team-a"\nsha256 = "{digest}"\n')
    url = serve("--speed", "20", "--host", "0.0.0.0", "--keys", str(keys))
    url = url.replace("0.0.0.0", "127.0.0.1")
    ask(url, 10, {"authorization": f"Bearer {key}"})
    driver.get(url + "/ui")
    field = driver.find_element("id", "key")
    until(driver, field.is_displayed)
    assert not driver.find_element("id", "main").is_displayed()
    for typed in ("wrong", key):
        field.send_keys(typed)
        driver.find_element("css selector", "#ask-key button").click()
        until(driver, lambda: not field.get_attribute("value"))
    until(driver, driver.find_element("id", "main").is_displayed)
    until(driver, lambda: text(driver, "watts") != "–")
    (row,) = search(driver)
    assert row[2] == "team-a"
    assert driver.current_url == url + "/ui"
    asked = driver.execute_script(
        "return performance.getEntriesByType('resource').map((e) => e.name)"
    )
    assert asked
    assert not any(key in address for address in asked)
    # Chromium itself reports the two refused tries.
    assert all("401" in line for line in complaints(driver))
