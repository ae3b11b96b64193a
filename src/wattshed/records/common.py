"""Where figures lie and where they come from."""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["measured", "derived", "modelled", "published"]
Boundary = Literal["accelerator", "host", "wall"]


class Interval(msgspec.Struct, frozen=True):
    """Where a figure lies with probability `level`.

    Attributes
    ----------
    low, high : float
        In the unit of the figure.
    method : str
        How it was found, e.g. "bootstrap over cells, 200 draws".
    level : float
        0.95 unless told.
    """

    low: float
    high: float
    method: str
    level: float = 0.95


class Provenance(msgspec.Struct, frozen=True):
    """Where figures come from.

    Attributes
    ----------
    name : str
        Name in this project.
    source : str
        Publication or repository.
    commit : str
        Revision of the source; empty where there is none.
    licence : str
    kind : {"measured", "derived", "modelled", "published"}
    note : str
        What was done to the source.
    """

    name: str
    source: str
    commit: str
    licence: str
    kind: Kind
    note: str = ""
