"""Fit a form to cells, many reweighted problems at once.

Every solver has one signature, so a fit, its leave-one-cell-out folds and its
bootstrap draws are the same call with other weights:

    solve(form, m (N,), n (N,), y (B, N), weight (B, N)) -> theta (B, P)

`weight` is how often a cell counts in a problem: 0 leaves it out, 2 draws it twice.
Residuals are relative (y spans four decades); Huber weights hold down outliers.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np

from wattshed.fit.forms import Array, Form, pass_nodes, roofline_sums

HUBER = 1.345
"""Huber's constant: 95 % efficiency under normal residuals (Huber 1964)."""
MAX_ROBUST_ROUNDS = 12
MAX_LM_ROUNDS = 60
STOP = 1e-6
"""Relative decrease of the loss below which a problem is done."""
_LOW = np.array([-60.0, -60.0, -60.0, np.log(0.02)])
_HIGH = np.array([60.0, 60.0, 60.0, np.log(30.0)])


def solve(form: Form, m: Array, n: Array, y: Array, weight: Array) -> Array:
    """Fit `form` to B weighted problems over the same cells.

    Parameters
    ----------
    form : Form
    m, n : arrays (N,)
        Input and output tokens of the cells.
    y : array (B, N) or (N,)
        Energy in J or runtime in s, positive.
    weight : array (B, N)
        Multiplicity of each cell in each problem, >= 0.

    Returns
    -------
    theta : array (B, P)
    """
    y = np.broadcast_to(np.asarray(y, float), weight.shape)
    if form.solver == "log-positive":
        return _solve_roofline(m, n, y, weight)
    assert form.design is not None
    columns = form.design(m, n)
    if form.solver == "least-squares":
        return least_squares(columns, y, weight)
    return _robust_non_negative(columns, y, weight)


def least_squares(columns: Array, y: Array, weight: Array) -> Array:
    """Ordinary least squares of each problem: absolute residuals, no robustness.

    Parameters
    ----------
    columns : array (N, P)
    y, weight : arrays (B, N)

    Returns
    -------
    theta : array (B, P)
    """
    scale = np.sqrt((columns**2).mean(0))
    root = np.sqrt(weight)
    left = root[:, :, None] * (columns / scale)
    theta = np.linalg.pinv(left) @ (root * y)[:, :, None]
    return np.asarray(theta[:, :, 0] / scale)


def non_negative(columns: Array, target: Array, weight: Array) -> Array:
    """Weighted non-negative least squares of each problem, exactly.

    With P <= 6 columns the active set is found by trying all of them, which is one
    batched solve per subset and therefore faster than B calls of an iterative solver.

    Parameters
    ----------
    columns : array (B, N, P) or (N, P)
    target, weight : arrays (B, N)

    Returns
    -------
    theta : array (B, P)
        Minimises ``sum_i weight_i (target_i - columns_i theta)^2`` over theta >= 0.
    """
    columns = np.broadcast_to(columns, (*weight.shape, columns.shape[-1]))
    size = columns.shape[-1]
    scale = np.sqrt(np.einsum("bn,bnp->bp", weight, columns**2))
    scale[scale == 0] = 1.0
    unit = columns / scale[:, None, :]
    weighted = unit * weight[:, :, None]
    gram = weighted.swapaxes(1, 2) @ unit
    moment = np.einsum("bnp,bn->bp", weighted, target)
    best = np.zeros_like(moment)
    best_loss = np.zeros(len(moment))
    for count in range(1, size + 1):
        for subset in combinations(range(size), count):
            pick = list(subset)
            part = gram[:, pick][:, :, pick] + 1e-13 * np.eye(count)
            theta = np.linalg.solve(part, moment[:, pick, None])[:, :, 0]
            loss = -np.einsum("bp,bp->b", theta, moment[:, pick])
            better = (theta >= 0).all(1) & (loss < best_loss)
            best[better] = 0.0
            best[np.ix_(better, pick)] = theta[better]
            best_loss[better] = loss[better]
    return np.asarray(best / scale)


def _huber_weight(residual: Array, weight: Array) -> Array:
    """Weights 1 inside HUBER robust standard deviations, falling as 1/|r| outside."""
    size = np.abs(residual)
    counted = np.where(weight > 0, size, np.nan)
    spread = 1.4826 * np.nanmedian(counted, axis=1, keepdims=True)
    limit = HUBER * np.maximum(spread, 1e-12)
    return np.asarray(np.minimum(1.0, limit / np.maximum(size, 1e-300)))


