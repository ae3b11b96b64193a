"""How many tokens a prompt has, estimated from its bytes and learned from what engines report."""

from __future__ import annotations

from typing import Protocol

BYTES_PER_TOKEN = 4.0
"""Before anything was learned: what English text has with common tokenisers, roughly."""
KEPT = 0.98
"""What a report is worth after the next one: some 50 reports count."""
GRID = 64
"""Estimates are rounded to steps of 1/64 of their octave, finer than they are true."""


class TokenEstimator(Protocol):
    """Tokens of a prompt before an engine has counted them."""

    def estimate(self, model: str, text_bytes: int) -> int:
        """Tokens of a prompt, at least 1."""
        ...

    def observe(self, model: str, text_bytes: int, tokens: int) -> None:
        """An engine has counted a prompt."""
        ...


class BytesPerToken:
    """One ratio for each model, the mean over recent prompts, weighted by their length."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[float, float]] = {}

    def estimate(self, model: str, text_bytes: int) -> int:
        """Tokens of a prompt, at least 1; rounded, so that predictions can be remembered."""
        total_bytes, tokens = self._seen.get(model, (BYTES_PER_TOKEN, 1.0))
        return on_grid(text_bytes * tokens / total_bytes)

    def observe(self, model: str, text_bytes: int, tokens: int) -> None:
        """An engine has counted a prompt."""
        if text_bytes < 1 or tokens < 1:
            return
        before, counted = self._seen.get(model, (0.0, 0.0))
        self._seen[model] = (KEPT * before + text_bytes, KEPT * counted + tokens)


def on_grid(tokens: float) -> int:
    """Round to 6 binary digits, at least 1: within 1 part in 128."""
    if tokens <= GRID:
        return round(tokens) or 1
    step = 1 << (int(tokens).bit_length() - 7)
    return round(tokens / step) * step
