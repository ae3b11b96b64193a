"""The command line: parse, call one public function, print or write.

Each command group lives in its own module and is imported when it is used, so that
`wattshed --help` answers at once.
"""

from __future__ import annotations

import importlib
import os

import click

from wattshed import __version__

# Our matrices are small: threads of the linear algebra would only wait, at full power. Read when
# numpy is imported, which commands do later.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

_COMMANDS = {
    "demo": "wattshed.cli.demo:demo",
    "reproduce": "wattshed.cli.reproduce:reproduce",
    "data": "wattshed.cli.data:data",
    "doctor": "wattshed.cli.doctor:doctor",
    "measure": "wattshed.cli.measure:measure",
    "import": "wattshed.cli.imports:import_",
    "fit": "wattshed.cli.fit:fit",
    "plan": "wattshed.cli.plan:plan",
    "pareto": "wattshed.cli.pareto:pareto",
    "simulate": "wattshed.cli.simulate:simulate",
    "serve": "wattshed.cli.serve:serve",
    "replay": "wattshed.cli.replay:replay",
    "report": "wattshed.cli.report:report",
    "explain": "wattshed.cli.explain:explain",
    "completion": "wattshed.cli.completion:completion",
}

_SHORT_HELP = {
    "demo": "The whole way once, on built-in measurements.",
    "reproduce": "Reproduce a published study and say where it holds.",
    "data": "List and show what is built in.",
    "doctor": "Examine meters, engines and permissions of this machine.",
    "measure": "Measure energy and runtime of queries on this machine.",
    "import": "Make runs from results of other tools.",
    "fit": "Fit energy and runtime models to measured runs.",
    "plan": "Assign a workload to machines at the least energy.",
    "pareto": "Find every best trade-off of energy, runtime and accuracy.",
    "simulate": "Serve a workload with each policy; compare energy and latency.",
    "serve": "Route live queries to where they cost least, with a receipt for each.",
    "replay": "Send a workload to a live gateway; report as simulate does.",
    "report": "Add up a ledger: energy, promises, carbon, by who asked and who answered.",
    "explain": "Tell why a request of a ledger went where it went.",
    "completion": "Print the completion script of a shell.",
}


class LazyGroup(click.Group):
    """A group that imports a command only when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Commands in the order in which a newcomer needs them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the module that holds a command."""
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(importlib.import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List commands from a table of their short help, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, _SHORT_HELP[name]) for name in _COMMANDS])


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, "-V", "--version", message="wattshed %(version)s")
def main() -> None:
    """Decide which machine each LLM query runs on, so that the work costs the least energy.

    \b
    Examples:
      wattshed demo                                  the whole way on built-in measurements
      wattshed fit runs.csv -o profiles.json         model your own machines
      wattshed plan --fleet fleet.toml --workload azure-conv-2023
      wattshed reproduce hybrid-2024 -o report       a published study, point by point

    Exit status: 0 done, 1 failed, 2 bad input.
    """
