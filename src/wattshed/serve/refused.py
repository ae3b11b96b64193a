"""Errors as the OpenAI API words them."""

from __future__ import annotations

import math

import msgspec

from wattshed.errors import WattshedError

KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
    431: "invalid_request_error",
    500: "server_error",
    502: "upstream_error",
    503: "overloaded_error",
    504: "timeout_error",
}
"""``type`` by status."""


class RefusedError(WattshedError):
    """A request that gets an error for an answer.

    Parameters
    ----------
    status : int
        In `KINDS`.
    message : str
        What is wrong, and what to do.
    code : str, optional
        For programs.
    param : str, optional
        Field of the request that is at fault.
    retry_after_s : float, optional
        When to try again.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        self.status, self.message, self.code, self.param = status, message, code, param
        self.retry_after_s = retry_after_s
        super().__init__(message)

    @property
    def body(self) -> bytes:
        """The answer."""
        return error_body(self.status, self.message, self.code, self.param)

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Type of the answer, and when to try again."""
        found = [(b"content-type", b"application/json")]
        if self.retry_after_s is not None:
            found.append((b"retry-after", b"%d" % max(1, math.ceil(self.retry_after_s))))
        return found

    @property
    def event(self) -> bytes:
        """The same for a stream that has begun."""
        return b"data: " + self.body + b"\n\n"


def error_body(status: int, message: str, code: str | None, param: str | None = None) -> bytes:
    """``{"error": {...}}`` for a status."""
    kind = KINDS.get(status, "server_error")
    error = {"message": message, "type": kind, "param": param, "code": code}
    return msgspec.json.encode({"error": error})
