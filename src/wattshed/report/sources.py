"""Collect where figures come from."""

from __future__ import annotations

from collections.abc import Iterable

from wattshed.records import Profile, Provenance


def unique_sources(*groups: Iterable[Profile | Provenance]) -> list[Provenance]:
    """Every source named in lists of profiles or sources, once, in order of appearance."""
    found: dict[Provenance, None] = {}
    for group in groups:
        for item in group:
            sources = item.provenance if isinstance(item, Profile) else [item]
            found.update(dict.fromkeys(sources))
    return list(found)
