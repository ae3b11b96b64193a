"""Controllers as the event loop applies them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wattshed.control.clocks import BatchCap, PhaseAwareClock, PinnedMaximum, StaticClock
from wattshed.control.controller import Controller
from wattshed.engines.model import Array, BatchingDeployment, Deployment
from wattshed.errors import ParameterError
from wattshed.simulate.clocking import FIXED, HIGHEST, PHASES
from wattshed.simulate.policies import Promises


class Control(NamedTuple):
    """A controller, and what it needs for requests (Q) and deployments (K).

    Attributes
    ----------
    code : int
    steady : int array (K,)
        FIXED: which of its clocks.
    headroom, hold_s : float
    every_token : bool
        The limit holds for each token, and not for their mean.
    tbt_s : array (K,)
        Limit between tokens at each deployment.
    first_within_s : array (Q,)
        Of the arrival, the first token is due; the reserve taken off.
    cap_factor : float
    cap_least : int
    """

    code: int
    steady: NDArray[np.int64]
    headroom: float
    hold_s: float
    every_token: bool
    tbt_s: Array
    first_within_s: Array
    cap_factor: float
    cap_least: int


def compile_control(
    controller: Controller | None,
    deployments: Sequence[Deployment],
    promises: Promises | None,
) -> Control:
    """A controller of the package for the event loop.

    Raises
    ------
    ParameterError
        If it is another one, or needs promises and there are none.
    """
    steady = np.zeros(len(deployments), np.int64)
    unlimited = np.full(len(steady), np.inf)
    control = Control(HIGHEST, steady, 0.0, 0.0, False, unlimited, np.zeros(0), np.inf, 1)
    if controller is None or isinstance(controller, PinnedMaximum):
        return control
    if isinstance(controller, StaticClock):
        for k, d in enumerate(deployments):
            if isinstance(d, BatchingDeployment):
                steady[k] = controller.place(tuple(steps.clock for steps in d.clocks))
        return control._replace(code=FIXED)
    if isinstance(controller, BatchCap):
        return control._replace(cap_factor=controller.factor, cap_least=controller.least)
    if not isinstance(controller, PhaseAwareClock):
        known = "PinnedMaximum, StaticClock, PhaseAwareClock or BatchCap"
        raise ParameterError("controller", f"{type(controller).__name__}", f"use {known}")
    if promises is None:
        raise ParameterError("promises", "none", "a phase-aware clock needs latency limits")
    return control._replace(
        code=PHASES,
        headroom=controller.headroom,
        hold_s=controller.hold_s,
        every_token=promises.every_token,
        tbt_s=np.full(len(steady), promises.tbt_s.min(initial=np.inf)),
        first_within_s=(1 - controller.reserve) * promises.ttft_s,
    )
