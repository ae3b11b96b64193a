"""The seam: what a controller sees of a replica, and what it may set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Observation:
    """A replica that is about to begin a block of steps.

    Attributes
    ----------
    clocks : tuple of float
        That it can be set to, rising, as fractions of the highest (F).
    clock : int
        At which it is.
    raised_s : float
        When the clock was last raised; -inf if never.
    prompts : bool
        Whether prompt tokens are processed in the next step.
    decoding : int
        Sequences that get a token from it.
    waits_for_place : bool
        Somebody cannot be let in because batch or KV cache are full.
    last_step_s : tuple of float
        Duration of the longest decoding step of the block, at each clock (F).
    whole_step_s : tuple of float
        Duration of the next step with its prompts, at each clock (F).
    every_token : bool
        The limit between tokens holds for each of them, and not for their mean.
    excess_s : float
        By how much prompts lengthened steps lately, on average.
    ttft_part : tuple of float
        Largest predicted TTFT among the prompts that wait or are processed, as a part of its
        limit, at each clock (F); 0 if there are none.
    tbt_limit_s : float
        inf if nothing was promised.
    trust : float
        Part of the limits that may be used, as learned from promises kept and broken here.
    usual_there : float
        Requests that it had lately, waiting ones included, on average.
    max_batch : int
    """

    clocks: tuple[float, ...]
    clock: int
    raised_s: float
    prompts: bool
    decoding: int
    waits_for_place: bool
    last_step_s: tuple[float, ...]
    whole_step_s: tuple[float, ...]
    every_token: bool
    excess_s: float
    ttft_part: tuple[float, ...]
    tbt_limit_s: float
    trust: float
    usual_there: float
    max_batch: int


@dataclass(frozen=True, slots=True)
class Setting:
    """What a replica is set to.

    Attributes
    ----------
    clock : int
        Place in `Observation.clocks`.
    batch_cap : int
        Most sequences in the batch.
    """

    clock: int
    batch_cap: int


class Controller(Protocol):
    """Sets a replica, at the beginning of each block of steps: a function of values.

    Two more layers may be put above it without changing it: one that counts replicas and chooses
    their tensor parallelism (minutes), and one that moves load between them.
    """

    def step(self, observation: Observation, now_s: float) -> Setting:
        """What a replica is set to from now on."""
        ...
