"""Where the ticks of an axis lie, and what is written at them."""

from __future__ import annotations

import math

MOST_TICKS = 9


def log_ticks(low: float, high: float, base: int) -> list[float]:
    """Powers of `base` from `low` to `high`, thinned to a readable number.

    Short ranges to base 10 get 1, 2 and 5 times each power. The list may be empty.

    >>> log_ticks(7, 600, 2)
    [8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0]
    >>> log_ticks(2, 40, 10)
    [2.0, 5.0, 10.0, 20.0]
    """
    first = math.floor(math.log(low, base) + 1e-9)
    last = math.ceil(math.log(high, base) - 1e-9)
    for steps in ((1, 2, 5), (1,)) if base == 10 else ((1,),):
        ticks = [k * float(base) ** e for e in range(first, last + 1) for k in steps]
        inside = [t for t in ticks if low * (1 - 1e-9) <= t <= high * (1 + 1e-9)]
        if len(inside) <= MOST_TICKS:
            break
    return inside[:: math.ceil(len(inside) / MOST_TICKS) or 1]


def format_tick(value: float) -> str:
    """Write the number at a tick.

    >>> format_tick(16384.0), format_tick(0.5), format_tick(1e9)
    ('16,384', '0.5', '1e+09')
    """
    if value == 0 or 1e-4 <= abs(value) < 1e7:
        return f"{value:,.10g}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−", 1) if value < 0 else f"{value:.3g}"