def _robust_non_negative(columns: Array, y: Array, weight: Array) -> Array:
    relative = columns[None] / y[:, :, None]
    ones = np.ones_like(y)
    trust = ones
    theta = non_negative(relative, ones, weight)
    for _ in range(MAX_ROBUST_ROUNDS):
        residual = 1.0 - np.einsum("bnp,bp->bn", relative, theta)
        trust = _huber_weight(residual, weight)
        new = non_negative(relative, ones, weight * trust)
        change = np.abs(new - theta).max() / max(float(np.abs(theta).max()), 1e-300)
        theta = new
        if change < 1e-9:
            break
    return theta


def _roofline_start(m: Array, n: Array, y: Array, weight: Array) -> Array:
    """Start from the floor and the slope that the phase columns suggest."""
    per_pass = y / n
    middle = m + n / 2
    inside = np.where(weight > 0, per_pass, np.inf)
    a = inside.min(1)
    b = np.nanmedian(np.where(weight > 0, per_pass / middle, np.nan), axis=1) * 0.5
    c = b / middle.max() * 0.1
    return np.asarray(np.log(np.stack([a, b, c, np.full_like(a, 2.0)], axis=1)))


def _roofline_residual(
    log_theta: Array, length: Array, node: Array, log_y: Array
) -> tuple[Array, Array]:
    theta = np.exp(log_theta)
    theta[:, 3] += 1.0
    total, gradient = roofline_sums(theta, length, node)
    return np.log(total) - log_y, gradient / total[..., None]


def _solve_roofline(m: Array, n: Array, y: Array, weight: Array) -> Array:
    """Levenberg-Marquardt on log residuals, all problems abreast.

    One fit of all cells gives the start and the robust scale that every problem uses.
    """
    length, node = pass_nodes(m, n)
    log_y = np.log(y)
    common_y = log_y.mean(0, keepdims=True)
    common = weight.sum(0, keepdims=True)
    x = _roofline_start(m, n, np.exp(common_y), common)
    x = _levenberg(length, node, common_y, common, x, np.inf)
    residual, _ = _roofline_residual(x, length, node, common_y)
    scale = HUBER * max(1.4826 * float(np.median(np.abs(residual[common > 0]))), 1e-9)
    x = _levenberg(length, node, log_y, weight, np.repeat(x, len(weight), axis=0), scale)
    theta = np.exp(x)
    theta[:, 3] += 1.0
    return theta


def _huber(residual: Array, weight: Array, scale: float) -> tuple[Array, Array]:
    """Huber loss (B,) and the weights of its quadratic majoriser (B, N)."""
    size = np.abs(residual)
    outside = size > scale
    with np.errstate(invalid="ignore"):
        rho = np.where(outside, scale * (2 * size - scale), size**2)
        trust = np.where(outside, scale / np.maximum(size, 1e-300), 1.0)
    return (weight * rho).sum(1), weight * trust


def _levenberg(
    length: Array, node: Array, log_y: Array, weight: Array, x: Array, scale: float
) -> Array:
    """Minimise the Huber loss of each problem from x (B, 4); returns x (B, 4)."""
    x = x.copy()
    damping = np.full(len(x), 1e-2)
    residual, jacobian = _roofline_residual(x, length, node, log_y)
    loss, trust = _huber(residual, weight, scale)
    active = np.arange(len(x))
    for _ in range(MAX_LM_ROUNDS):
        weighted = jacobian[active] * trust[active, :, None]
        hessian = weighted.swapaxes(1, 2) @ jacobian[active]
        slope = np.einsum("bnp,bn->bp", weighted, residual[active])
        ridge = damping[active, None] * (np.einsum("bpp->bp", hessian) + 1e-9)
        system = hessian + ridge[:, :, None] * np.eye(4)
        step = np.linalg.solve(system, -slope[:, :, None])[:, :, 0]
        trial = np.clip(x[active] + np.clip(step, -2.0, 2.0), _LOW, _HIGH)
        new_residual, new_jacobian = _roofline_residual(trial, length, node, log_y[active])
        new_loss, new_trust = _huber(new_residual, weight[active], scale)
        good = new_loss <= loss[active]
        taken, refused = active[good], active[~good]
        small = loss[active] - new_loss < STOP * loss[active]
        still = np.where(good, ~small, damping[active] < 1e6)
        x[taken], residual[taken], jacobian[taken] = (
            trial[good],
            new_residual[good],
            new_jacobian[good],
        )
        loss[taken], trust[taken] = new_loss[good], new_trust[good]
        damping[taken] = np.maximum(damping[taken] / 5, 1e-9)
        damping[refused] *= 4
        active = active[still]
        if not active.size:
            break
    return x
