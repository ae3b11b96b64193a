"""When an endpoint that fails is left alone, and when it is tried again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Opens after failures in a row, then lets one request through now and then.

    Attributes
    ----------
    failures : int
        That open it.
    wait_s, longest_s : float
        Until the first trial; it doubles with each that fails, up to the longest.
    """

    failures: int = 3
    wait_s: float = 1.0
    longest_s: float = 30.0
    _row: int = 0
    _open_until_s: float = 0.0
    _trial: bool = False

    def allows(self, now_s: float) -> bool:
        """Whether a request may be sent."""
        return self._row < self.failures or (now_s >= self._open_until_s and not self._trial)

    def sent(self) -> None:
        """A request is sent: where it is open, this is the trial."""
        self._trial = self._row >= self.failures

    def worked(self) -> None:
        """A request, or a look at its health, went well."""
        self._row, self._trial = 0, False

    def failed(self, now_s: float) -> None:
        """A request failed by the fault of the endpoint."""
        self._row += 1
        self._trial = False
        if self._row >= self.failures:
            doubled = self.wait_s * 2 ** min(self._row - self.failures, 16)
            self._open_until_s = now_s + min(doubled, self.longest_s)

    def gave_up(self) -> None:
        """A request ended without saying anything about the endpoint: its client left."""
        self._trial = False

    def retry_after_s(self, now_s: float) -> float:
        """Until the next trial; 0 where requests may be sent."""
        return max(0.0, self._open_until_s - now_s) if self._row >= self.failures else 0.0
