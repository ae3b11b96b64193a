"""What is simulated beside the deployments: requests, and outages of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import LONGEST, Array, Deployment, OneQueryDeployment
from wattshed.errors import ParameterError


@dataclass(frozen=True)
class Requests:
    """Requests in the order in which they arrive.

    Attributes
    ----------
    arrival_s : array (Q,)
        From 0 on, not decreasing; equal times are served in this order.
    input_tokens, output_tokens : int arrays (Q,)
        At least 1, at most `LONGEST`.
    group : int array (Q,), optional
        SLO class of each, as an index into `classes`; the first unless told.
    classes : tuple of str
    deadline_s : array (Q,), optional
        Of each, from its arrival to its last token; inf for none.
    """

    arrival_s: Array
    input_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    group: NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ("",)
    deadline_s: Array | None = None

    def __post_init__(self) -> None:
        if self.group is None:
            object.__setattr__(self, "group", np.zeros(len(self.arrival_s), np.int64))
        arrival = np.ascontiguousarray(self.arrival_s, float)
        object.__setattr__(self, "arrival_s", arrival)
        wrong = ~np.isfinite(arrival) | (np.diff(arrival, prepend=0.0) < 0)
        _check_rows("arrival_s", arrival, wrong, "give finite times from 0 on, in order")
        for field in ("input_tokens", "output_tokens"):
            tokens = np.asarray(getattr(self, field))
            if tokens.shape != arrival.shape:
                raise ParameterError(field, f"shape {tokens.shape}", "give one for each arrival_s")
            wrong = ~((tokens >= 1) & (tokens <= LONGEST)) | (tokens % 1 != 0)
            _check_rows(field, tokens, wrong, f"give whole numbers from 1 to {LONGEST}")
            object.__setattr__(self, field, np.ascontiguousarray(tokens, np.int64))

        self._check_group()
        if self.deadline_s is not None:
            deadline = np.ascontiguousarray(self.deadline_s, float)
            wrong = ~(deadline >= 0)
            _check_rows("deadline_s", deadline, wrong, "give seconds from 0 on, inf for none")
            object.__setattr__(self, "deadline_s", deadline)

    def _check_group(self) -> None:
        group = np.asarray(self.group)
        if group.shape != self.arrival_s.shape:
            raise ParameterError("group", f"shape {group.shape}", "give one for each arrival_s")
        wrong = (group < 0) | (group >= len(self.classes)) | (group % 1 != 0)
        _check_rows("group", group, wrong, f"give one of {len(self.classes)} classes, from 0")
        object.__setattr__(self, "group", np.ascontiguousarray(group, np.int64))

    def __len__(self) -> int:
        return len(self.arrival_s)


def check_fleet(deployments: Sequence[Deployment], requests: Requests) -> None:
    """Refuse a fleet without deployments, or with figures for other requests.

    Raises
    ------
    ParameterError
    """
    if not deployments:
        raise ParameterError("deployments", "none", "give at least one")
    for d in deployments:
        if isinstance(d, OneQueryDeployment) and d.runtime_s.shape != requests.arrival_s.shape:
            raise ParameterError(
                f"{d.name}.runtime_s",
                f"shape {d.runtime_s.shape} for {len(requests)} requests",
                "give one for each request",
            )


@dataclass(frozen=True)
class Outage:
    """A time at which a replica takes no request.

    Attributes
    ----------
    replica : int
        Numbered through the fleet.
    start_s, end_s : float
        It is off until `end_s`, and boots then.
    drains : bool
        True: it first finishes what it has. False: it fails, and what it has is lost or tried
        again elsewhere.
    """

    replica: int
    start_s: float
    end_s: float = np.inf
    drains: bool = False


def check_outages(outages: Sequence[Outage], deployments: Sequence[Deployment]) -> None:
    """Refuse outages of replicas that do not exist, or that overlap at one replica.

    Raises
    ------
    ParameterError
    """
    boots = [d.boot.ready_s for d in deployments for _ in range(d.replicas)]
    back = np.zeros(len(boots))
    for i, outage in sorted(enumerate(outages), key=lambda o: o[1].start_s):
        where = f"outages[{i}]"
        if not 0 <= outage.replica < len(boots):
            raise ParameterError(
                f"{where}.replica", f"{outage.replica}", f"give one from 0 to {len(boots) - 1}"
            )
        if not 0 <= outage.start_s < outage.end_s:
            found = f"from {outage.start_s:g} to {outage.end_s:g} s"
            raise ParameterError(where, found, "let it begin at 0 or later, and end after that")
        if outage.start_s < back[outage.replica]:
            cure = f"let it begin after the last one and its boot, {back[outage.replica]:g} s"
            raise ParameterError(f"{where}.start_s", f"{outage.start_s:g}", cure)
        back[outage.replica] = outage.end_s + boots[outage.replica]


def _check_rows(
    where: str, values: NDArray[np.generic], wrong: NDArray[np.bool_], cure: str
) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise ParameterError(f"{where}[{row}]", f"{values[row]}", cure)
