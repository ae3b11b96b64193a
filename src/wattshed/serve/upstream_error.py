"""What can go wrong with an engine."""

from __future__ import annotations

from wattshed.errors import WattshedError


class UpstreamError(WattshedError):
    """An engine did not answer, or not as it should.

    Parameters
    ----------
    reason : str
        For the client, without addresses.
    detail : str
        For the log.
    busy : bool
        It said so itself, and is not broken.
    stale : bool
        The connection had been idle, and was likely closed: the same engine may be asked again.
    late : bool
        It did not answer in time.
    retry_after_s : float, optional
        As it said.
    """

    def __init__(
        self,
        reason: str,
        *,
        detail: str = "",
        busy: bool = False,
        stale: bool = False,
        late: bool = False,
        retry_after_s: float | None = None,
    ) -> None:
        self.reason, self.busy, self.stale, self.late = reason, busy, stale, late
        self.retry_after_s, self.detail = retry_after_s, detail
        super().__init__(reason)
