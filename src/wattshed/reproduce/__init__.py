"""Published studies recomputed from the built-in figures, their values beside ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wattshed.reproduce.study import Study


def _hybrid_2024(*, seed: int = 0) -> Study:
    from wattshed.reproduce.hybrid_2024 import reproduce

    return reproduce(seed=seed)


def _offline_2024(*, seed: int = 0) -> Study:
    from wattshed.reproduce.offline_2024 import reproduce

    return reproduce(seed=seed)


def _online_2024(*, seed: int = 0) -> Study:
    from wattshed.reproduce.online_2024 import reproduce

    return reproduce(seed=seed)


def _greener_2024(*, seed: int = 0) -> Study:
    from wattshed.reproduce.greener_2024 import reproduce

    return reproduce(seed=seed)


STUDIES: dict[str, Callable[..., Study]] = {
    "hybrid-2024": _hybrid_2024,
    "offline-2024": _offline_2024,
    "online-2024": _online_2024,
    "greener-2024": _greener_2024,
}
"""Name of a study to the function that recomputes it; each takes `seed`."""
