"""The shapes that energy and runtime of one query can take in (m, n).

m input tokens, n output tokens. Without a KV cache the i-th output token costs a
full pass over L_i = m + i tokens (i = 0 .. n - 1), so everything below is written
with the sums over passes

    S1 = sum L_i   = n m + n (n - 1) / 2
    S2 = sum L_i^2 = n m^2 + m n (n - 1) + (n - 1) n (2 n - 1) / 6

A form is a name, its parameters and one function that predicts. Linear forms
(`bilinear`, `phase`, `kv-phase`) are columns times coefficients; `roofline` is a sum
over passes of a smooth maximum of a floor and a work term (Williams et al. 2009,
doi:10.1145/1498765.1498785). Add a form by adding it to `FORMS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Solver = Literal["least-squares", "non-negative", "log-positive"]

_NODES = 12
_GAUSS_X, _GAUSS_W = np.polynomial.legendre.leggauss(_NODES)


@dataclass(frozen=True)
class Form:
    """One shape of e(m, n) or r(m, n).

    Attributes
    ----------
    name : str
        Name in files and on the command line.
    parameters : tuple of str
        Names of the coefficients, in the order of `predict`'s last axis.
    solver : {"least-squares", "non-negative", "log-positive"}
        Which of the solvers in `wattshed.fit.solvers` fits it.
    formula : str
        The form as people write it.
    kv_cache : bool or None
        The kind of engine that the form describes; None if it fits either.
    predict : callable
        ``predict(theta (..., P), m (Q,), n (Q,)) -> (..., Q)`` in J or s.
    design : callable or None
        ``design(m, n) -> (Q, P)`` columns of a linear form.
    """

    name: str
    parameters: tuple[str, ...]
    solver: Solver
    formula: str
    kv_cache: bool | None
    predict: Callable[[Array, Array, Array], Array]
    design: Callable[[Array, Array], Array] | None = None


def context_sums(m: Array, n: Array) -> tuple[Array, Array]:
    """Sums of L and of L squared over the n passes of a query.

    Parameters
    ----------
    m, n : arrays (Q,)
        Input and output tokens.

    Returns
    -------
    s1, s2 : arrays (Q,)
        Sum of context lengths (tokens) and of their squares (tokens squared).
    """
    s1 = n * m + n * (n - 1) / 2
    s2 = n * m**2 + m * n * (n - 1) + (n - 1) * n * (2 * n - 1) / 6
    return s1, s2


def _bilinear(m: Array, n: Array) -> Array:
    return np.stack([m, n, m * n], axis=-1)


def _bilinear_intercept(m: Array, n: Array) -> Array:
    return np.stack([np.ones_like(m), m, n, m * n], axis=-1)


def _phase(m: Array, n: Array) -> Array:
    s1, s2 = context_sums(m, n)
    return np.stack([n, s1, s2], axis=-1)


def _kv_phase(m: Array, n: Array) -> Array:
    s1, _ = context_sums(m, n)
    return np.stack([np.ones_like(m), m, m**2, n, s1], axis=-1)


def pass_nodes(m: Array, n: Array) -> tuple[Array, Array]:
    """Context lengths and weights that sum a smooth function over a query's passes.

    Exact for n <= 12 (one node for each pass); beyond that Gauss-Legendre over
    [m - 1/2, m + n - 1/2], whose midpoint error is below 1e-4 for the curves used here.

    Parameters
    ----------
    m, n : arrays (Q,)
        Input and output tokens.

    Returns
    -------
    length, weight : arrays (Q, 12)
        ``(weight * f(length)).sum(-1)`` approximates the sum of f over the passes.
    """
    m, n = np.broadcast_arrays(np.asarray(m, float), np.asarray(n, float))
    steps = np.arange(_NODES)
    exact_length = m[:, None] + np.minimum(steps, np.maximum(n[:, None] - 1, 0))
    exact_weight = np.clip(n[:, None] - steps, 0.0, 1.0)
    half = n[:, None] / 2
    gauss_length = m[:, None] - 0.5 + half * (1 + _GAUSS_X)
    gauss_weight = half * _GAUSS_W
    short = (n <= _NODES)[:, None]
    return np.where(short, exact_length, gauss_length), np.where(short, exact_weight, gauss_weight)


def _roofline_parts(theta: Array, length: Array) -> tuple[Array, Array, Array, Array]:
    """Cost of a pass, share of the work term, log(work / floor) and log1p term."""
    a, b, c, p = (theta[..., i, None, None] for i in range(4))
    ratio = np.log((b * length + c * length**2) / a)
    z = p * ratio
    small = np.exp(-np.abs(z))
    softplus = np.maximum(z, 0.0) + np.log1p(small)
    share = np.where(z > 0, 1.0, small) / (1.0 + small)
    return a * np.exp(softplus / p), share, ratio, softplus


def roofline_sums(theta: Array, length: Array, node: Array) -> tuple[Array, Array]:
    """Cost of queries and its gradient in the logarithms of (a, b, c, p - 1).

    Parameters
    ----------
    theta : array (B, 4)
        a (J or s per pass), b (per token), c (per token squared), p > 1 (sharpness).
    length, node : arrays (N, K)
        Context lengths and weights of the passes, from `pass_nodes`.

    Returns
    -------
    total : array (B, N)
    gradient : array (B, N, 4)
    """
    cost, share, ratio, softplus = _roofline_parts(theta, length)
    b, c, p = (theta[..., i, None, None] for i in (1, 2, 3))
    weighted = cost * node
    work = weighted * share
    total, work_total = weighted.sum(-1), work.sum(-1)
    linear = (work * (b / (b + c * length))).sum(-1)
    sharpness = ((work * ratio - weighted * (softplus / p)).sum(-1)) * ((p - 1) / p)[..., 0]
    gradient = np.stack([total - work_total, linear, work_total - linear, sharpness], axis=-1)
    return total, gradient


def _predict_roofline(theta: Array, m: Array, n: Array) -> Array:
    """Sum the cost of a pass over each query's passes, by differences of running sums.

    The running sum over all context lengths is exact and costs one evaluation per length,
    however many queries there are. Queries with fractional tokens or very long contexts
    are summed by `pass_nodes` instead.
    """
    theta = np.asarray(theta, float)
    m, n = np.broadcast_arrays(np.asarray(m, float), np.asarray(n, float))
    longest = int((m + n).max(initial=1))
    whole = bool((m == m.round()).all() and (n == n.round()).all())
    if not whole or longest > _NODES * len(m):
        length, weight = pass_nodes(m, n)
        return np.asarray((_roofline_parts(theta, length)[0] * weight).sum(-1))
    start = m.astype(np.int64) - 1
    stop = start + n.astype(np.int64)
    lengths = np.arange(1, longest + 1, dtype=float)
    flat = theta.reshape(-1, theta.shape[-1])
    total = np.empty((len(flat), len(m)))
    for row, parameters in enumerate(flat):
        cost = _roofline_parts(parameters, lengths[None, :])[0]
        running = np.concatenate([[0.0], np.cumsum(cost[0])])
        total[row] = running[stop] - running[start]
    return total.reshape(*theta.shape[:-1], len(m))


def _linear(
    name: str,
    parameters: tuple[str, ...],
    solver: Solver,
    formula: str,
    kv_cache: bool | None,
    design: Callable[[Array, Array], Array],
) -> Form:
    def predict(theta: Array, m: Array, n: Array) -> Array:
        return np.asarray(np.asarray(theta, float) @ design(m, n).T)

    return Form(name, parameters, solver, formula, kv_cache, predict, design)


FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        _linear(
            "bilinear",
            ("m", "n", "mn"),
            "least-squares",
            "a0 m + a1 n + a2 m n",
            None,
            _bilinear,
        ),
        _linear(
            "phase",
            ("n", "s1", "s2"),
            "non-negative",
            "c0 n + c1 S1 + c2 S2",
            False,
            _phase,
        ),
        Form(
            "roofline",
            ("a", "b", "c", "p"),
            "log-positive",
            "sum_i (a^p + (b L_i + c L_i^2)^p)^(1/p)",
            False,
            _predict_roofline,
        ),
        _linear(
            "kv-phase",
            ("prefill", "prefill_m", "prefill_m2", "step", "step_context"),
            "non-negative",
            "a + b m + c m^2 + n d + f S1",
            True,
            _kv_phase,
        ),
    )
}

BILINEAR_INTERCEPT = _linear(
    "bilinear-intercept",
    ("1", "m", "n", "mn"),
    "least-squares",
    "a + a0 m + a1 n + a2 m n",
    None,
    _bilinear_intercept,
)
"""The study's form with the constant that its printed R2, F and p sometimes include."""
