"""`wattshed completion`."""

from __future__ import annotations

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a SHELL (bash, zsh or fish).

    \b
    Examples:
      eval "$(wattshed completion bash)"
      wattshed completion fish > ~/.config/fish/completions/wattshed.fish
    """
    from click.shell_completion import get_completion_class

    from wattshed.cli import main

    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(main, {}, "wattshed", "_WATTSHED_COMPLETE").source())
