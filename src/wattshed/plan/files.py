"""plan.json: write a plan with everything that it was made from, and read it back."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import msgspec

from wattshed import __version__
from wattshed.errors import FileError, FleetError
from wattshed.fleet import Fleet, Slo, with_idle_power
from wattshed.plan.limits import Limits
from wattshed.records import OutOfSample, Plan


class Source(msgspec.Struct, frozen=True):
    """An input by its name and the hash of its content."""

    name: str
    sha256: str


class PlanInputs(msgspec.Struct, frozen=True):
    """What decided a plan.

    Attributes
    ----------
    energy_weight, zeta, normalise, robust, limits
        As they were asked for.
    slo : dict
        Of the fleet, as changed for this plan.
    idle_power_w : dict
        Instead of the fleet's, in watts.
    """

    fleet: Source
    workload: Source
    energy_weight: float = msgspec.field(name="lambda")
    zeta: float | None
    normalise: str
    robust: str | None
    limits: Limits
    slo: dict[str, Slo]
    idle_power_w: dict[str, float]
    evaluate_on: Source | None
    seed: int


class PlanFile(msgspec.Struct, frozen=True):
    """Content of plan.json."""

    schema: Literal["wattshed/plan"]
    version: Literal[1]
    created_by: str
    inputs: PlanInputs
    seed: int
    plan: Plan
    out_of_sample: list[OutOfSample] | None = None


def encode_plan(
    plan: Plan, inputs: dict[str, Any], out_of_sample: list[OutOfSample] | None = None
) -> bytes:
    """Content of plan.json.

    Parameters
    ----------
    plan : Plan
    inputs : dict
        With the keys of `PlanInputs`.
    out_of_sample : list of OutOfSample, optional
    """
    content = PlanFile(
        "wattshed/plan",
        1,
        f"wattshed {__version__}",
        msgspec.convert(inputs, PlanInputs),
        inputs["seed"],
        plan,
        out_of_sample,
    )
    return msgspec.json.format(msgspec.json.encode(content), indent=1)


def load_plan(path: str | Path) -> PlanFile:
    """Read a plan.json.

    Raises
    ------
    FileError
        Naming the key whose value is wrong.
    """
    cure = "write it with `wattshed plan -o DIR`"
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=PlanFile)
    except OSError as error:
        raise FileError(str(path), f"cannot be read: {error.strerror}", cure) from None
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".")
        raise FileError(
            f"{path}: {place}" if place else str(path), message[0].lower() + message[1:], cure
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(str(path), f"is not JSON: {error}", cure) from None


def planned_fleet(file: PlanFile, fleet: Fleet) -> Fleet:
    """The fleet as it was planned: with the plan's SLOs and idle power.

    Parameters
    ----------
    file : PlanFile
    fleet : Fleet
        As loaded from the file that the plan names.

    Raises
    ------
    FleetError
        If that file has changed since, or is another one.
    """
    planned = file.inputs.fleet
    if fleet.content_hash != planned.sha256:
        raise FleetError(
            fleet.name,
            f"its content ({fleet.content_hash[:12]}) is not that of {planned.name}"
            f" ({planned.sha256[:12]}), for which the plan was made",
            "plan again, or give the fleet file as it was",
        )
    fleet = msgspec.structs.replace(fleet, slo=file.inputs.slo)
    return with_idle_power(fleet, file.inputs.idle_power_w)
