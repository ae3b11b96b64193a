"""From runs to profiles: rules, cells, every form scored, the best one kept with its draws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl

from wattshed.errors import ParameterError, TableError
from wattshed.fit.cells import Cells, choose_boundary, make_cells
from wattshed.fit.forms import BILINEAR_INTERCEPT, FORMS, Array, Form
from wattshed.fit.ols import RankError, ols
from wattshed.fit.rules import (
    DROPPED,
    drop_flagged,
    drop_without_energy,
    pick_experiment,
    subtract_pause,
)
from wattshed.fit.score import (
    bootstrap,
    bootstrap_weights,
    count_negative,
    finite_or_none,
    score_form,
)
from wattshed.fit.solvers import solve
from wattshed.records import FormScore, Interval, Profile, QueryModel, Regression
from wattshed.runs import SETTINGS, Runs, any_modelled

DRAWS = 200
MIN_CELLS = 4


@dataclass(frozen=True)
class Options:
    """How to fit.

    Attributes
    ----------
    form : str
        A name in `FORMS`, or ``auto`` for the least leave-one-cell-out error.
    drop : tuple of str
        Flags whose rows are left out.
    pause_correction : bool
        Take a known pause inside the timed call off the runtime.
    experiment : str
        ``auto``, ``all``, or names joined by ``+``; see `wattshed.fit.rules`.
    boundary : str
        ``auto``, ``accelerator`` or ``host``.
    draws : int
        Bootstrap draws for intervals; 0 for none.
    seed : int
    """

    form: str = "auto"
    drop: tuple[str, ...] = DROPPED
    pause_correction: bool = True
    experiment: str = "auto"
    boundary: str = "auto"
    draws: int = DRAWS
    seed: int = 0


def fit_profiles(
    runs: Runs,
    options: Options | None = None,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> list[Profile]:
    """Fit a profile to each deployment in `runs`.

    A deployment none of whose rows has energy gets a profile of its runtime alone. Where some have
    it, the others are left out (rule ``no_energy``).

    Parameters
    ----------
    runs : Runs
        From `read_runs`.
    options : Options, optional
    on_progress : callable, optional
        Called with (name, done, total) as profiles are fitted.

    Returns
    -------
    list of Profile
        Sorted by name.

    Raises
    ------
    ParameterError, TableError
        On an unknown form or flag, or too few cells.
    """
    options = options or Options()
    if options.form != "auto" and options.form not in FORMS:
        raise ParameterError(
            "--form", f"{options.form!r} is unknown", f"use auto or one of {', '.join(FORMS)}"
        )
    groups = runs.table.partition_by(list(SETTINGS), maintain_order=True)
    named = sorted(zip(_profile_names(groups), groups, strict=True), key=lambda pair: pair[0])
    profiles = []
    for done, (name, table) in enumerate(named):
        if on_progress:
            on_progress(runs.prefix + name, done, len(named))
        profiles.append(_fit_one(runs, runs.prefix + name, table, options))
    return profiles


def _profile_names(groups: list[pl.DataFrame]) -> list[str]:
    """system/model, with the settings that tell deployments apart behind an @."""
    base = [f"{g['system'][0]}/{g['model'][0]}" for g in groups]
    settings = [
        ",".join(
            f"{key}={g[key][0]}" for key in SETTINGS[2:] if g[key][0] is not None and varies[key]
        )
        for g in groups
        for varies in [_varying(groups, g)]
    ]
    return [f"{b}@{s}" if s else b for b, s in zip(base, settings, strict=True)]


def _varying(groups: list[pl.DataFrame], group: pl.DataFrame) -> dict[str, bool]:
    """Which settings differ among the groups of the same system and model."""
    same = [
        g
        for g in groups
        if g["system"][0] == group["system"][0] and g["model"][0] == group["model"][0]
    ]
    return {key: len({g[key][0] for g in same}) > 1 for key in SETTINGS}


def _fit_one(runs: Runs, name: str, table: pl.DataFrame, options: Options) -> Profile:
    first = table.row(0, named=True)
    table, rules = drop_flagged(table, options.drop)
    if options.pause_correction:
        table, paused = subtract_pause(table)
        rules += paused
    table, picked = pick_experiment(table, options.experiment)
    table, unmetered = drop_without_energy(table)
    table, boundary, negative = choose_boundary(table, options.boundary)
    cells = make_cells(table, boundary)
    if len(cells) < MIN_CELLS:
        raise TableError(
            f"{runs.name}: {name}",
            f"{len(cells)} distinct (input_tokens, output_tokens) cells remain after the rules",
            f"measure at least {MIN_CELLS}, or keep more rows (--keep FLAG)",
        )
    if (cells.runtime_s <= 0).any():
        raise TableError(
            f"{runs.name}: {name}",
            "a runtime is not positive after the pause correction",
            "check the flag pause_2s, or use --no-pause-correction",
        )
    rng = np.random.default_rng(np.random.SeedSequence([options.seed, *name.encode()]))
    weight = bootstrap_weights(len(cells), options.draws, rng)
    kv_cache = first["kv_cache"]
    energy = None
    if cells.have_energy:
        energy = _fit_quantity(
            cells, cells.energy_j, cells.energy_error_j, weight, rng, options.form, kv_cache
        )
    runtime = _fit_quantity(
        cells, cells.runtime_s, cells.runtime_error_s, weight, rng, options.form, kv_cache
    )
    return Profile(
        name=name,
        system=first["system"],
        model=first["model"],
        accelerator=first["accelerator"] or "",
        n_accelerators=first["n_accelerators"],
        boundary=boundary,
        kind="modelled" if any_modelled(table) else "derived",
        energy=energy,
        runtime=runtime,
        domain=cells.domain,
        kv_cache=kv_cache,
        cells=len(cells),
        trials=int(cells.trials.sum()),
        rules=[r for r in [*rules, *picked, *unmetered, *negative] if r.rows],
        provenance=runs.provenance,
    )


def _fit_quantity(
    cells: Cells,
    y: Array,
    error: Array,
    weight: Array,
    rng: np.random.Generator,
    wanted: str,
    kv_cache: bool | None,
) -> QueryModel:
    """Score all forms on one quantity, select one and draw its coefficients."""
    scores, skipped = score_forms(cells.m, cells.n, y, kv_cache)
    chosen = wanted if wanted != "auto" else select_form(scores, skipped)
    if chosen not in scores:
        raise ParameterError("--form", f"{chosen}: {skipped[chosen]}", "measure more cells")
    form = FORMS[chosen]
    theta = solve(form, cells.m, cells.n, y, np.ones((1, len(cells))))[0]
    draws = (
        bootstrap(form, cells.m, cells.n, y, error, weight, rng)
        if len(weight)
        else np.empty((0, len(theta)))
    )
    return QueryModel(
        form=chosen,
        coefficients=dict(zip(form.parameters, theta.tolist(), strict=True)),
        intervals=_intervals(form, draws),
        draws=[[float(f"{x:.6g}") for x in row] for row in draws],
        forms=scores,
        skipped=skipped,
        regression=_regressions(cells, y),
    )


def _regressions(cells: Cells, y: Array) -> dict[str, Regression]:
    """The studies' form by ordinary least squares, without and with a constant."""
    found = {}
    for name, form in (
        ("without_intercept", FORMS["bilinear"]),
        ("with_intercept", BILINEAR_INTERCEPT),
    ):
        assert form.design is not None
        if len(cells) <= len(form.parameters) + 1:
            continue
        try:
            fitted = ols(form.design(cells.m, cells.n), y, intercept=name == "with_intercept")
        except RankError:
            continue
        ends = zip(form.parameters, fitted.low.tolist(), fitted.high.tolist(), strict=True)
        found[name] = Regression(
            dict(zip(form.parameters, fitted.coefficients.tolist(), strict=True)),
            {parameter: Interval(low, high, "Student t") for parameter, low, high in ends},
            finite_or_none(fitted.r2_centred),
            finite_or_none(fitted.r2_uncentred),
            finite_or_none(fitted.f),
            finite_or_none(fitted.p),
            count_negative(form, fitted.coefficients, cells.m, cells.n),
        )
    return found


