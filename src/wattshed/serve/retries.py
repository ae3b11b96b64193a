"""How many requests may be sent once more: a part of all, so that failures do not multiply them."""

from __future__ import annotations

FREE = 10.0
"""Repeated sendings that are there at the start."""
RESERVE = 100.0
"""Most repeated sendings at once."""


class Retries:
    """Repeated sendings that are left.

    Parameters
    ----------
    share : float
        That each request adds.
    """

    def __init__(self, share: float) -> None:
        self._share, self._left = share, FREE

    def earn(self) -> None:
        """A request came."""
        if self._left < RESERVE:
            self._left += self._share

    def spend(self) -> bool:
        """Take one, if there is one."""
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True
