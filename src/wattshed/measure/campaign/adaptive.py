"""The next cell of an adaptive campaign: where a wrong decision against a rival is likely and dear.

A plan sends a query to the system that takes less energy. What a further cell is worth is therefore
not how badly a curve fits there, but what choosing wrongly would cost there, times how likely that
is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from wattshed.fit.campaign import score_forms, select_form
from wattshed.fit.forms import FORMS, Array, Form
from wattshed.fit.score import bootstrap, bootstrap_weights
from wattshed.measure.campaign.grid import Cell

DRAWS = 200
Z = 1.959964
"""Standard deviations on either side of a 95 % interval."""


def choose(
    cells: Sequence[Cell],
    energy_j: Mapping[int, Sequence[float | None]],
    rival: tuple[Sequence[float], Sequence[float], Sequence[float]],
    seed: int,
    skipped: Collection[int] = (),
) -> int | None:
    """Cell where measuring promises most; None where every decision is certain, or none is left.

    Parameters
    ----------
    cells : sequence of Cell
        Candidates.
    energy_j : mapping of int to sequence of float or None
        Energy of one query, by trial and cell, so far.
    rival : (value, low, high)
        Of the other system, by cell.
    seed : int
    skipped : collection of int
        Cells that cannot be measured.
    """
    left = [i for i in range(len(cells)) if i not in energy_j and i not in skipped]
    if not left:
        return None
    own = energy_draws(cells, energy_j, seed)
    if own is None:  # too little is known to predict: the first that is left
        return left[0]
    value, low, high = (np.asarray(column, float) for column in rival)
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    other = value + (high - low) / (2 * Z) * rng.standard_normal(own.shape)
    loss = expected_loss(own, other)[left]
    return left[int(np.argmax(loss))] if loss.max() > 0 else None


def expected_loss(own_j: Array, rival_j: Array) -> Array:
    """Joules per query that the better guess loses on average, because it may be wrong.

    It is the probability of the wrong decision times its mean cost when it is wrong.

    Parameters
    ----------
    own_j, rival_j : arrays (B, Q)
        Draws of the energy of Q queries on either system.

    Returns
    -------
    loss : array (Q,)
    """
    more = own_j - rival_j
    guess = np.sign(more.mean(axis=0))
    return np.asarray(np.maximum(-guess * more, 0.0).mean(axis=0))


def energy_draws(
    cells: Sequence[Cell], energy_j: Mapping[int, Sequence[float | None]], seed: int
) -> Array | None:
    """Draws (B, Q) of the energy of all cells from a quick fit to those that were measured.

    Its form is the one that `wattshed fit` would choose. None where fewer cells than coefficients,
    and one more, have energy.
    """
    known = {
        i: found
        for i, trials in energy_j.items()
        if (found := [e for e in trials if e is not None])
    }
    index = list(known)
    m = np.array([cell.input_tokens for cell in cells], float)
    n = np.array([cell.output_tokens for cell in cells], float)
    mean = np.array([np.mean(trials) for trials in known.values()])
    form = _form(m[index], n[index], mean, cells[0].kv_cache)
    if len(known) <= len(form.parameters):
        return None
    error = np.array(
        [np.std(t, ddof=1) / len(t) ** 0.5 if len(t) > 1 else 0.0 for t in known.values()]
    )
    rng = np.random.default_rng(np.random.SeedSequence([seed, 0]))
    weight = bootstrap_weights(len(index), DRAWS, rng)
    theta = bootstrap(form, m[index], n[index], mean, error, weight, rng)
    return form.predict(theta, m, n)


def _form(m: Array, n: Array, energy_j: Array, kv_cache: bool | None) -> Form:
    """The form that fits best, by the rule of `wattshed fit`."""
    return FORMS[select_form(*score_forms(m, n, energy_j, kv_cache))]
