"""What `import wattshed` offers, and what it costs."""

from __future__ import annotations

import subprocess
import sys

import wattshed


def test_all_names_exist_and_are_sorted() -> None:
    assert wattshed.__all__ == sorted(wattshed.__all__)
    for name in wattshed.__all__:
        assert getattr(wattshed, name).__module__.startswith("wattshed.")


def test_import_and_help_pull_in_nothing_heavy() -> None:
    code = (
        "import sys, wattshed.cli\n"
        "from click.testing import CliRunner\n"
        "assert CliRunner().invoke(wattshed.cli.main, ['--help']).exit_code == 0\n"
        "heavy = {'numpy', 'scipy', 'polars', 'matplotlib', 'rich', 'jinja2'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_plan_without_limits_does_not_load_the_compiler() -> None:
    code = (
        "import sys, wattshed as ws\n"
        "ws.plan_workload(ws.load_fleet('hybrid-2024'), ws.read_workload('alpaca'))\n"
        "sys.exit('imported numba' if 'numba' in sys.modules else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
