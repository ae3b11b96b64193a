"""Compose a report from fitted profiles: select and name units, compute nothing."""

from __future__ import annotations

from collections.abc import Iterator

from wattshed.records import Domain, Profile, QueryModel
from wattshed.report.document import Cell, Chart, Section, Series, Table
from wattshed.report.text import DASH

FEW_PROFILES = 3
STUDY_FORM = "bilinear"
"""The form of the seed studies, shown beside the selected one."""
_REGRESSION_TEXT = (
    "The second table is the form of the 2024 studies with the statistics that they quote. R² is"
    " about zero (uncentred) where the fit has no constant and about the mean (centred) where it"
    " has one; the two cannot be compared, and neither says how wrong a typical query is."
)


def fit_sections(profiles: list[Profile]) -> list[Section]:
    """Everything that profiles hold, as the sections of a report."""
    scored = [p for p in profiles if p.energy and p.energy.forms]
    sections = [
        Section(
            "How far each form can be trusted",
            [
                "Errors of predictions for token counts that the fit has not seen: each cell (m, n)"
                " is left out once. A form that predicts a negative energy or runtime anywhere in"
                " the domain is not selected."
            ],
            tables=[accuracy_table(profiles)],
            charts=[accuracy_chart(scored)] if scored else [],
        ),
        Section(
            "Coefficients",
            [_REGRESSION_TEXT],
            tables=[coefficients_table(profiles), regression_table(profiles)],
        ),
        Section("What was measured", tables=[measured_table(profiles)]),
    ]
    if any(p.rules for p in profiles):
        sections.append(
            Section(
                "Rules applied",
                ["Rows of the runs that were left out or corrected before the fit."],
                tables=[rules_table(profiles)],
            )
        )
    return sections


def fit_summary_tables(profiles: list[Profile]) -> list[Table]:
    """The view for a terminal: every form's error where there are few profiles, and the rules."""
    tables = [fit_summary_table(profiles)]
    if len(profiles) <= FEW_PROFILES:
        tables.append(accuracy_table(profiles))
    return [*tables, rules_table(profiles)] if any(p.rules for p in profiles) else tables


def fit_warnings(profiles: list[Profile]) -> list[str]:
    """Energy that no meter measured; forms that predict negative values in their own domain."""
    modelled = [
        f"{p.name}: its energy is modelled: no meter measured it"
        for p in profiles
        if p.kind == "modelled"
    ]
    return modelled + [
        f"{profile.name}: {model.form} predicts {count} negative values of {quantity} over its"
        " cells and the grid of its domain"
        for profile, quantity, model in _models(profiles)
        if model.form in model.forms and (count := model.forms[model.form].negative_predictions) > 0
    ]


def without_energy(profiles: list[Profile]) -> str | None:
    """One line on profiles that have no energy model, and what to do about it; None without one."""
    names = [p.name for p in profiles if p.energy is None]
    if not names:
        return None
    more = f" and {len(names) - 1} others" if len(names) > 1 else ""
    return (
        f"{names[0]}{more}: energy was not fitted: no row that counts has accelerator_energy_j;"
        " measure with a meter, or estimate with --meter model:..."
    )


def fit_summary_table(profiles: list[Profile]) -> Table:
    """The short view for a terminal: one row for each profile."""
    rows: list[list[Cell]] = [
        [
            p.name,
            p.energy.form if p.energy else None,
            _mape(p.energy),
            p.runtime.form,
            _mape(p.runtime),
            _mape(p.energy, STUDY_FORM),
            p.cells,
            _box(p.domain),
        ]
        for p in profiles
    ]
    columns = ["profile", "energy form", "MAPE (%)", "runtime form", "MAPE (%)"]
    return Table(
        "profiles",
        "Fitted profiles",
        [*columns, f"{STUDY_FORM} energy MAPE (%)", "cells", "domain (m, n)"],
        rows,
        note=f"MAPE: mean absolute relative error, one cell left out at a time; {STUDY_FORM} is the"
        " form of the seed studies.",
    )


def accuracy_table(profiles: list[Profile]) -> Table:
    """Leave-one-cell-out errors of every form on every quantity."""
    rows: list[list[Cell]] = []
    highlight = []
    remarks: dict[str, None] = {}
    for profile, quantity, model in _models(profiles):
        for form in dict.fromkeys([*model.forms, *model.skipped, model.form]):
            if form == model.form:
                highlight.append(len(rows))
            rows.append([profile.name, quantity, form, *_score(model, form)])
        remarks.update({f"{form} {reason}.": None for form, reason in model.skipped.items()})
        if not model.forms:
            remarks["A dash: published coefficients, no trials to score them with."] = None
    columns = ["profile", "quantity", "form", "MAPE (%)", "median APE (%)", "bias (%)"]
    explained = (
        "APE: absolute relative error; bias: error of the total over all cells. Negative"
        " predictions are counted over the cells left out and a grid of the domain."
    )
    return Table(
        "accuracy-of-forms",
        "Leave-one-cell-out errors of each form",
        [*columns, "negative predictions", "R²", "selected"],
        rows,
        highlight,
        " ".join([explained, *remarks]),
    )


