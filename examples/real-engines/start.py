"""Start both engines and the gateway in front of them; Ctrl-C ends all three.

With --prepare only install what npm has to offer and make the model.
"""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path

import engines

PORTS = {"llama-cpp": 9101, "transformers": 9102}  # as in fleet.toml


def prepare(folder: Path) -> None:
    """Install llama.cpp and make the model, where that has not been done."""
    if not engines.installed():
        print("installing node-llama-cpp", file=sys.stderr)
        engines.install()
    if not (folder / f"{engines.NAME}.gguf").exists():
        engines.make_model(folder)


def start(folder: Path, stack: ExitStack) -> None:
    """Start both engines; they end with the stack."""
    starts = {"llama-cpp": engines.start_llama_cpp, "transformers": engines.start_transformers}
    running = {name: starts[name](folder, port) for name, port in PORTS.items()}
    for process in running.values():
        end_with(stack, process)
    for name, process in running.items():
        engines.wait_until_healthy(process, f"http://127.0.0.1:{PORTS[name]}")
        print(f"{name} answers on port {PORTS[name]}", file=sys.stderr)


def end_with(stack: ExitStack, process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, and wait for it, when the stack ends."""
    stack.callback(process.wait)
    stack.callback(process.terminate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=engines.BUILT, help="of model and logs")
    parser.add_argument("--prepare", action="store_true", help="install, make the model, and end")
    parser.add_argument("--engines-only", action="store_true", help="start no gateway")
    parser.add_argument("options", nargs="*", help="of wattshed serve, after --")
    given = parser.parse_args()
    prepare(given.folder)
    if given.prepare:
        return
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with ExitStack() as stack, suppress(KeyboardInterrupt):
        start(given.folder, stack)
        if given.engines_only:
            signal.pause()
        fleet = ["--fleet", str(engines.HERE / "fleet.toml")]
        command = [sys.executable, "-m", "wattshed", "serve", *fleet, *given.options]
        gateway = subprocess.Popen(command)
        end_with(stack, gateway)
        gateway.wait()


if __name__ == "__main__":
    main()
