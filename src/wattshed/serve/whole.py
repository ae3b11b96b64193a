"""What was metered of requests that are over, from windows that were split."""

from __future__ import annotations

from collections.abc import Iterator

from wattshed.serve.recent import Metered, Recent
from wattshed.serve.split import Split
from wattshed.serve.stays import Stay


class Wholes:
    """Tells the window of latest records what was metered of them.

    Parameters
    ----------
    recent : Recent
    """

    def __init__(self, recent: Recent) -> None:
        self._recent = recent

    def observe(self, split: Split) -> None:
        """A window was split; of requests that go on, later ones tell."""
        for stay, found in metered_of(split):
            self._recent.meter(stay.id, found)


def metered_of(split: Split) -> Iterator[tuple[Stay, Metered]]:
    """What was metered, over all windows, of the stays that are over."""
    watch = split.watch
    there = {(stay.id, stay.endpoint) for stay in split.stays if not split.ended(stay)}
    for stay in filter(split.ended, split.stays):
        place = (stay.id, stay.endpoint)  # where it may have been sent once more
        idle_joules = stay.idle_joules if watch.idle_is_known(stay.endpoint) else None
        yield (
            stay,
            Metered(
                stay.joules,
                idle_joules,
                watch.method,
                watch.boundary,
                () if place in there else (stay.endpoint,),
                stay.whole,
            ),
        )
