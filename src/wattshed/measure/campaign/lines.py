"""Lines of a campaign's journal."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from wattshed import __version__
from wattshed.measure.campaign.design import Campaign
from wattshed.measure.campaign.guard import Observation
from wattshed.records import DriverInfo, Generation, Health, MeterInfo, WindowEnergy

SCHEMA = "wattshed/campaign/1"


class Manifest(msgspec.Struct, frozen=True):
    """What a journal begins with.

    Attributes
    ----------
    campaign : Campaign
        What was decided beforehand: cells, their order, when to stop.
    driver : DriverInfo
    meters : list of MeterInfo
    inputs : dict
        How engine and meters were opened, by name; what else decides the result.
    health : list of Health
        Certificates of the meters, as found before.
    settings : dict
        Clocks and power limits as they were, by component.
    begun_s : float
        Since the epoch.
    host, created_by, schema : str
    """

    campaign: Campaign
    driver: DriverInfo
    meters: list[MeterInfo]
    inputs: dict[str, str] = {}
    health: list[Health] = []
    settings: dict[str, dict[str, float]] = {}
    begun_s: float = 0.0
    host: str = ""
    created_by: str = f"wattshed {__version__}"
    schema: str = SCHEMA


class Trial(msgspec.Struct, frozen=True, tag="trial"):
    """A trial of a cell.

    Attributes
    ----------
    cell : int
        Index into the cells of the campaign.
    trial : int
        From 0.
    generation : Generation
        The only one, or the first that counts.
    repeats : int
        Generations that count, one right after the other.
    runtime_s : float
        Mean of one generation.
    ttft_s : float or None
        Mean, too.
    begun_ns, ended_ns : int
        Of all that count, on the monotonic clock.
    windows : tuple of WindowEnergy
        Of each meter between these moments.
    begun_s, ended_s : float
        Since the epoch.
    observed : Observation or None
        At its end.
    flags : tuple of str
        ``repeated``; ``throttled`` and why; ``mixed_tokens`` if repeats differ in tokens.
    """

    cell: int
    trial: int
    generation: Generation
    repeats: int
    runtime_s: float
    ttft_s: float | None
    begun_ns: int
    ended_ns: int
    windows: tuple[WindowEnergy, ...] = ()
    begun_s: float = 0.0
    ended_s: float = 0.0
    observed: Observation | None = None
    flags: tuple[str, ...] = ()

    @property
    def queries(self) -> int:
        """How many share the energy of its windows."""
        return self.repeats * self.generation.batch_size


class WarmUp(msgspec.Struct, frozen=True, tag="warm_up"):
    """A generation before the first trial of a session, which counts nowhere."""

    cell: int
    runtime_s: float
    begun_s: float


class Idle(msgspec.Struct, frozen=True, tag="idle"):
    """An idle baseline, with the model loaded.

    Attributes
    ----------
    when : {"before", "after"}
        The trials of a session.
    seconds, begun_s : float
    windows : tuple of WindowEnergy
    """

    when: Literal["before", "after"]
    seconds: float
    begun_s: float
    windows: tuple[WindowEnergy, ...] = ()


class Failure(msgspec.Struct, frozen=True, tag="failure"):
    """A trial that the engine could not serve."""

    cell: int
    trial: int
    reason: str
    begun_s: float


class Resumed(msgspec.Struct, frozen=True, tag="resumed"):
    """A later session begins: what may differ from the first line; see `Manifest`."""

    begun_s: float
    host: str
    created_by: str
    health: list[Health] = []
    settings: dict[str, dict[str, float]] = {}


Line: TypeAlias = Trial | WarmUp | Idle | Failure | Resumed
