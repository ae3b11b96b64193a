"""Time the gateway beside nginx and LiteLLM: answers a second, added latency, open streams, memory.

    python benchmarks/serve.py [--seconds 5] [--rounds 3] [--litellm PATH] [--requests 0] [--json]

One process each, in front of the same engine, which is nginx with a fixed answer (of streams: a
server of events at 50 a second). Peers are asked in turns, round after round, so that what the
machine does besides hits all of them; ratios are medians over rounds. The gateway decides with
the policy `frugal` and writes its ledger. It needs nginx and wrk (of Debian: `apt-get install
nginx-light wrk`); LiteLLM is left out unless its command is given, of an environment of its own:
`python -m venv peers && peers/bin/pip install 'litellm[proxy]'`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

ANSWER = {
    "id": "x",
    "object": "chat.completion",
    "created": 0,
    "model": "llama",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "To the sea."},
            "finish_reason": "stop",
        }
    ],
    "usage": {"prompt_tokens": 13, "completion_tokens": 16, "total_tokens": 29},
}
ASKED = {
    "model": "llama",
    "messages": [{"role": "user", "content": "Where does water flow?"}],
    "max_tokens": 16,
}
PATH = "/v1/chat/completions"
STREAMS, TOKENS, GAP_S = 64, 400, 0.02
TARGETS = {
    "json_of_nginx": ("at least", 0.15),
    "json_of_litellm": ("at least", 30.0),
    "added_p50_ms": ("at most", 0.4),
    "streams_of_direct": ("at least", 0.97),
}

NGINX_ENGINE = """
daemon off; master_process off; worker_processes 1; pid {folder}/engine.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b;
 proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
 scgi_temp_path {folder}/s;
 server {{ listen 127.0.0.1:{port} backlog=4096;
  location / {{ default_type application/json; return 200 '{answer}'; }} }} }}