def _score(model: QueryModel, form: str) -> list[Cell]:
    """Errors of a form, and whether it was, or could have been, selected."""
    chosen = "yes" if form == model.form else "not eligible" if form in model.skipped else "no"
    score = model.forms.get(form)
    if score is None:
        return [None, None, None, None, None, chosen]
    errors = [score.mape_pct, score.median_ape_pct, score.bias_pct]
    return [*errors, score.negative_predictions, score.r2, chosen]


def coefficients_table(profiles: list[Profile]) -> Table:
    """Coefficients of the selected forms with their intervals."""
    rows: list[list[Cell]] = []
    methods: dict[str, None] = {}
    for profile, quantity, model in _models(profiles):
        for name, value in model.coefficients.items():
            interval = model.intervals.get(name)
            low, high = (interval.low, interval.high) if interval else (None, None)
            rows.append([profile.name, quantity, model.form, name, value, low, high])
            if interval:
                methods[f"{100 * interval.level:g} % intervals: {interval.method}."] = None
    return Table(
        "coefficients",
        "Coefficients of the selected forms",
        ["profile", "quantity", "form", "coefficient", "value (SI)", "low", "high"],
        rows,
        note=" ".join([*methods, "Energy in J, runtime in s, lengths in tokens."]),
    )


def regression_table(profiles: list[Profile]) -> Table:
    """The studies' form by ordinary least squares, without and with a constant."""
    rows: list[list[Cell]] = []
    for profile, quantity, model in _models(profiles):
        for name, fitted in model.regression.items():
            values = [fitted.r2_uncentred, fitted.r2_centred, fitted.f, fitted.p]
            rows.append([profile.name, quantity, name.replace("_", " "), *values])
            rows[-1].append(fitted.negative_predictions)
    columns = ["profile", "quantity", "fit", "R² uncentred", "R² centred", "F", "p"]
    return Table(
        "regression",
        "The studies' bilinear form by ordinary least squares",
        [*columns, "negative predictions"],
        rows,
        note="Negative predictions over a grid of the domain; coefficients and their intervals"
        " are in the JSON.",
    )


def measured_table(profiles: list[Profile]) -> Table:
    """Domain, cells, trials and boundary of each profile."""
    rows: list[list[Cell]] = []
    for p in profiles:
        m = p.domain.input_tokens if p.domain else (None, None)
        n = p.domain.output_tokens if p.domain else (None, None)
        cache = None if p.kv_cache is None else "on" if p.kv_cache else "off"
        rows.append([p.name, p.accelerator, p.n_accelerators, p.boundary, p.kind, cache])
        rows[-1] += [*m, *n, p.cells, p.trials, p.accuracy]
    columns = ["profile", "accelerator", "number", "boundary", "kind", "KV cache"]
    columns += ["m from", "m to", "n from", "n to", "cells", "trials", "accuracy"]
    return Table(
        "profiles-measured",
        "What each profile rests on",
        columns,
        rows,
        note="m input tokens, n output tokens: predictions outside are extrapolations.",
    )


def rules_table(profiles: list[Profile]) -> Table:
    """Rules that touched rows of the runs."""
    rows: list[list[Cell]] = [
        [p.name, rule.name, rule.action, rule.rows] for p in profiles for rule in p.rules
    ]
    return Table("rules", "Rules applied to the runs", ["profile", "rule", "action", "rows"], rows)


def accuracy_chart(profiles: list[Profile]) -> Chart:
    """Energy error of every form, one line for each profile."""
    scores = [p.energy.forms if p.energy else {} for p in profiles]
    series = []
    for form in dict.fromkeys(form for each in scores for form in each):
        at = [k for k, each in enumerate(scores) if form in each]
        errors = [scores[k][form].mape_pct for k in at]
        series.append(Series(form, [float(k) for k in at], errors, style="markers"))
    return Chart(
        "accuracy-chart",
        "Energy error of each form for token counts it has not seen",
        "",
        "leave-one-cell-out MAPE of energy (%)",
        series,
        x_ticks=[p.name for p in profiles],
        y_scale="log10",
        horizontal=True,
    )


def _models(profiles: list[Profile]) -> Iterator[tuple[Profile, str, QueryModel]]:
    for profile in profiles:
        if profile.energy:
            yield profile, "energy", profile.energy
        yield profile, "runtime", profile.runtime


def _mape(model: QueryModel | None, form: str = "") -> float | None:
    """Error of a form, of the selected one unless told."""
    form = form or (model.form if model else "")
    return model.forms[form].mape_pct if model and form in model.forms else None


def _box(domain: Domain | None) -> str:
    if domain is None:
        return DASH
    m, n = domain.input_tokens, domain.output_tokens
    return f"{m[0]}–{m[1]}, {n[0]}–{n[1]}"
