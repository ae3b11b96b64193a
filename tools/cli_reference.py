"""Write docs/reference/cli.md from the click commands, so that it cannot differ from them.

python tools/cli_reference.py            write the page
python tools/cli_reference.py --check    exit 1 if the committed page is not what would be written

Help texts follow click's conventions: a paragraph that starts with a line holding only ``\\b`` is
preformatted. If its first line ends with a colon ("Examples:"), that line becomes a caption.
"""

import difflib
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

ENTRY_POINT = "wattshed.cli:main"
PROGRAM = "wattshed"
PAGE = Path(__file__).parents[1] / "docs" / "reference" / "cli.md"
HEAD = """\
<!-- Written by tools/cli_reference.py from the commands themselves: `make written`. -->
# Command line

Tables for people go to stdout, messages to stderr. What `--json` prints and what the exit codes
mean is in [](files.md).
"""


def load(entry_point: str) -> click.Command:
    module, _, name = entry_point.partition(":")
    command = getattr(import_module(module), name)
    if not isinstance(command, click.Command):
        sys.exit(f"{entry_point}: expected a click command, found {type(command).__name__}")
    return command


def contexts(command: click.Command, name: str) -> Iterator[click.Context]:
    """Yield a context for the command and, depth first, for every visible one below it."""
    # A fixed width: the page must not depend on the terminal that it was written in.
    yield from _walk(click.Context(command, info_name=name, terminal_width=100))


def _walk(ctx: click.Context) -> Iterator[click.Context]:
    yield ctx
    if not isinstance(ctx.command, click.Group):
        return
    for name in ctx.command.list_commands(ctx):
        child = ctx.command.get_command(ctx, name)
        if child is not None and not child.hidden:
            yield from _walk(click.Context(child, info_name=name, parent=ctx))


def page(command: click.Command, name: str) -> str:
    return "\n".join([HEAD, *(section(ctx) for ctx in contexts(command, name))])


def section(ctx: click.Context) -> str:
    blocks = [
        f"{'#' * (_depth(ctx) + 2)} {ctx.command_path}",
        *(["**Deprecated.**"] if ctx.command.deprecated else []),
        *help_blocks(ctx.command.help or ""),
        _fence(ctx.command.get_usage(ctx).removeprefix("Usage: "), "text"),
        *_table("Argument", arguments(ctx)),
        *_table("Option", options(ctx)),
        *_table("Command", subcommands(ctx)),
        *help_blocks(ctx.command.epilog or ""),
    ]
    return "\n\n".join(blocks) + "\n"


def _depth(ctx: click.Context) -> int:
    return 0 if ctx.parent is None else 1 + _depth(ctx.parent)


def help_blocks(text: str) -> list[str]:
    """Turn a help text into Markdown blocks, preformatted paragraphs into code."""
    text = text.partition("\f")[0].strip("\n")
    blocks: list[str] = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.strip("\n").split("\n")
        if lines[0].strip() == "\b":
            blocks += _preformatted(lines[1:])
        elif paragraph.strip():
            blocks.append(" ".join(paragraph.split()))
    return blocks


def _preformatted(lines: list[str]) -> list[str]:
    caption = [f"**{lines[0].strip()}**"] if lines and lines[0].rstrip().endswith(":") else []
    body = lines[len(caption) :]
    margin = min((len(line) - len(line.lstrip()) for line in body if line.strip()), default=0)
    code = "\n".join(line[margin:] for line in body)
    return [*caption, _fence(code, "console" if caption else "text")]


def _fence(code: str, language: str) -> str:
    return f"```{language}\n{code.rstrip()}\n```"


def arguments(ctx: click.Context) -> list[tuple[str, str]]:
    found = [p for p in ctx.command.get_params(ctx) if isinstance(p, click.Argument)]
    return [(p.make_metavar(ctx), _argument_help(p)) for p in found]


def _argument_help(argument: click.Argument) -> str:
    need = "required" if argument.required else "optional"
    several = ", may be repeated" if argument.nargs == -1 else ""
    return getattr(argument, "help", None) or f"{need}{several}"


def options(ctx: click.Context) -> list[tuple[str, str]]:
    found = [p for p in ctx.command.get_params(ctx) if isinstance(p, click.Option)]
    records = (option.get_help_record(ctx) for option in found)
    return [record for record in records if record is not None]


def subcommands(ctx: click.Context) -> list[tuple[str, str]]:
    if not isinstance(ctx.command, click.Group):
        return []
    below = [(n, ctx.command.get_command(ctx, n)) for n in ctx.command.list_commands(ctx)]
    return [
        (n, c.get_short_help_str(limit=200)) for n, c in below if c is not None and not c.hidden
    ]


def _table(kind: str, rows: list[tuple[str, str]]) -> list[str]:
    if not rows:
        return []
    lines = [f"| `{_cell(name)}` | {_cell(_literal(meaning))} |" for name, meaning in rows]
    return ["\n".join([f"| {kind} | Meaning |", "|---|---|", *lines])]


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _literal(text: str) -> str:
    """Keep characters that Markdown would read as markup."""
    return "".join(f"\\{c}" if c in "*_<>[]" else c for c in text)


def difference(committed: str, written: str) -> str:
    lines = difflib.unified_diff(
        committed.splitlines(),
        written.splitlines(),
        "committed",
        "from the commands",
        lineterm="",
        n=1,
    )
    return "\n".join(list(lines)[:40])


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--check", is_flag=True, help="Compare with the committed page; write nothing.")
@click.option(
    "--entry-point", default=ENTRY_POINT, show_default=True, help="module:command to walk."
)
@click.option("--program", default=PROGRAM, show_default=True, help="Name of the executable.")
@click.option("--page", "path", type=click.Path(path_type=Path), default=PAGE, help="The page.")
def main(check: bool, entry_point: str, program: str, path: Path) -> None:
    written = page(load(entry_point), program)
    if not check:
        path.write_text(written, encoding="utf-8")
        return
    committed = path.read_text(encoding="utf-8") if path.exists() else ""
    if committed != written:
        sys.exit(
            f"{path}: differs from the commands; run `make written`\n"
            f"{difference(committed, written)}"
        )


if __name__ == "__main__":
    main()
