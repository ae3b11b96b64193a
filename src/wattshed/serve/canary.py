"""A policy that decides for a part of the requests, so that it can be compared with the other."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b

from wattshed.errors import ParameterError

CANARY, CONTROL = "canary", "control"
"""Groups of requests, as the ledger names them."""


@dataclass(frozen=True)
class Canary:
    """A policy under trial.

    Attributes
    ----------
    policy : str
        Named as `Decider` names policies.
    share : float
        Part of the requests that it decides for, above 0 and below 1.
    """

    policy: str
    share: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            cure = "give a part of the requests, above 0 and below 1"
            raise ParameterError("--canary-share", f"{self.share:g}", cure)

    def group(self, request_id: str) -> str:
        """The group of a request: by its id alone, so that another try is in the same one."""
        digest = blake2b(request_id.encode(), digest_size=8).digest()
        return CANARY if int.from_bytes(digest) < self.share * 2**64 else CONTROL
