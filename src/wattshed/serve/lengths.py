"""How long an answer will be, learned while requests are served.

Answers of the past, by route and by power of two of the input, as in `wattshed.workload.lengths`;
but only the last ones count, and each one that ends is learned from. Quantiles are exact.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Protocol

from wattshed.serve.tokens import on_grid

WINDOW = 1024
"""Answers that count, in each bucket."""
THIN = 20
"""Answers below which a bucket says less than the wider one."""
LATE = 0.9
"""Quantile for which latency is promised."""


@dataclass(frozen=True)
class Forecast:
    """Expected length of an answer, and the quantile for which latency is promised; tokens."""

    mean: float
    late: float


PRIOR = Forecast(211.0, 424.0)
"""Before anything was learned: mean and 90th percentile of azure-conv-2023."""


class LengthPredictor(Protocol):
    """Length of an answer before it is there."""

    def predict(self, route: Hashable, input_tokens: int, max_tokens: int | None) -> Forecast:
        """Forecast, never above `max_tokens`."""
        ...

    def observe(self, route: Hashable, input_tokens: int, output_tokens: int) -> None:
        """An answer has ended."""
        ...


class Window:
    """The last lengths of a bucket, in order of size, too."""

    def __init__(self, size: int = WINDOW) -> None:
        self._size, self._total = size, 0
        self._recent: deque[int] = deque()
        self._sorted: list[int] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, tokens: int) -> None:
        """One length more; the oldest is forgotten."""
        if len(self._recent) == self._size:
            oldest = self._recent.popleft()
            self._total -= oldest
            del self._sorted[bisect_left(self._sorted, oldest)]
        self._recent.append(tokens)
        self._total += tokens
        insort(self._sorted, tokens)

    @property
    def mean(self) -> float:
        """Mean length."""
        return self._total / len(self._sorted)

    def quantile(self, part: float) -> int:
        """Length that a part in [0, 1] of the answers did not exceed."""
        return self._sorted[min(int(part * len(self._sorted)), len(self._sorted) - 1)]


class OnlineHistogram:
    """Mean and quantiles of recent answers, of the narrowest bucket that has enough of them.

    Buckets are, from narrow to wide: route and power of two of the input, route, all.

    Parameters
    ----------
    prior : Forecast
        While there are too few of all.
    """

    def __init__(self, prior: Forecast = PRIOR) -> None:
        self._prior = prior
        self._windows: dict[Hashable, Window] = {}

    def predict(self, route: Hashable, input_tokens: int, max_tokens: int | None) -> Forecast:
        """Forecast, never above `max_tokens`, rounded so that predictions can be remembered."""
        window = self._window(route, input_tokens)
        found = self._prior
        if window is not None:
            found = Forecast(float(on_grid(window.mean)), float(max(1, window.quantile(LATE))))
        limit = float("inf") if max_tokens is None else float(max_tokens)
        return Forecast(min(found.mean, limit), min(found.late, limit))

    def quantile(self, route: Hashable, input_tokens: int, part: float) -> float | None:
        """Length that a part of the answers did not exceed; None where too few are known."""
        window = self._window(route, input_tokens)
        return None if window is None else float(window.quantile(part))

    def observe(self, route: Hashable, input_tokens: int, output_tokens: int) -> None:
        """An answer has ended."""
        for key in _buckets(route, input_tokens):
            if key not in self._windows:
                self._windows[key] = Window()
            self._windows[key].add(output_tokens)

    def _window(self, route: Hashable, input_tokens: int) -> Window | None:
        known = (self._windows.get(key) for key in _buckets(route, input_tokens))
        return next((w for w in known if w is not None and len(w) >= THIN), None)


def _buckets(route: Hashable, input_tokens: int) -> Iterator[Hashable]:
    """Keys from narrow to wide."""
    yield route, max(1, input_tokens).bit_length()
    yield route, 0
    yield None
