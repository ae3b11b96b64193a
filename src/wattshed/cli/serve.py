"""`wattshed serve`: the gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from wattshed.cli.shared import errors_at_the_edge, note
from wattshed.errors import FileError

if TYPE_CHECKING:
    from wattshed.fleet import Fleet
    from wattshed.serve.tracing import Traces

EXTRA = "the gateway needs packages that are not installed: pip install 'wattshed[serve]'"


@click.command()
@click.option(
    "--fleet",
    "fleet_source",
    default=None,
    metavar="FILE",
    help="fleet.toml with the addresses of its engines ([deployments.upstream]).",
)
@click.option(
    "--demo",
    "is_demo",
    is_flag=True,
    help="Two simulated engines instead of a fleet: no GPU, no configuration.",
)
@click.option(
    "--policy",
    default="frugal",
    show_default=True,
    metavar="NAME",
    help="What decides where each request goes, named as in wattshed simulate.",
)
@click.option(
    "--default-policy",
    default="least-loaded",
    show_default=True,
    metavar="NAME",
    help="What decides after SIGUSR1, until SIGUSR2.",
)
@click.option(
    "--shadow", default=None, metavar="NAME", help="Decides, too: recorded and not obeyed."
)
@click.option(
    "--canary",
    default=None,
    metavar="NAME",
    help="Decides for a part of the requests, to be compared with the others by wattshed report.",
)
@click.option(
    "--canary-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=None,
    metavar="PART",
    help="That part, drawn by the ids of requests.  [default: 0.05]",
)
@click.option(
    "--plan",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="plan.json of the fleet, for the policy prices.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port to listen on; 0 takes a free one.",
)
@click.option(
    "--ledger",
    "ledger_url",
    default=None,
    metavar="FILE",
    help="SQLite file of the ledger, or the URL of a PostgreSQL database."
    "  [default: ledger.sqlite, in wattshed-demo for --demo]",
)
@click.option(
    "--keys",
    "keys_file",
    type=click.Path(path_type=Path, dir_okay=False),
    default=None,
    metavar="FILE",
    help="API keys, as hashes, with their models and budgets (TOML). Without it everybody may ask.",
)
@click.option(
    "--queue",
    "seats",
    type=click.IntRange(min=0),
    default=1024,
    show_default=True,
    metavar="N",
    help="Most requests that wait while all endpoints are full.",
)
@click.option(
    "--queue-time",
    "queue_s",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    metavar="S",
    help="How long each of them may wait, in seconds.",
)
@click.option(
    "--grace",
    "grace_s",
    type=click.IntRange(min=0),
    default=60,
    show_default=True,
    metavar="S",
    help="How long open answers may go on after SIGTERM, in seconds.",
)
@click.option(
    "--log-format",
    type=click.Choice(("text", "json")),
    default="text",
    show_default=True,
    help="Lines for people, or one JSON object in each line.",
)
@click.option(
    "--log-level",
    type=click.Choice(("error", "warning", "info")),
    default="warning",
    show_default=True,
    help="info has a line for each request that has ended, too.",
)
@click.option(
    "--otlp",
    default=None,
    envvar="OTEL_EXPORTER_OTLP_ENDPOINT",
    show_envvar=True,
    metavar="URL",
    help="OpenTelemetry collector (OTLP over HTTP) that gets a trace of each request.",
)
@click.option(
    "--speed",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Of --demo: how many times faster than their profiles the engines are.",
)
def serve(
    *,
    fleet_source: str | None,
    is_demo: bool,
    policy: str,
    default_policy: str,
    shadow: str | None,
    canary: str | None,
    canary_share: float | None,
    plan: Path | None,
    host: str,
    port: int,
    ledger_url: str | None,
    keys_file: Path | None,
    seats: int,
    queue_s: float,
    grace_s: int,
    log_format: str,
    log_level: str,
    otlp: str | None,
    speed: float,
) -> None:
    """Route live queries to where they cost least, with a receipt for each.

    An OpenAI-compatible gateway in front of the engines of a fleet. Answers carry the energy that
    the profile of their deployment predicts (usage.energy), and the ledger keeps a row for each,
    also of those that are refused.

    Below [deployments.upstream] the fleet file says what engines tell of their load (metrics) and
    where their API key is (key_env, key_file). Clients choose by the headers X-Wattshed-Class,
    X-Wattshed-Deadline, X-Wattshed-Lambda (weight of energy, 0 to 1) and X-Wattshed-Greenest.

    \b
    Examples:
      wattshed serve --demo
      wattshed serve --fleet fleet.toml
      wattshed serve --fleet fleet.toml --policy least-loaded --shadow frugal
      wattshed serve --fleet fleet.toml --policy least-loaded --canary frugal --canary-share 0.1
      ENGINE_KEY=... wattshed serve --fleet fleet.toml   (key_env = "ENGINE_KEY")
      curl -H 'X-Wattshed-Greenest: true' ...   (or -H 'X-Wattshed-Lambda: 0.3')
    """
    if canary_share is not None and canary is None:
        raise click.UsageError("--canary-share needs --canary NAME")
    with errors_at_the_edge(), _fleet(fleet_source, is_demo, speed) as fleet:
        from wattshed.route.wishes import Greenest
        from wattshed.serve.background import listening
        from wattshed.serve.canary import Canary
        from wattshed.serve.decide import make_policy
        from wattshed.serve.gateway import Gateway
        from wattshed.serve.keys import load_keys
        from wattshed.serve.ledger import Ledger
        from wattshed.serve.logs import log_request, set_up_logs, start_log
        from wattshed.serve.near import is_loopback
        from wattshed.serve.reload import Reloader
        from wattshed.serve.run import run_gateway, warm_up
        from wattshed.serve.settings import Settings
        from wattshed.serve.setup import deciding, make_setup

        set_up_logs(log_format, log_level)
        say = start_log.info if log_format == "json" else note

        trial = Canary(canary, canary_share or 0.05) if canary else None
        decider_of = deciding(policy, default_policy, shadow=shadow, plan=plan, canary=trial)
        decider = decider_of(fleet)
        reloader = Reloader(Path(fleet_source), decider_of) if fleet_source else None
        # All that can be refused is looked at before a ledger is there: addresses, meters, port.
        setup = make_setup(fleet, decider)
        keys = load_keys(keys_file) if keys_file else None
        traces = _traces(otlp)
        settings = Settings(seats=seats, queue_s=queue_s, loopback=is_loopback(host))
        with (
            closing(listening(host, port)) as bound,
            closing(Ledger(ledger_url or _default_ledger(is_demo, say))) as ledger,
            closing(traces) if traces else nullcontext(),
        ):
            gateway = Gateway(fleet, decider, ledger, settings, keys=keys, setup=setup)
            if traces:
                traces.follow(gateway)
            if log_level == "info":
                gateway.observers.append(log_request)
            for name in filter(None, (policy, canary)):
                warm_up(make_policy(name, fleet, plan), gateway)
            warm_up(Greenest(fleet), gateway)
            place = _place(host, bound.getsockname()[1])
            _tell(gateway.targets.models, place, is_demo, keys is not None, say)
            run_gateway(gateway, bound, grace_s, reloader)


@contextmanager
def _fleet(source: str | None, is_demo: bool, speed: float) -> Iterator[Fleet]:
    """The fleet of a file, or of the demo while its engines run."""
    if (source is None) == (not is_demo):
        raise click.UsageError("give either --fleet FILE or --demo")
    try:
        from wattshed.serve.demo import demo_fleet
    except ModuleNotFoundError as error:
        raise click.ClickException(f"{EXTRA} ({error.name} is missing)") from None
    if source is None:
        with demo_fleet(speed) as fleet:
            yield fleet
        return
    from wattshed.fleet import load_fleet

    yield load_fleet(source)


def _traces(url: str | None) -> Traces | None:
    if not url:
        return None
    try:
        from wattshed.serve.tracing import Traces
    except ModuleNotFoundError as error:
        cure = "pip install 'wattshed[otel]', or leave --otlp and OTEL_EXPORTER_OTLP_ENDPOINT out"
        found = f"traces need packages that are not installed ({error.name} is missing)"
        raise click.ClickException(f"{found}: {cure}") from None
    return Traces(url)


def _default_ledger(is_demo: bool, say: Callable[[str], None]) -> str:
    """Where the ledger is unless somebody says so.

    Raises
    ------
    FileError
    """
    if not is_demo:
        return "ledger.sqlite"
    try:
        Path("wattshed-demo").mkdir(exist_ok=True)
    except OSError as error:
        found = f"the folder cannot be made: {error.strerror}"
        raise FileError("wattshed-demo", found, "go elsewhere, or give --ledger FILE") from None
    say("its ledger: wattshed report wattshed-demo/ledger.sqlite")
    return "wattshed-demo/ledger.sqlite"


def _place(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _tell(
    models: list[str], place: str, is_demo: bool, needs_key: bool, say: Callable[[str], None]
) -> None:
    """Where it listens, and a line to try."""
    say(f"wattshed serves {', '.join(models)} at {place}/v1" + (", simulated" if is_demo else ""))
    say(f"watch it at {place}/ui")
    key = ' -H "authorization: Bearer $KEY"' if needs_key else ""
    click.echo(
        f"curl {place}/v1/chat/completions{key} -H 'content-type: application/json' -d"
        ' \'{"model": "auto", "max_tokens": 16, "messages":'
        ' [{"role": "user", "content": "Where does water flow?"}]}\''
    )
