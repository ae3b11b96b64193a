"""How long an answer will be, learned while requests are served.

Answers of the past, by route and by power of two of the input, as in `wattshed.workload.lengths`;
but only the last ones count, and each one that ends is learned from. Quantiles are exact.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Hashable
from typing import Protocol

import msgspec

from wattshed.serve.tokens import on_grid

WINDOW = 1024
"""Answers that count, in each bucket."""
THIN = 20
"""Answers below which a bucket says less than the wider one."""
FEW = 32
"""Lengths up to which putting each in its place takes less than sorting all."""
LATE = 0.9
"""Quantile for which latency is promised."""


class Forecast(msgspec.Struct, frozen=True, gc=False):
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
    """The last lengths of a bucket, put in order of size when somebody asks for a quantile.

    Of most buckets nobody does: of the wider ones of a route with enough answers.

    Attributes
    ----------
    known : int
        Lengths that were added, forgotten ones included.
    """

    def __init__(self, size: int = WINDOW) -> None:
        self._size, self._total, self._taken = size, 0, 0
        self.known = 0
        self._recent: deque[int] = deque(maxlen=size + FEW)
        self._sorted: list[int] = []
        self._forecast: Forecast | None = None

    def __len__(self) -> int:
        return min(len(self._recent), self._size)

    def add(self, tokens: int) -> None:
        """One length more; the oldest is forgotten."""
        self._recent.append(tokens)
        self.known += 1

    @property
    def mean(self) -> float:
        """Mean length."""
        if self.known != self._taken:
            self._update()
        return self._total / len(self._sorted)

    def quantile(self, part: float) -> int:
        """Length that a part in [0, 1] of the answers did not exceed."""
        if self.known != self._taken:
            self._update()
        ordered = self._sorted
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)]

    def forecast(self) -> Forecast:
        """Its mean, rounded so that predictions can be remembered, and its late quantile."""
        found = self._forecast
        if found is None or self.known != self._taken:
            self._update()
            ordered = self._sorted
            count = len(ordered)
            mean, late = float(on_grid(self._total / count)), float(ordered[int(LATE * count)] or 1)
            if found is None or found.mean != mean or found.late != late:
                found = self._forecast = Forecast(mean, late)
        return found

    def _update(self) -> None:
        """Take in what is new."""
        new, recent = self.known - self._taken, self._recent
        self._taken = self.known
        if new > FEW:
            recent = deque(list(recent)[-self._size :], recent.maxlen)
            self._recent, self._sorted, self._total = recent, sorted(recent), sum(recent)
            return
        ordered = self._sorted
        while new:
            tokens = recent[-new]
            self._total += tokens
            insort(ordered, tokens)
            new -= 1
        while len(recent) > self._size:
            oldest = recent.popleft()
            self._total -= oldest
            del ordered[bisect_left(ordered, oldest)]


class _Route:
    """The buckets of a route: all of it, and by power of two of the input."""

    def __init__(self) -> None:
        self.whole = Window()
        self.by_size: dict[int, Window] = {}


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
        self._routes: dict[Hashable, _Route] = {}
        self._all = Window()

    def predict(self, route: Hashable, input_tokens: int, max_tokens: int | None) -> Forecast:
        """Forecast, never above `max_tokens`, rounded so that predictions can be remembered."""
        window = self._window(route, input_tokens)
        found = self._prior if window is None else window.forecast()
        if max_tokens is None or (found.mean <= max_tokens and found.late <= max_tokens):
            return found
        limit = float(max_tokens)
        return Forecast(min(found.mean, limit), min(found.late, limit))

    def quantile(self, route: Hashable, input_tokens: int, part: float) -> float | None:
        """Length that a part of the answers did not exceed; None where too few are known."""
        window = self._window(route, input_tokens)
        return None if window is None else float(window.quantile(part))

    def observe(self, route: Hashable, input_tokens: int, output_tokens: int) -> None:
        """An answer has ended."""
        known = self._routes.get(route)
        if known is None:
            known = self._routes[route] = _Route()
        octave = _octave(input_tokens)
        narrow = known.by_size.get(octave)
        if narrow is None:
            narrow = known.by_size[octave] = Window()
        narrow.add(output_tokens)
        known.whole.add(output_tokens)
        self._all.add(output_tokens)

    def _window(self, route: Hashable, input_tokens: int) -> Window | None:
        known = self._routes.get(route)
        if known is not None:
            narrow = known.by_size.get(_octave(input_tokens))
            if narrow is not None and narrow.known >= THIN:
                return narrow
            if known.whole.known >= THIN:
                return known.whole
        return self._all if self._all.known >= THIN else None


def _octave(tokens: int) -> int:
    return tokens.bit_length() or 1
