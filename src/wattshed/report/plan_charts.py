"""Pictures of a plan: what its saving hangs on, and energy against runtime."""

from __future__ import annotations

from wattshed.records import CurvePoint, Plan, Policy, Sensitivity
from wattshed.report.document import Chart, Series
from wattshed.units import kwh

_LEFT_OUT_BEYOND = 2.0  # spans of the curve above its highest energy
_LEAST_SPAN = 0.02  # of the curve's energy, where the curve is flat


def sensitivity_chart(plan: Plan) -> Chart:
    """Savings with one figure changed, as lying bars with their intervals."""
    cases = plan.sensitivity
    places = [float(k) for k in range(len(cases))]
    fixed = Series("plan unchanged", places, [s.fixed_plan_saving_pct for s in cases], style="bars")
    return Chart(
        "sensitivity-chart",
        f"Saving against {plan.reference} with one figure changed",
        "",
        "saving (%)",
        [_solved_again(cases, places), fixed],
        x_ticks=[s.change for s in cases],
        horizontal=True,
        note="Lines: 95 % intervals." if any(s.saving for s in cases) else "No intervals.",
    )


def _solved_again(cases: list[Sensitivity], places: list[float]) -> Series:
    """Bars of the new optima; a case without an interval has one of no length."""
    values = [s.saving_pct for s in cases]
    if not any(s.saving for s in cases):
        return Series("plan solved again", places, values, style="bars")
    low = [s.saving.low if s.saving else s.saving_pct for s in cases]
    high = [s.saving.high if s.saving else s.saving_pct for s in cases]
    return Series("plan solved again", places, values, low, high, style="bars")


def curve_chart(plan: Plan) -> Chart:
    """Optima over λ in the plane of runtime and energy, and the rules near them."""
    optima = [points[0] for points in distinct_optima(plan.curve)]
    near, far = _near_the_curve(plan)
    names = _short_names([b.name for b in near])
    runtimes = [p.runtime_s_mean for p in optima] + [b.runtime_s_mean for b in near]
    series = [
        Series(
            "optimum for some λ",
            [p.runtime_s_mean for p in optima],
            [kwh(p.energy_j) for p in optima],
            labels=_weight_labels(plan.curve),
        ),
        Series(
            "simpler rules",
            [b.runtime_s_mean for b in near],
            [kwh(b.energy_j) for b in near],
            style="markers",
            labels=names,
        ),
    ]
    note = f"Beyond the picture: {'; '.join(b.name for b in far)}." if far else ""
    wide = min(runtimes) > 0 and max(runtimes) > 10 * min(runtimes)
    return Chart(
        "energy-runtime",
        "Energy of the workload against mean runtime of a query, without queueing",
        "mean runtime of a query (s)",
        "energy (kWh)",
        series if near else series[:1],
        x_scale="log10" if wide else "linear",
        note=note,
    )


def _near_the_curve(plan: Plan) -> tuple[list[Policy], list[Policy]]:
    """Rules that fit into a picture of the curve, and those that would squash it."""
    energies = [p.energy_j for p in plan.curve]
    span = max(max(energies) - min(energies), _LEAST_SPAN * max(energies))
    limit = max(energies) + _LEFT_OUT_BEYOND * span
    near = [b for b in plan.baselines if b.energy_j <= limit]
    return near, [b for b in plan.baselines if b.energy_j > limit]


def _weight_labels(curve: list[CurvePoint]) -> list[str]:
    """λ at the ends of the curve; between them nothing."""
    groups = distinct_optima(curve)
    labels = [""] * len(groups)
    for end in (0, -1):
        first, last = groups[end][0].energy_weight, groups[end][-1].energy_weight
        labels[end] = f"λ = {first:g}" if first == last else f"λ = {first:g} to {last:g}"
    return labels


def _short_names(names: list[str]) -> list[str]:
    """Names without their deployments, where that leaves them apart."""
    short = [name.partition(" on ")[0] for name in names]
    return [s if short.count(s) == 1 else name for s, name in zip(short, names, strict=True)]


def distinct_optima(curve: list[CurvePoint]) -> list[list[CurvePoint]]:
    """Neighbours on the curve with the same assignment, as groups."""
    groups: list[list[CurvePoint]] = []
    for point in curve:
        if groups and _same(groups[-1][0], point):
            groups[-1].append(point)
        else:
            groups.append([point])
    return groups


def _same(a: CurvePoint, b: CurvePoint) -> bool:
    return (a.energy_j, a.runtime_s_mean, a.shares) == (b.energy_j, b.runtime_s_mean, b.shares)
