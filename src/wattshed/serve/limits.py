"""How many files the system lets this process have open; each connection is one."""

from __future__ import annotations

import logging
import resource

log = logging.getLogger("wattshed.serve")
ENOUGH = 4096
"""Fewer than this is worth a word: a request under way needs two, to its client and its engine."""
MOST = 2**20


def raise_open_files() -> int:
    """Raise the limit as far as this process may; returns it, and says so where it is low."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MOST if hard == resource.RLIM_INFINITY else min(hard, MOST)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft != resource.RLIM_INFINITY and soft < ENOUGH:
        log.warning(
            "only %d files may be open, and a request needs two: raise the hard limit (ulimit -Hn)",
            soft,
        )
    return soft
