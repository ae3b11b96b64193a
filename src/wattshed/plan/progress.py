"""What a long plan tells while it is made."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """How far a plan is.

    Attributes
    ----------
    stage : str
        What is being done.
    done, total : int
        Steps of this stage; a total of 0 is not known.
    bound_j, gap : float or None
        Lower bound of what is minimised, in J, and the relative gap to it, where limits
        are being met.
    """

    stage: str
    done: int = 0
    total: int = 0
    bound_j: float | None = None
    gap: float | None = None
