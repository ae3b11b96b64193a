"""Where the ticks of an axis lie, and what is written at them."""

from __future__ import annotations

import math
from collections.abc import Sequence

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


def linear_ticks(low: float, high: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten from `low` to `high`, four to nine of them.

    >>> linear_ticks(-5.9, 8.3)
    [-4.0, -2.0, 0.0, 2.0, 4.0, 6.0, 8.0]
    """
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = math.floor(math.log10(span)) - 1
    for step, exponent in ((k, power + e) for e in (0, 1, 2) for k in (1, 2, 5)):
        # Whole multiples divided or multiplied once: 0.3, not 0.30000000000000004.
        size = step * 10.0**exponent
        first, last = math.ceil(low / size - 1e-9), math.floor(high / size + 1e-9)
        if last - first < MOST_TICKS:
            break
    whole = [k * step for k in range(first, last + 1)]
    return [k * 10.0**exponent if exponent >= 0 else k / 10.0**-exponent for k in whole]


def format_ticks(ticks: Sequence[float], *, even: bool = True) -> list[str]:
    """Write the numbers at ticks, with the same decimals where they are evenly spaced.

    >>> format_ticks([5.6, 5.62]), format_ticks([0.5, 16384.0], even=False), format_ticks([0, 1e9])
    (['5.60', '5.62'], ['0.5', '16,384'], ['0', '1e+09'])
    """
    largest = max(map(abs, ticks), default=0.0)
    if largest >= 1e7 or 0 < largest < 1e-3:
        return [f"{tick:.4g}".replace("-", "−") if tick < 0 else f"{tick:.4g}" for tick in ticks]
    texts = [f"{tick:,.10g}" for tick in ticks]
    decimals = max(len(text.partition(".")[2]) for text in texts) if even and texts else 0
    if even and not any("e" in text for text in texts):
        texts = [f"{tick:,.{decimals}f}" for tick in ticks]
    return [text.replace("-", "−") if text.startswith("-") else text for text in texts]