"""
NGINX_PROXY = """
daemon off; master_process off; worker_processes 1; pid {folder}/proxy.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 100000000; client_body_temp_path {folder}/b;
 proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u;
 scgi_temp_path {folder}/s;
 upstream engine {{ server 127.0.0.1:{engine}; keepalive 128; keepalive_requests 100000000; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://engine;
  proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""
FLEET = """
[[deployments]]
name = "a100"
profile = "splitwise/a100-80gb-tp8/llama-2-70b"
[deployments.upstream]
urls = ["http://127.0.0.1:{engine}"]
models = ["llama"]

[[deployments]]
name = "h100"
profile = "splitwise/h100-80gb-tp8/llama-2-70b"
[deployments.upstream]
urls = ["http://127.0.0.1:{engine}/second"]
models = ["llama"]
"""
LITELLM = """
model_list:
  - model_name: llama
    litellm_params:
      model: openai/llama
      api_base: http://127.0.0.1:{engine}/v1
      api_key: none
"""
WRK = 'wrk.method="POST"\nwrk.body=[[{body}]]\nwrk.headers["content-type"]="application/json"\n'


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


@contextlib.contextmanager
def process(command: list[str], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A server that ends with the block, whatever happens in it."""
    with log.open("wb") as written:
        started = subprocess.Popen(
            command, stdout=written, stderr=written, env={**os.environ, **environment}
        )
    try:
        yield started
    finally:
        started.send_signal(signal.SIGTERM)
        try:
            started.wait(10)
        except subprocess.TimeoutExpired:
            started.kill()


def wait_for(
    port: int, started: subprocess.Popen[bytes], log: Path, seconds: float = 120.0
) -> None:
    """Until a server answers a request with 200."""
    end = time.monotonic() + seconds
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{PATH}",
        json.dumps(ASKED).encode(),
        {"content-type": "application/json"},
    )
    while time.monotonic() < end and started.poll() is None:
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            with urllib.request.urlopen(request, timeout=10) as answer:
                answer.read()
            return
        time.sleep(0.2)
    sys.exit(f"nothing answered on port {port}:\n{log.read_text()[-2000:]}")


def wrk(port: int, connections: int, seconds: int, script: Path) -> dict[str, float]:
    """Answers a second, and quantiles of the latency in ms."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    command.append(f"http://127.0.0.1:{port}{PATH}")
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in text:
        sys.exit(f"port {port} answered with errors:\n{text}")
    rate = re.search(r"Requests/sec:\s*([\d.]+)", text)
    assert rate is not None, text
    found = {"per_s": float(rate[1])}
    scale = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    for quantile in ("50", "99"):
        seen = re.search(rf"{quantile}%\s+([\d.]+)(us|ms|s)", text)
        assert seen is not None, text
        found[f"p{quantile}_ms"] = float(seen[1]) * scale[seen[2]]
    return found


async def streams(port: int) -> dict[str, float]:
    """Tokens a second of open streams, and the 99th percentile of the time to the first, in s."""
    body = {**ASKED, "stream": True, "max_tokens": TOKENS}
    first_s: list[float] = []

    async def one(client: aiohttp.ClientSession) -> int:
        start, events = time.perf_counter(), 0
        async with client.post(f"http://127.0.0.1:{port}{PATH}", json=body) as answer:
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    events += 1
                    if events == 1:
                        first_s.append(time.perf_counter() - start)
        return events

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as client:
        start = time.perf_counter()
        events = await asyncio.gather(*(one(client) for _ in range(STREAMS)))
        rate = sum(events) / (time.perf_counter() - start)
    if min(events) < TOKENS:
        sys.exit(f"port {port}: a stream had {min(events)} of {TOKENS} tokens")
    return {"tokens_per_s": rate, "ttfb_p99_s": sorted(first_s)[int(0.99 * len(first_s))]}


async def stream_engine(port: int) -> None:
    """An engine of streams, on a loop of its own: as many tokens a second for each, no more."""

    def event(content: dict[str, Any]) -> bytes:
        return b"data: " + json.dumps(content, separators=(",", ":")).encode() + b"\n\n"

    chunk = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "llama"}
    token = event({**chunk, "choices": [{"index": 0, "delta": {"content": "sea "}}]})
    stop = event({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    usage = event({**chunk, "choices": [], "usage": ANSWER["usage"]})

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = re.search(rb"content-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
                writer.write(b"transfer-encoding: chunked\r\n\r\n")
                start = time.perf_counter()
                for index in range(TOKENS):
                    await asyncio.sleep(start + (index + 1) * GAP_S - time.perf_counter())
                    writer.write(b"%x\r\n%b\r\n" % (len(token), token))
                    await writer.drain()
                for last in (stop, usage, b"data: [DONE]\n\n"):
                    writer.write(b"%x\r\n%b\r\n" % (len(last), last))
                writer.write(b"0\r\n\r\n")
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
    async with server:
        await server.serve_forever()


def gateway_command(port: int, fleet: Path, ledger: Path) -> list[str]:
    command = Path(sys.executable).with_name("wattshed")
    return [
        *(str(command), "serve", "--fleet", str(fleet), "--port", str(port)),
        *("--ledger", str(ledger), "--policy", "frugal"),
    ]


def median(values: list[float]) -> float:
    return statistics.median(values)


class Bench:
    """The servers of a benchmark, in a folder of their own."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self._folder, self._stack = folder, stack

    def start(
        self, name: str, command: list[str], port: int, **environment: str
    ) -> subprocess.Popen[bytes]:
        log = self._folder / f"{name}.log"
        started = self._stack.enter_context(process(command, log, **environment))
        wait_for(port, started, log)
        return started

    def nginx(self, name: str, template: str, **values: object) -> int:
        port = free_port()
        where = self._folder / name
        where.mkdir()
        config = where / "nginx.conf"
        config.write_text(template.format(folder=where, port=port, **values))
        self.start(name, ["nginx", "-p", str(where), "-c", str(config)], port)
        return port

    def gateway(self, name: str, engine: int) -> tuple[int, subprocess.Popen[bytes]]:
        port, fleet = free_port(), self._folder / f"{name}.toml"
        fleet.write_text(FLEET.format(engine=engine))
        command = gateway_command(port, fleet, self._folder / f"{name}.sqlite")
        return port, self.start(name, command, port)

    def litellm(self, command: str, engine: int) -> int:
        port, config = free_port(), self._folder / "litellm.yaml"
        config.write_text(LITELLM.format(engine=engine))
        asked = [command, "--config", str(config), "--port", str(port), "--num_workers", "1"]
        local = {
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        }
        self.start("litellm", asked, port, **local)
        return port


def json_rounds(ports: dict[str, int], options: argparse.Namespace, script: Path) -> Any:
    """Figures of each peer at 32 connections and at 1, round after round."""
    found: dict[str, dict[str, list[dict[str, float]]]] = {
        name: {"c32": [], "c1": []} for name in ports
    }
    for port in ports.values():
        wrk(port, 32, 1, script)
    for _ in range(options.rounds):
        for name, port in ports.items():
            found[name]["c32"].append(wrk(port, 32, options.seconds, script))
            found[name]["c1"].append(wrk(port, 1, options.seconds, script))
    return found


def stream_rounds(ports: dict[str, int], rounds: int) -> dict[str, list[dict[str, float]]]:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ports}
    for name, port in [pair for _ in range(rounds) for pair in ports.items()]:
        found[name].append(asyncio.run(streams(port)))
    return found


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return float(status.split("VmRSS:")[1].split()[0]) * 1024 / 1e6


def memory(port: int, pid: int, requests: int, script: Path) -> list[dict[str, float]]:
    """Resident memory in MB after each tenth of some requests."""
    rows, served = [], 0.0
    while served < requests:
        served += 5 * wrk(port, 32, 5, script)["per_s"]
        rows.append({"requests": served, "rss_mb": resident_mb(pid)})
    step = max(1, len(rows) // 10)
    return [*rows[:-1:step], rows[-1]] if rows else []


def ratios(found: Any, streamed: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Medians over rounds of what is compared within each."""

    def of(name: str, peer: str) -> float:
        pairs = zip(found[name]["c32"], found[peer]["c32"], strict=True)
        return median([ours["per_s"] / theirs["per_s"] for ours, theirs in pairs])

    added = zip(found["wattshed"]["c1"], found["direct"]["c1"], strict=True)
    pairs = zip(streamed["wattshed"], streamed["direct"], strict=True)
    return {
        "json_of_nginx": of("wattshed", "nginx"),
        **({"json_of_litellm": of("wattshed", "litellm")} if "litellm" in found else {}),
        "added_p50_ms": median([ours["p50_ms"] - theirs["p50_ms"] for ours, theirs in added]),
        "streams_of_direct": median([a["tokens_per_s"] / b["tokens_per_s"] for a, b in pairs]),
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    script = folder / "ask.lua"
    script.write_text(WRK.format(body=json.dumps(ASKED)))
    with contextlib.ExitStack() as stack:
        bench = Bench(folder, stack)
        engine = bench.nginx("engine", NGINX_ENGINE, answer=json.dumps(ANSWER))
        ports = {"direct": engine, "nginx": bench.nginx("nginx", NGINX_PROXY, engine=engine)}
        ports["wattshed"], gateway = bench.gateway("gateway", engine)
        if options.litellm:
            ports["litellm"] = bench.litellm(options.litellm, engine)
        found = json_rounds(ports, options, script)
        kept = memory(ports["wattshed"], gateway.pid, options.requests, script)
    with contextlib.ExitStack() as stack:
        bench = Bench(folder, stack)
        slow = free_port()
        bench.start("streams", [sys.executable, __file__, "--stream-engine", str(slow)], slow)
        ports = {"direct": slow, "nginx": bench.nginx("slow", NGINX_PROXY, engine=slow)}
        ports["wattshed"], _ = bench.gateway("streaming", slow)
        streamed = stream_rounds(ports, options.rounds)
    return {
        "json": found,
        "streams": streamed,
        "memory": kept,
        "ratios": ratios(found, streamed),
    }


def show(results: dict[str, Any]) -> None:
    print(f"{'peer':10} {'req/s, c=32':>12} {'p99 ms':>8} {'p50 ms, c=1':>12}")
    for name, found in results["json"].items():
        per_s, p99 = (median([r[key] for r in found["c32"]]) for key in ("per_s", "p99_ms"))
        p50 = median([r["p50_ms"] for r in found["c1"]])
        print(f"{name:10} {per_s:12,.0f} {p99:8.2f} {p50:12.3f}")
    print(f"{STREAMS} open streams of {TOKENS} tokens, one in {1e3 * GAP_S:g} ms:")
    for name, rows in results["streams"].items():
        rate, first = (median([r[key] for r in rows]) for key in ("tokens_per_s", "ttfb_p99_s"))
        print(f"{name:10} {rate:12,.0f} tokens/s, p99 of the first after {1e3 * first:.1f} ms")
    for row in results["memory"]:
        print(f"after {row['requests']:12,.0f} requests {row['rss_mb']:6.0f} MB")
    for name, value in results["ratios"].items():
        word, target = TARGETS[name]
        held = value >= target if word == "at least" else value <= target
        print(f"{name:20} {value:8.3f}  {word} {target:g}: {'yes' if held else 'NO'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=int, default=5, help="of each round and peer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--litellm", default="", help="its command")
    parser.add_argument("--requests", type=int, default=0, help="for the memory; 1e6 take 10 min")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--stream-engine", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.stream_engine:
        asyncio.run(stream_engine(options.stream_engine))
        return
    missing = [tool for tool in ("nginx", "wrk") if not shutil.which(tool)]
    if missing:
        sys.exit(f"not run: {' and '.join(missing)} missing; apt-get install nginx-light wrk")
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    if options.json:
        print(json.dumps(results))
    else:
        show(results)


if __name__ == "__main__":
    main()
