"""Write docs/images/dashboard.png: the dashboard of a demo that `wattshed replay` sends queries.

The demo is `wattshed serve --demo --shadow round-robin`, and the workload that of
docs/how-to/compare-live-and-simulated.md. What the picture says was saved is printed, too. Needs
Chromium and its driver (Debian: chromium, chromium-driver) and the extras `serve` and `test`. With
--folder it writes three pictures there instead: light, dark, and as narrow as a telephone.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PICTURE = Path(__file__).parent.parent / "docs/images/dashboard.png"
WIDTH = 1400
"""Of it: so that the search shows how energies are known."""
COLOURS = 96
"""Of a picture: enough for its letters, and a third of the size."""
CHAT = "/v1/chat/completions"
WATTSHED = (sys.executable, "-m", "wattshed")
WORKLOAD = ("--fleet", "demo-70b", "--workload", "azure-conv-2023")
SHORTEN = "for (const r of [...document.querySelectorAll('#rows tbody tr')].slice(4)) r.remove()"
SHAPES = (("light", 1280, False), ("dark", 1280, True), ("narrow", 390, False))
"""Name of the picture, width, and whether it is dark."""
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
)


@contextmanager
def demo(folder: str) -> Iterator[str]:
    """The demo; gives its address."""
    command = [*WATTSHED, "serve", "--demo", "--port", "0", "--shadow", "round-robin"]
    server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)  # nosec B603 # ours
    assert server.stdout is not None
    try:
        yield shlex.split(server.stdout.readline())[1].removesuffix(CHAT)
    finally:
        server.terminate()
        server.wait(60)


@contextmanager
def replay(url: str, workload: Sequence[str], folder: str) -> Iterator[None]:
    """Queries come during the block, and it ends with them."""
    command = [*WATTSHED, "replay", "--url", url, *workload, "-o", folder]
    sender = subprocess.Popen(command)  # nosec B603 # ours
    try:
        yield
        sender.wait(600)
    finally:
        sender.kill()


def wait_for_decisions(url: str, number: int, limit_s: float = 600) -> None:
    """Until so many decisions are in what was saved."""
    until_s = time.monotonic() + limit_s
    while (found := httpx.get(url + "/ui/state").json()["saved"]["requests"]) < number:
        if time.monotonic() > until_s:
            sys.exit(f"after {limit_s:g} s only {found} requests are over: give fewer with --at")
        time.sleep(0.5)


def browser(profile: str, width: int, height: int, dark: bool) -> webdriver.Chrome:
    """A Chromium without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    extra = [f"--user-data-dir={profile}", f"--window-size={width},{height}"]
    for flag in (*FLAGS, *extra, *(["--force-dark-mode"] if dark else [])):
        options.add_argument(flag)
    service = webdriver.ChromeService("/usr/bin/chromedriver")
    return webdriver.Chrome(options=options, service=service)


def picture(url: str, path: Path, width: int, *, dark: bool) -> None:
    """The whole page, once it has shown figures and found some requests."""
    with tempfile.TemporaryDirectory() as profile:
        driver = browser(profile, width, 900, dark)
        try:
            driver.set_window_size(width, 900)
            metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
            if dark:
                feature = {"name": "prefers-color-scheme", "value": "dark"}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
            driver.get(url + "/ui")
            driver.find_element(By.NAME, "endpoint").send_keys("h100-tp4")
            driver.find_element(By.CSS_SELECTOR, "#search button").click()
            wait = WebDriverWait(driver, 20)
            wait.until(lambda d: d.find_elements(By.CSS_SELECTOR, "#rows tbody tr"))
            wait.until(lambda d: d.find_element(By.ID, "watts").text not in ("", "–"))
            driver.execute_script(SHORTEN)
            height = driver.execute_script("return document.documentElement.scrollHeight")
            driver.execute_cdp_cmd(
                "Emulation.setDeviceMetricsOverride", {**metrics, "height": height}
            )
            driver.get_screenshot_as_file(str(path))
            shown = [driver.find_element(By.ID, name).text for name in ("saved", "saved-note")]
        finally:
            driver.quit()
    with Image.open(path) as taken:
        few = taken.convert("RGB").quantize(COLOURS)
    few.save(path, optimize=True)
    print(f"wrote {path} ({path.stat().st_size / 1e3:.0f} kB); saved: {'; '.join(shown)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="write three pictures there instead")
    parser.add_argument("--rate", default="2", help="queries each second")
    parser.add_argument("--requests", default="100")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--at", type=int, default=90, help="take it when so many are over")
    asked = parser.parse_args()
    drawn = ["--rate", asked.rate, "--requests", asked.requests, "--seed", asked.seed]
    shapes = [(PICTURE, WIDTH, False)]
    if asked.folder is not None:
        shapes = [(asked.folder / f"{name}.png", width, dark) for name, width, dark in SHAPES]
    with (
        tempfile.TemporaryDirectory() as folder,
        demo(folder) as url,
        replay(url, [*WORKLOAD, *drawn], f"{folder}/replay"),
    ):
        wait_for_decisions(url, asked.at)
        for path, width, dark in shapes:
            picture(url, path, width, dark=dark)


if __name__ == "__main__":
    main()
