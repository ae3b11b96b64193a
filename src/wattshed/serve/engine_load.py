"""What engines tell of their load, and what it adds to what the gateway knows: pure functions.

The gateway knows what it sent itself. An engine tells how many requests it has in all; what is more
than ours is the traffic of others, and is added to our own account until it is too old.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from msgspec import structs
from prometheus_client.samples import Sample

from wattshed.measure.exposition import samples_of
from wattshed.records import Endpoint


class Names(NamedTuple):
    """What an engine calls its load; of several names for the same, the first on the page counts.

    Attributes
    ----------
    cache : tuple of str
        The part of the KV cache that is in use.
    """

    running: tuple[str, ...]
    waiting: tuple[str, ...]
    cache: tuple[str, ...]


ENGINES = {
    "vLLM": Names(
        ("vllm:num_requests_running",),
        ("vllm:num_requests_waiting",),
        ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
    ),
    "SGLang": Names(
        ("sglang:num_running_reqs",), ("sglang:num_queue_reqs",), ("sglang:token_usage",)
    ),
    "llama.cpp": Names(
        ("llamacpp:requests_processing",),
        ("llamacpp:requests_deferred",),
        ("llamacpp:kv_cache_usage_ratio",),
    ),
    "TensorRT-LLM": Names(
        ("trtllm_num_requests_running",),
        ("trtllm_num_requests_waiting",),
        ("trtllm_kv_cache_utilization",),
    ),
}
TOTAL = "_total"
"""What some exporters append to any name."""
KNOWN = frozenset(
    name + end for of in ENGINES.values() for kind in of for name in kind for end in ("", TOTAL)
)
BEGINS = tuple(sorted({name.removesuffix(TOTAL) for name in KNOWN}))
"""Of their lines: pages are long, and 64 of them may come each second."""
LARGEST = 1e9
"""Number of requests that is none: what is larger, infinite or not a number."""
RANKS = frozenset(("tp_rank", "pp_rank", "moe_ep_rank", "pid"))
"""Labels of processes that work on the same requests."""


class EngineLoad(NamedTuple):
    """What an engine tells.

    Attributes
    ----------
    running, waiting : int
        Requests, whoever sent them.
    cache : float or None
        Part of the KV cache that is in use; None if it does not tell.
    """

    engine: str
    running: int
    waiting: int
    cache: float | None


@dataclass(frozen=True, slots=True)
class Others:
    """What an engine had besides our requests.

    Attributes
    ----------
    at_s : float
        On the clock of the gateway.
    """

    at_s: float
    running: int = 0
    waiting: int = 0
    context_tokens: int = 0
    prompt_tokens: int = 0


class Most(NamedTuple):
    """The most that we had at any time lately.

    Attributes
    ----------
    requests : int
        At the engine.
    waiting : int
        Of these, for their first token.
    """

    requests: int
    waiting: int


NONE = Most(0, 0)


@dataclass
class Scraped:
    """What is known of an engine from its own words.

    Attributes
    ----------
    before : Most
        In the time before the last question.
    error : str or None
        Why the last attempt to ask failed; None where it did not.
    """

    load: EngineLoad | None = None
    before: Most = NONE
    others: Others | None = None
    error: str | None = None

    def age_s(self, now_s: float) -> float:
        """Since it told; inf if it never did."""
        return math.inf if self.others is None else now_s - self.others.at_s


def read_load(page: str) -> EngineLoad:
    """The load on a page in Prometheus' text format.

    Raises
    ------
    ValueError
        If no engine that is known has such a page, or it is malformed.
    """
    by_name: dict[str, list[Sample]] = {}
    lines = [line for line in page.splitlines() if line.startswith(BEGINS)]
    for sample in samples_of("\n".join(lines), KNOWN):
        by_name.setdefault(sample.name.removesuffix(TOTAL), []).append(sample)
    for engine, names in ENGINES.items():
        running = _first(by_name, names.running)
        if running is not None:
            waiting, cache = _first(by_name, names.waiting), _first(by_name, names.cache)
            part = sum(cache) / len(cache) if cache else None
            return EngineLoad(engine, round(sum(running)), round(sum(waiting or [])), part)
    raise ValueError(f"no load of {', '.join(ENGINES)} is on the page")


def _first(by_name: dict[str, list[Sample]], names: Iterable[str]) -> list[float] | None:
    """Values of the first name that is there, one for each part of an engine."""
    found = next((by_name[name] for name in names if name in by_name), None)
    if found is None:
        return None
    parts: dict[frozenset[tuple[str, str]], float] = {}
    for sample in found:
        value = float(sample.value)
        if not 0 <= value <= LARGEST:
            raise ValueError(f"{sample.name} is {value:g}")
        key = frozenset((k, v) for k, v in sample.labels.items() if k not in RANKS)
        parts[key] = max(value, parts.get(key, 0.0))
    return list(parts.values())


def others_of(
    load: EngineLoad, own: Endpoint, most: Most, kv_tokens: int | None, at_s: float
) -> Others:
    """What an engine has that we did not send.

    Our own requests come and go while we ask, and engines tell of a moment ago: SGLang of some
    steps before. So as many as we had at any time lately are taken for ours, and none of them is
    counted twice. Its queue is compared with those of ours that wait or whose prompts it processes,
    all of which might be there.

    Parameters
    ----------
    load : EngineLoad
    own : Endpoint
        By our own account, now.
    most : Most
        Of ours, at any time lately.
    kv_tokens : int or None
        Tokens that its KV cache holds. Where that or its use is not known, each request of others
        is taken to hold as much as one of ours does there, and nothing where there is none of ours.
    at_s : float
    """
    total = max(0, load.running + load.waiting - most.requests)
    waiting = min(total, max(0, load.waiting - most.waiting))
    running = total - waiting
    context = _each(own.context_tokens, own.running) * running
    if load.cache is not None and kv_tokens is not None and running:
        context = max(0.0, load.cache * kv_tokens - own.context_tokens)
    prompts = _each(own.prompt_tokens, own.waiting) * waiting
    return Others(at_s, running, waiting, round(context), round(prompts))


def _each(tokens: int, requests: int) -> float:
    return tokens / requests if requests else 0.0


def merged(
    own: Endpoint, others: Others | None, now_s: float, age_s: float, *, alone: bool = False
) -> Endpoint:
    """An endpoint as a policy is told of it: our account and, while it is young, what others do.

    Parameters
    ----------
    own : Endpoint
        By our account.
    others : Others or None
    age_s : float
        From which on it counts no more.
    alone : bool
        Whether the engine works on one request at a time.
    """
    if others is None or now_s - others.at_s >= age_s:
        return own
    running, waiting = own.running + others.running, own.waiting + others.waiting
    if alone:
        running, waiting = min(1, running + waiting), max(0, running + waiting - 1)
    return structs.replace(
        own,
        running=running,
        waiting=waiting,
        context_tokens=own.context_tokens + others.context_tokens,
        prompt_tokens=own.prompt_tokens + others.prompt_tokens,
    )
