"""What requests made their engines do, from what the gateway saw of them.

The gateway sees when a request was sent and when its tokens came, not the steps of the engine.
Prompts are taken to be processed one after the other, first come, first served; each later token is
taken for one step that all who were decoding shared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from wattshed.engines.model import BatchingDeployment, StepModel
from wattshed.records import Deployment, IterationProfile
from wattshed.replicas import batching
from wattshed.serve.attribution import Array, Resident

TOGETHER = 0.25
"""Part of the time of a step within which first tokens are taken to be of one step."""


@dataclass(slots=True, eq=False)
class Stay:
    """A request at an endpoint; written while it is there.

    Attributes
    ----------
    id, endpoint : str
    sent_s : float
    input_tokens : int
    token_s : list of (float, int)
        When tokens came, and how many; of an answer that is not streamed nothing.
    output_tokens : int
        Known at the end.
    end_s : float or None
        None while it is there.
    modelled_j : float or None
        Of its receipt.
    joules, idle_joules : float
        That were attributed so far.
    whole : bool
        Whether all of its time so far was metered.
    began_s, first_s : float or None
        When its prompt was begun and through; None while that is not known.
    forgotten : int
        Tokens before those in `token_s`.
    """

    id: str
    endpoint: str
    sent_s: float
    input_tokens: int
    token_s: list[tuple[float, int]] = field(default_factory=list)
    output_tokens: int = 0
    end_s: float | None = None
    modelled_j: float | None = None
    joules: float = 0.0
    idle_joules: float = 0.0
    whole: bool = True
    began_s: float | None = None
    first_s: float | None = None
    forgotten: int = 0

    def forget(self, until_s: float) -> None:
        """Let go of tokens before a moment but the last of them, at which the next was begun."""
        past = 0
        while past + 1 < len(self.token_s) and self.token_s[past + 1][0] <= until_s:
            past += 1
        self.forgotten += sum(count for _, count in self.token_s[:past])
        del self.token_s[:past]

    def settled(self, at_s: float) -> bool:
        """Whether what it did up to a moment is known."""
        return self.end_s is not None or bool(self.token_s and self.token_s[-1][0] >= at_s)


@dataclass(frozen=True)
class StepWeights:
    """What the parts of a request cost above the idle power, J, by an iteration profile.

    Attributes
    ----------
    by_batch_j : array (B + 1,)
        A step of so many decoding sequences.
    context_j : float
        For each token of context.
    saved_j : float
        In a step that decodes and processes prompts.
    engine : BatchingDeployment
    """

    by_batch_j: Array
    context_j: float
    saved_j: float
    engine: BatchingDeployment

    def prefill_j(self, tokens: int) -> float:
        """A prompt alone, in chunks."""
        engine = self.engine
        gross_j, seconds = (
            _prefill(model, tokens, engine.chunk_tokens) for model in (engine.energy, engine.time)
        )
        return max(0.0, gross_j - engine.idle_power_w * seconds)

    def prompt_j(self, tokens: int, prompts: int, beside: int) -> float:
        """Prompts that share their steps with so many who decode.

        Their steps save what would be read twice. It falls to whoever comes second, of prompts and
        decoding requests in an order at random: to the few prompts in most orders.
        """
        saved_j = self.saved_j * math.ceil(tokens / self.engine.chunk_tokens)
        return max(0.0, self.prefill_j(tokens) - saved_j * beside / (beside + prompts))

    def decode_j(self, batch: NDArray[np.int64], context: Array) -> Array:
        """One token (N,), where so many decode together and the request holds so much context."""
        batch = np.clip(batch, 1, len(self.by_batch_j) - 1)
        return np.maximum(0.0, self.by_batch_j[batch] / batch + self.context_j * context)

    def prefill_part(self, input_tokens: int, output_tokens: int) -> float:
        """Part of the time of a request alone that its prompt takes."""
        time = self.engine.time
        prompt_s = _prefill(time, input_tokens, self.engine.chunk_tokens)
        step_s = float(time.by_batch[1]) + time.per_context_token * input_tokens
        return prompt_s / (prompt_s + max(0, output_tokens - 1) * step_s)


def step_weights(deployment: Deployment) -> StepWeights | None:
    """The weights of a deployment; None where its profile knows no steps."""
    if not isinstance(deployment.profile, IterationProfile):
        return None
    engine = batching(deployment, deployment.profile)
    idle_w, time, energy = engine.idle_power_w, engine.time, engine.energy
    net_j = energy.by_batch - idle_w * time.by_batch
    context_j = energy.per_context_token - idle_w * time.per_context_token
    return StepWeights(net_j, context_j, energy.saved - idle_w * time.saved, engine)


def _prefill(model: StepModel, tokens: int, chunk: int) -> float:
    """Seconds or joules of a prompt alone."""
    full, rest = divmod(max(1, tokens), chunk)
    steps = full + (rest > 0)
    found = steps * float(model.by_batch[0]) + model.per_prompt_token * tokens
    found += model.per_prompt_pair * tokens**2 / 2
    if model.prompt is not None:
        found += full * float(model.prompt.of([chunk])[0])
        found += float(model.prompt.of([rest])[0]) if rest else 0.0
    return found


def residents_of(
    stays: Sequence[Stay], weights: Mapping[str, StepWeights | None]
) -> list[Resident]:
    """Requests with their work, in the order of the stays.

    Parameters
    ----------
    stays : sequence of Stay
        All that were there in some time, and whose work up to its end is known.
    weights : mapping
        Of each endpoint; None where no steps are known: then work is time.
    """
    found: dict[int, Resident] = {}
    for endpoint, known in weights.items():
        those = [i for i, stay in enumerate(stays) if stay.endpoint == endpoint]
        own = [stays[i] for i in those]
        made = by_time(own) if known is None else by_steps(own, known)
        found.update(zip(those, made, strict=True))
    return [found[i] for i in range(len(stays))]


def by_time(stays: Sequence[Stay]) -> list[Resident]:
    """Engines of single queries, first come, first served: all their time is work.

    One that takes several at once after all shows it: tokens come of those that would wait.
    """
    found, free_s = [], -math.inf
    for stay in sorted(stays, key=lambda s: s.sent_s):
        end_s = math.inf if stay.end_s is None else stay.end_s
        begin_s = min(max(stay.sent_s, free_s), end_s)
        if stay.token_s:
            begin_s = min(begin_s, stay.token_s[0][0])
        # Of one that is not over, each second up to any window's end weighs one, too.
        until_s = end_s
        if stay.end_s is None:
            until_s = stay.token_s[-1][0] if stay.token_s else begin_s
        piece = np.array([begin_s]), np.array([until_s]), np.array([until_s - begin_s])
        found.append((stay, Resident(stay.endpoint, stay.sent_s, end_s, *piece)))
        free_s = max(free_s, until_s)
    by_stay = {id(stay): resident for stay, resident in found}
    return [by_stay[id(stay)] for stay in stays]


def by_steps(stays: Sequence[Stay], weights: StepWeights) -> list[Resident]:
    """An engine that batches."""
    times = [token_times(stay, weights) for stay in stays]
    note_prompts(stays, times)
    first = np.sort([stay.first_s for stay, t in zip(stays, times, strict=True) if len(t)])
    last = np.sort([_last_s(stay, t) for stay, t in zip(stays, times, strict=True) if len(t)])
    prompts = prompts_j(stays, first, last, weights)
    return [
        _resident(stay, t, prompt_j, first, last, weights)
        for stay, t, prompt_j in zip(stays, times, prompts, strict=True)
    ]


def prompts_j(
    stays: Sequence[Stay], first: Array, last: Array, weights: StepWeights
) -> list[float]:
    """Weights of prompts: those that were through at about the same time shared their steps."""
    if not stays:
        return []
    apart_s = TOGETHER * float(weights.engine.time.by_batch[1])
    ended = np.array([math.inf if stay.first_s is None else stay.first_s for stay in stays])
    order = np.argsort(ended, kind="stable")
    with np.errstate(invalid="ignore"):  # of neither is known when it was through: inf - inf
        group = np.cumsum(np.append(1, ~(np.diff(ended[order]) <= apart_s)))
    tokens = np.array([stay.input_tokens for stay in stays], float)
    found = np.zeros(len(stays))
    for number in range(1, group[-1] + 1):
        those = order[group == number]
        together = tokens[those].sum()
        at_s = ended[those[0]]
        beside = int(np.searchsorted(first, at_s) - np.searchsorted(last, at_s))
        cost_j = weights.prompt_j(int(together), len(those), beside)
        found[those] = cost_j * tokens[those] / max(1.0, together)
    return found.tolist()


def _last_s(stay: Stay, times: Array) -> float:
    return math.inf if stay.end_s is None else float(times[-1])


def _resident(
    stay: Stay, times: Array, prompt_j: float, first: Array, last: Array, weights: StepWeights
) -> Resident:
    end_s = math.inf if stay.end_s is None else stay.end_s
    began_s = stay.sent_s if stay.began_s is None else stay.began_s
    prompt_end_s = max(began_s, end_s) if stay.first_s is None else stay.first_s
    later = times[1:]
    batch = np.searchsorted(first, later, "left") - np.searchsorted(last, later, "left")
    context = stay.input_tokens + stay.forgotten + np.arange(1.0, len(later) + 1)
    return Resident(
        stay.endpoint,
        stay.sent_s,
        end_s,
        np.concatenate(([began_s], times[:-1])),
        np.concatenate(([prompt_end_s], later)),
        np.concatenate(([prompt_j], weights.decode_j(batch, context))),
    )


def token_times(stay: Stay, weights: StepWeights) -> Array:
    """When the tokens of a request were there (N,), as seen or, where it was not streamed, made up.

    The first follows its prompt; the others come evenly until the end.
    """
    seen = tuple(stay.token_s)
    if seen:
        return np.repeat([at for at, _ in seen], [count for _, count in seen])
    n = stay.output_tokens
    if stay.end_s is None or n < 1:
        return np.zeros(0)
    part = weights.prefill_part(stay.input_tokens, n)
    first_s = stay.sent_s + part * (stay.end_s - stay.sent_s)
    return np.linspace(first_s, stay.end_s, n) if n > 1 else np.array([stay.end_s])


def note_prompts(stays: Sequence[Stay], times: Sequence[Array]) -> None:
    """Note when prompts were begun: once they were sent, and those before them were through."""
    new = []
    for stay, t in zip(stays, times, strict=True):
        if stay.first_s is None and len(t):
            stay.first_s = float(t[0])
            new.append((stay, stay.first_s))
    ends = np.sort([stay.first_s for stay in stays if stay.first_s is not None])
    for stay, first_s in new:
        before = int(np.searchsorted(ends, first_s, "left"))
        free_s = float(ends[before - 1]) if before else -math.inf
        stay.began_s = min(max(stay.sent_s, free_s), first_s)
