"""Write docs/images/dashboard.png: the dashboard of `wattshed serve --demo` under some load.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and the extra `test`. With
--folder it writes three pictures there instead: light, dark, and as narrow as a telephone.
"""

from __future__ import annotations

import argparse
import random
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

PICTURE = Path(__file__).parent.parent / "docs/images/dashboard.png"
COLOURS = 96
"""Of a picture: enough for its letters, and a third of the size."""
CHAT = "/v1/chat/completions"
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


def ask(http: httpx.Client, url: str, words: int, tokens: int) -> None:
    """One streamed request."""
    body = {
        "model": "auto",
        "stream": True,
        "max_tokens": tokens,
        "ignore_eos": True,
        "messages": [{"role": "user", "content": "flow " * words}],
    }
    with http.stream("POST", url + CHAT, json=body) as answer:
        answer.read()


def load(url: str, seconds: float, rate: float, seed: int) -> None:
    """Requests at random times, most short and some long."""
    drawn = random.Random(seed)  # nosec B311: a picture, no secret
    until_s = time.monotonic() + seconds
    threads = []
    with httpx.Client(timeout=120, limits=httpx.Limits(max_connections=None)) as http:
        while time.monotonic() < until_s:
            words, tokens = (drawn.lognormvariate(mu, 1.0) for mu in (5.5, 4.0))
            sizes = min(8000, int(words) + 1), min(800, int(tokens) + 1)
            threads.append(threading.Thread(target=ask, args=(http, url, *sizes)))
            threads[-1].start()
            time.sleep(drawn.expovariate(rate))
        for thread in threads:
            thread.join()


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
            with Image.open(path) as taken:
                few = taken.convert("RGB").quantize(COLOURS)
            few.save(path, optimize=True)
            print(f"wrote {path} ({path.stat().st_size / 1e3:.0f} kB)")
        finally:
            driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="write three pictures there instead")
    parser.add_argument("--seconds", type=float, default=150, help="of load before the picture")
    parser.add_argument("--rate", type=float, default=8.0, help="requests each second")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    command = [sys.executable, "-m", "wattshed", "serve", "--demo", "--port", "0"]
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)  # nosec B603: ours
        assert server.stdout is not None
        try:
            url = shlex.split(server.stdout.readline())[1].removesuffix(CHAT)
            more_s = 15 if asked.folder is None else 60  # so that it is under load in the pictures
            traffic = threading.Thread(
                target=load, args=(url, asked.seconds + more_s, asked.rate, asked.seed)
            )
            traffic.start()
            time.sleep(asked.seconds)
            if asked.folder is None:
                picture(url, PICTURE, 1280, dark=False)
                traffic.join()
                return
            for name, width, dark in SHAPES:
                picture(url, asked.folder / f"{name}.png", width, dark=dark)
            traffic.join()
        finally:
            server.terminate()
            server.wait(60)


if __name__ == "__main__":
    main()
