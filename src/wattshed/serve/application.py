"""The gateway as a function: from a fleet to an ASGI application that any server can run."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette

from wattshed.fleet import Fleet, load_fleet
from wattshed.serve.app import gateway_app
from wattshed.serve.canary import Canary
from wattshed.serve.gateway import Gateway
from wattshed.serve.keys import load_keys
from wattshed.serve.ledger import Ledger
from wattshed.serve.reload import Reloader
from wattshed.serve.settings import Settings
from wattshed.serve.setup import deciding, make_setup


def gateway(  # noqa: PLR0913 - each is one thing that may be chosen
    fleet: str | Path | Fleet,
    *,
    policy: str = "frugal",
    default_policy: str = "least-loaded",
    shadow: str | None = None,
    canary: str | None = None,
    canary_share: float = 0.05,
    plan: str | Path | None = None,
    ledger: str = "ledger.sqlite",
    keys: str | Path | None = None,
    settings: Settings | None = None,
) -> Starlette:
    """The gateway that ``wattshed serve`` runs, as an ASGI application.

    Its lifespan opens the connections to engines and, at its end, writes what is left of the
    ledger: run it with a server that knows lifespans, in one process. A fleet that is given as a
    file is followed while it changes.

    Parameters
    ----------
    fleet : str, Path or Fleet
        With the addresses of its engines.
    policy, default_policy : str
        What decides, and what does once the gateway's `Decider` is switched off.
    shadow : str, optional
        Policy that decides, too, and is not obeyed.
    canary : str, optional
        Policy that decides for a part of the requests.
    canary_share : float
        That part.
    plan : str or Path, optional
        plan.json of the fleet, for the policy ``prices``.
    ledger : str
        SQLite file, or the URL of a PostgreSQL database.
    keys : str or Path, optional
        File of API keys; without it everybody may ask.
    settings : Settings, optional
        Limits. Unless told, ``/metrics`` and ``/ready`` in full need a key.

    Returns
    -------
    Starlette
        With the `Gateway` as ``state.gateway``.

    Raises
    ------
    FileError, FleetError, ParameterError, ProfileError

    Examples
    --------
    In ``app.py``, for ``uvicorn app:app``::

        import wattshed as ws

        app = ws.gateway("fleet.toml", policy="frugal")
    """
    trial = None if canary is None else Canary(canary, canary_share)
    decider_of = deciding(policy, default_policy, shadow=shadow, plan=plan, canary=trial)
    loaded = fleet if isinstance(fleet, Fleet) else load_fleet(fleet)
    decider = decider_of(loaded)
    # Refuses a fleet without addresses, or meters, before a ledger is there.
    setup = make_setup(loaded, decider)
    known = None if keys is None else load_keys(Path(keys))
    limits = settings or Settings(loopback=False)
    made = Gateway(loaded, decider, Ledger(ledger), limits, keys=known, setup=setup)
    file = None if isinstance(fleet, Fleet) else Reloader(Path(fleet), decider_of)
    app = gateway_app(made, file)
    app.state.gateway = made
    return app
