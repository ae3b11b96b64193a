"""Say in plain words what to do and how sure that is."""

from __future__ import annotations

from wattshed.records import Plan, Policy, Price, Robust, Sensitivity
from wattshed.units import human_energy

SAME = "the same"


def describe(plan: Plan) -> str:
    """One paragraph: what to do, what it saves, what it costs, what it hangs on."""
    reference = next(b for b in plan.baselines if b.name == plan.reference)
    sentences = [
        _what_to_do(plan),
        _what_it_saves(plan, reference),
        *(_what_a_limit_costs(plan, price) for price in plan.prices if price.binding),
        _what_caution_does(plan.robust),
        _what_it_hangs_on(plan.sensitivity),
        _simplest_rule(plan, reference),
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _what_to_do(plan: Plan) -> str:
    used = sorted((a for a in plan.assignment if a.queries), key=lambda a: -a.share)
    if len(used) == 1:
        return f"Send everything to {used[0].deployment}."
    parts = [f"{100 * a.share:.1f} % of the queries to {a.deployment}" for a in used]
    return f"Send {', '.join(parts[:-1])} and {parts[-1]}."


def _what_it_saves(plan: Plan, reference: Policy) -> str:
    if reference.shares == _shares(plan):
        return f"That is what {reference.name} does: the saving is nil, and so not significant."
    ratio = plan.runtime_s_mean / reference.runtime_s_mean
    saved = reference.energy_j - plan.energy_j
    verb = "saves" if saved >= 0 else "costs"
    breaks = ", which breaks the limits," if reference.keeps_limits is False else ""
    text = (
        f"Against {reference.name}{breaks} this {verb} {human_energy(abs(saved))}"
        f" ({saving_text(abs(reference.saving_pct), reference, saved < 0)})"
        f" and makes the mean query take {ratio:.2f} times as long, without queueing."
    )
    if reference.significant is False:
        text += " The saving is not significant: its interval includes zero."
    if reference.significant is None:
        text += " No interval: a profile carries no bootstrap draws."
    return text


def _what_a_limit_costs(plan: Plan, price: Price) -> str:
    """What one more unit of a limit that binds is worth, in the unit that people think in."""
    name, worth = price.constraint, price.price_j
    if name == "energy budget" and plan.energy_weight == 0:
        seconds = 3.6e6 * worth * plan.scales["runtime_s"] / plan.scales["energy_j"]
        return f"One more kWh would save {seconds / 3600:.3g} h of runtime."
    if plan.energy_weight != 1 and name != "runtime budget":
        return ""
    if name.startswith("runtime budget"):
        whose = name.removeprefix("runtime budget").removeprefix(" of ")
        queries = f"query of class {whose}" if whose else "query"
        return f"One more second of mean runtime would save {worth:.3g} J per {queries}."
    if name == "accuracy floor":
        return f"One point less of accuracy would save {worth / 100:.3g} J per {price.unit}."
    if name.startswith("busy time"):
        return f"One more hour of {name} would save {human_energy(3600 * worth)}."
    return ""


def _shares(plan: Plan) -> dict[str, float]:
    return {a.deployment: a.share for a in plan.assignment}


def saving_text(value_pct: float, policy: Policy, negated: bool = False) -> str:
    """A percentage with its interval, or why there is none."""
    if policy.saving is None:
        return f"{value_pct:.2f} %, no interval"
    low, high = policy.saving.low, policy.saving.high
    if negated:
        low, high = -high, -low
    return f"{value_pct:.2f} %, 95 % interval {low:.2f} to {high:.2f} %"


def _what_caution_does(robust: Robust | None) -> str:
    """What a robust plan costs in expectation and what it protects from."""
    if robust is None:
        return ""
    ours, nominal = robust.plan, robust.nominal
    mean = _change(ours.mean_j, nominal.mean_j)
    tail = _change(ours.worst_tenth_j, nominal.worst_tenth_j)
    opening = f"Robust over {robust.draws} draws of the fits ({robust.criterion}):"
    if mean == tail == SAME:
        return f"{opening} against the plan for the fits alone it changes nothing."
    least = f"within {100 * ours.gap:.1g} % of" if ours.gap > 0 else "exactly"
    return (
        f"{opening} against the plan for the fits alone it costs {mean} in expectation and {tail}"
        f" in the worst tenth of the draws; what it minimises is {least} the least possible."
    )


def _change(ours_j: float, other_j: float) -> str:
    """How much more or less, if there is a difference to speak of (1e-9)."""
    change, base = abs(ours_j - other_j), abs(other_j)
    if change <= 1e-9 * base:
        return SAME
    return (
        f"{human_energy(change)} ({100 * change / base:.2g} %)"
        f" {'more' if ours_j > other_j else 'less'}"
    )


def _what_it_hangs_on(sensitivity: list[Sensitivity]) -> str:
    if not sensitivity:
        return ""
    energy = [s for s in sensitivity if "energy" in s.change]
    text = _ten_percent_off([s.saving_pct for s in energy]) if energy else ""
    lost = [s for s in sensitivity if s not in energy and s.significant is False]
    if lost:
        text += (
            f" With {lost[0].change} the saving is {lost[0].saving_pct:.2f} % and not significant."
        )
    return text.strip()


def _ten_percent_off(savings_pct: list[float]) -> str:
    low, high = (f"{end:.1f}" for end in (min(savings_pct), max(savings_pct)))
    if low == high == "0.0":
        return "With one system's energy 10 % off, no plan would save anything either."
    span = low if low == high else f"{low} to {high}"
    return f"With one system's energy 10 % off, the best plan would save {span} %."


def _simplest_rule(plan: Plan, reference: Policy) -> str:
    rules = [b for b in plan.baselines if b.family in ("t-in", "t-out", "product", "box")]
    if not rules or plan.energy_j >= reference.energy_j:
        return ""
    rules = [b for b in rules if b.keeps_limits is not False]
    if not rules:
        return "None of the threshold rules keeps the limits."
    best = min(rules, key=lambda b: b.cost)
    if plan.lower_bound_j is None:
        more = 100 * (best.cost - plan.cost) / abs(plan.cost)
        return f"The simplest good rule, {best.name}, costs {more:.2f} % more by what is minimised."
    if best.energy_j >= reference.energy_j:
        return "No threshold rule beats the reference."
    return (
        f"The simplest good rule, {best.name}, gives up {best.saving_pct:.2f} % of energy against"
        " this plan."
    )