def score_forms(
    m: Array, n: Array, y: Array, kv_cache: bool | None
) -> tuple[dict[str, FormScore], dict[str, str]]:
    """Errors of all forms that the cells suffice for, and why others are not to be chosen.

    Parameters
    ----------
    m, n, y : arrays (N,)
        Tokens and positive energies (J) or runtimes (s) of cells.
    kv_cache : bool or None
        Whether the engine has one; None if that is not known.
    """
    scores: dict[str, FormScore] = {}
    skipped: dict[str, str] = {}
    for name, form in FORMS.items():
        if len(y) <= len(form.parameters) + 1:
            skipped[name] = f"needs more than {len(form.parameters) + 1} cells, has {len(y)}"
            continue
        scores[name] = score_form(form, m, n, y)
        if None not in (kv_cache, form.kv_cache) and form.kv_cache != kv_cache:
            used = "with" if form.kv_cache else "without"
            skipped[name] = f"shown for comparison: describes engines {used} a KV cache"
    return scores, skipped


def select_form(scores: dict[str, FormScore], skipped: dict[str, str]) -> str:
    """The form with the least leave-one-cell-out MAPE among those that stay positive."""
    eligible = {
        name: score.mape_pct
        for name, score in scores.items()
        if name not in skipped and score.negative_predictions == 0
    }
    return min(eligible, key=lambda name: eligible[name]) if eligible else "phase"


def _intervals(form: Form, draws: Array) -> dict[str, Interval]:
    if not len(draws):
        return {}
    low, high = np.percentile(draws, [2.5, 97.5], axis=0)
    method = f"bootstrap over cells and trials, {len(draws)} draws"
    return {
        name: Interval(float(low[i]), float(high[i]), method)
        for i, name in enumerate(form.parameters)
    }
