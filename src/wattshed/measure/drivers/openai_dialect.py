"""What an OpenAI-compatible server accepts beyond the standard, found by asking it once.

Token ids as prompt (vLLM, SGLang, llama.cpp), answers of a set length (the same), usage in streams.
Servers ignore what they do not know, or refuse it with 400 or 422, naming it or not.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from wattshed.errors import EngineError

Feature = str
Prompt = str | list[int]

NAMED_AS: dict[Feature, tuple[str, ...]] = {
    "each_usage": ("continuous_usage_stats",),
    "lengths": ("ignore_eos", "min_tokens"),
    "usage": ("stream_options", "include_usage"),
    "ids": ("prompt", "token id"),
}
"""What requests may have that not every server accepts, and how refusals call it; what is part of
something else comes before that."""

COMMON = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had
an they which one you were all her she there would their we him been has when who will no more if
out so up said what its about than into them can only other time new some could these two may
"""
WORDS = COMMON.split()
"""Words that most tokenizers know as one token each."""


def request_body(
    model: str, prompt: Prompt, output_tokens: int, features: frozenset[Feature]
) -> dict[str, Any]:
    """What is posted to ``/completions`` for one query."""
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt,
        "max_tokens": output_tokens,
        "temperature": 0,
        "stream": True,
    }
    if "lengths" in features:
        body |= {"ignore_eos": True, "min_tokens": output_tokens}
    if "usage" in features:
        body["stream_options"] = {"include_usage": True}
        if "each_usage" in features:
            body["stream_options"]["continuous_usage_stats"] = True
    return body


def settle(
    attempt: Callable[[frozenset[Feature]], str | None], wanted: frozenset[Feature], where: str
) -> frozenset[Feature]:
    """Find the features that a server accepts.

    Parameters
    ----------
    attempt : callable
        Sends a small request with the given features; what the server says against them, or None.
    wanted : frozenset
    where : str
        The server, for errors.

    Returns
    -------
    frozenset
        If refusals name what they refuse, that alone is dropped; else each is tried by itself.

    Raises
    ------
    EngineError
        If the server refuses a request without any.
    """
    first = refusal = attempt(wanted)
    while refusal is not None:
        named = _named(refusal, wanted)
        if named is None:
            break
        wanted -= {named}
        refusal = attempt(wanted)
    if refusal is None:
        return wanted
    kept: frozenset[Feature] = frozenset()
    if attempt(kept) is not None:
        raise EngineError(where, f"refuses any request: {first}", "look into the engine's log")
    for feature in reversed(NAMED_AS):
        if feature in wanted and attempt(kept | {feature}) is None:
            kept |= {feature}
    return kept


def _named(refusal: str, wanted: frozenset[Feature]) -> Feature | None:
    """The first feature that a refusal names."""
    named = (f for f in NAMED_AS if f in wanted and any(word in refusal for word in NAMED_AS[f]))
    return next(named, None)


class IdPrompts:
    """Prompts of random token ids.

    Parameters
    ----------
    low, high : int
        Smallest and largest id.
    rng : numpy.random.Generator
    """

    def __init__(self, low: int, high: int, rng: np.random.Generator) -> None:
        self._low, self._high, self._rng = low, high, rng

    def prompt(self, tokens: int) -> list[int]:
        """A prompt of as many tokens."""
        found: list[int] = self._rng.integers(self._low, self._high, tokens, endpoint=True).tolist()
        return found


class TextPrompts:
    """Prompts of random words, each of them one token of the server's tokenizer.

    Parameters
    ----------
    words : list of str
        Of one token each.
    extra : int
        Tokens of a prompt beyond its words: what the server puts before it.
    rng : numpy.random.Generator
    """

    def __init__(self, words: list[str], extra: int, rng: np.random.Generator) -> None:
        self.words, self.extra, self._rng = words, extra, rng

    def prompt(self, tokens: int) -> str:
        """A prompt of as many tokens, as the server counts.

        Raises
        ------
        EngineError
            If the server alone puts more before a prompt.
        """
        if tokens <= self.extra:
            raise EngineError(
                "openai: input_tokens",
                f"{tokens}, of which the server adds {self.extra} of its own",
                f"ask for more than {self.extra}",
            )
        chosen = self._rng.choice(self.words, tokens - self.extra)
        return join([str(word) for word in chosen])


def join(words: list[str]) -> str:
    """Words as a prompt; it begins with one that is always the same, as first words are special."""
    return " ".join([WORDS[0], *words])


def calibrate(count: Callable[[str], int | None], rng: np.random.Generator) -> TextPrompts:
    """Find words of one token each, and what the server adds to a prompt.

    Parameters
    ----------
    count : callable
        Tokens of a text, as the server counts; None if it does not say.
    rng : numpy.random.Generator
        Of the prompts.

    Returns
    -------
    TextPrompts
        If the server does not count, words are taken for tokens.

    Raises
    ------
    EngineError
        If the tokenizer has too few such words.
    """
    base = count(join(WORDS))
    if base is None:
        return TextPrompts(WORDS, 1, rng)

    def single(words: list[str]) -> list[str]:
        total = (count(join(WORDS + words)) or 0) - base
        if total == len(words):
            return words
        if len(words) == 1:
            return []
        half = len(words) // 2
        return single(words[:half]) + single(words[half:])

    words = single(WORDS)
    if len(words) < 8:
        raise EngineError(
            "openai: prompt",
            f"only {len(words)} of {len(WORDS)} common words are one token of the server's",
            "use a server that accepts token ids as prompt (vLLM, SGLang, llama.cpp)",
        )
    extra = (count(join(words)) or 0) - len(words)
    return TextPrompts(words, extra, rng)
