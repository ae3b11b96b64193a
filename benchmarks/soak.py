"""Does the gateway's memory stay flat?

    python benchmarks/soak.py [REQUESTS] [--sizes 100] [--json]

A million requests unless told. A gateway as people run it, ledger on, in front of two engines that
answer at once; 32 clients, each third request a stream, prompts and answers of a hundred sizes.
Resident memory is read 20 times. Printed are the readings, and from 100,000 requests on the growth
per million requests over the second half: a line fitted to it. Predictions are remembered for some
thousand sizes (`wattshed.serve.decide.SIZES`): that fills up to 50 MB, if each request has a size
of its own (`--sizes 100000`).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import psutil  # type: ignore[import-untyped]

CHAT = "/v1/chat/completions"
CLIENTS, READINGS = 32, 20
FEWEST = 100_000
"""Requests below which memory still fills up: per million the slope would say nothing of a leak."""
FLEET = """
[[deployments]]
name = "{name}"
profile = "splitwise/{name}/llama-2-70b"
[deployments.upstream]
urls = ["{url}"]
models = ["llama"]
"""
EVENT = 'data: {"choices":[{"index":0,"delta":{"content":"word "}}]}\n\n'


def answer(body: dict[str, Any]) -> bytes:
    """As an engine would: as many tokens as were asked for."""
    n = body["max_tokens"]
    usage = {"prompt_tokens": len(body["messages"][0]["content"]) // 4, "completion_tokens": n}
    if body.get("stream"):
        last = f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"
        content, kind = (EVENT * n + last).encode(), "text/event-stream"
    else:
        message = {"role": "assistant", "content": "word " * n}
        content = json.dumps({"choices": [{"message": message}], "usage": usage}).encode()
        kind = "application/json"
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n\r\n"
    whole: bytes = head.encode() + content
    return whole


async def engine(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers all requests of a connection."""
    try:
        while head := (await reader.readuntil(b"\r\n\r\n")).lower():
            if not head.startswith(b"post"):
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                continue
            length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
            writer.write(answer(json.loads(await reader.readexactly(length))))
            await writer.drain()
    except (asyncio.IncompleteReadError, asyncio.CancelledError, ConnectionError):
        writer.close()


@contextmanager
def gateway(folder: Path, urls: list[str]) -> Iterator[tuple[psutil.Process, str]]:
    """The installed command; its process, and its address."""
    names = ("a100-80gb-tp8", "h100-80gb-tp4")
    fleet = folder / "fleet.toml"
    fleet.write_text("".join(FLEET.format(name=n, url=u) for n, u in zip(names, urls, strict=True)))
    command = [sys.executable, "-m", "wattshed", "serve", "--fleet", str(fleet), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=folder) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().split()[1].removesuffix(CHAT)
            yield psutil.Process(process.pid), url
        finally:
            process.terminate()


async def ask(session: aiohttp.ClientSession, url: str, rng: random.Random, sizes: int) -> None:
    """One request; its answer must be whole."""
    size = rng.randrange(sizes)
    body = {
        "model": "llama",
        "max_tokens": 1 + 4 * (size % 10),
        "stream": rng.random() < 1 / 3,
        "user": f"{rng.random()}",
        "messages": [{"role": "user", "content": "x" * (40 * (1 + size // 10))}],
    }
    async with session.post(url + CHAT, json=body) as found:
        content = await found.read()
        assert found.status == 200, content
        assert b'"error"' not in content, content


async def soak(total: int, sizes: int, folder: Path) -> list[tuple[int, int]]:
    """Requests that were answered, and bytes of memory after them."""
    servers = [await asyncio.start_server(engine, "127.0.0.1", 0) for _ in range(2)]
    urls = [f"http://127.0.0.1:{s.sockets[0].getsockname()[1]}" for s in servers]
    found: list[tuple[int, int]] = []
    left = total
    connector = aiohttp.TCPConnector(limit=CLIENTS)
    with gateway(folder, urls) as (process, url):
        async with aiohttp.ClientSession(connector=connector) as session:

            async def client(seed: int) -> None:
                nonlocal left
                rng = random.Random(seed)
                while left > 0:
                    left -= 1
                    await ask(session, url, rng, sizes)
                    done = total - left
                    if done * READINGS // total > len(found):
                        found.append((done, process.memory_info().rss))

            await asyncio.gather(*(client(seed) for seed in range(CLIENTS)))
    for server in servers:
        server.close()
    return found


def growth(readings: list[tuple[int, int]]) -> float:
    """Bytes per request, of a line through the second half."""
    done, size = np.array(readings[len(readings) // 2 :], float).T
    return float(np.polyfit(done, size, 1)[0])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("requests", type=int, nargs="?", default=1_000_000)
    parser.add_argument("--sizes", type=int, default=100, help="of prompt and answer together")
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    begun_s = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        readings = asyncio.run(soak(chosen.requests, chosen.sizes, Path(folder)))
    took_s = time.monotonic() - begun_s
    slope = growth(readings)
    if chosen.json:
        print(json.dumps({"readings": readings, "bytes_per_request": slope}))
        return
    for done, size in readings:
        print(f"{done:>9} requests  {size / 2**20:8.1f} MiB")
    enough = chosen.requests >= FEWEST
    grown = f"; {slope:+.2f} MB per million requests" if enough else ", too few for a slope"
    print(f"{chosen.requests / took_s:.0f} requests/s{grown}")


if __name__ == "__main__":
    main()
