"""One request of a ledger for people: what it asked, what was weighed, what became of it."""

from __future__ import annotations

from datetime import UTC, datetime

from wattshed.records import Explanation
from wattshed.report.document import Cell, Table


def asked_text(found: Explanation) -> str:
    """What was asked, in a sentence."""
    asked = found.asked
    when = datetime.fromtimestamp(found.arrived_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    by = f" by {asked['tenant']}" if asked["tenant"] else ""
    model = asked["model"] or "a model that was not read"
    text = f"{found.id}: {model} at {asked['path']}, asked {when}{by}"
    if asked["slo_class"]:
        text += f", class {asked['slo_class']}"
    if asked["deadline_s"] is not None:
        text += f", within {asked['deadline_s']} s"
    if asked.get("energy_weight") is not None:
        text += f", weight of energy {asked['energy_weight']:g}"
    if asked.get("greenest"):
        text += ", the greenest"
    if asked["input_estimate"] is None:
        return f"{text}."
    text += f". About {_number(asked['input_estimate'])} input tokens"
    text += f"; {_number(asked['expected_output_tokens'])} output tokens expected"
    return f"{text}, 90 % sure {_number(asked['late_output_tokens'])} or fewer."


def candidates_table(found: Explanation) -> Table:
    """What was predicted of each deployment, and what the policy weighed."""
    rows: list[list[Cell]] = []
    for each in found.candidates:
        known: list[Cell] = [each.deployment, each.joules, each.runtime_s]
        if not each.endpoints:
            rows.append([*known, each.cost, None, None, None, "yes" if each.chosen else ""])
        for end in each.endpoints:
            cost = each.cost if end.cost is None else end.cost
            there = "yes" if end.endpoint == found.endpoint else ""
            rows.append([*known, cost, end.endpoint, end.running, end.waiting, there])
    columns = ["deployment", "predicted (J)", "alone (s)", "weighed", "endpoint", "running"]
    return Table(
        "candidates",
        "Candidates",
        [*columns, "waiting", "chosen"],
        rows,
        note="Predicted: from the output that was expected, in the batches that plans assume."
        " Alone: runtime with no other request. Weighed: by the policy, least is best. No"
        " endpoint: none of them took requests.",
    )


def weighed_table(found: Explanation) -> Table:
    """What the policy predicted of each endpoint, where it tells."""
    ends = [(e.endpoint, e.weighed) for c in found.candidates for e in c.endpoints]
    rows: list[list[Cell]] = [
        [
            name,
            each.joules,
            each.price_j,
            each.ttft_s,
            each.tbt_s,
            each.binding or None,
            100 * each.used if each.binding else None,
            "yes" if name == found.endpoint else "",
        ]
        for name, each in ends
        if each is not None
    ]
    columns = ["endpoint", "adds (J)", "price (J)", "TTFT (s)", "TBT (s)", "promise", "used (%)"]
    return Table(
        "weighed",
        "What the policy predicted",
        [*columns, "chosen"],
        rows,
        note="Adds: to the energy of the fleet, above idle power. Price: for budgets. Promise: the"
        " one nearest to being broken, and what it would use of what may be used of its limit.",
    )


def became_text(found: Explanation) -> str:
    """What became of it, in sentences."""
    became = found.became
    text = f"Outcome: {became['outcome']}, status {became['status']}"
    if became.get("reason"):
        text += f" ({became['reason']})"
    if became["end_s"] is not None:
        text += f", after {_number(became['end_s'])} s"
        if became["first_s"] is not None:
            text += f", first token after {_number(became['first_s'])} s"
    text += "."
    if became["kept"] is not None:
        text += f" Its promises were {'kept' if became['kept'] else 'broken'}."
    if became["input_tokens"] is not None:
        counted = " (counted by the gateway)" if became["tokens_counted"] else ""
        text += f" {became['input_tokens']} input and {became['output_tokens']} output"
        text += f" tokens{counted}."
    return text + _energy(found)


def _energy(found: Explanation) -> str:
    became = found.became
    if became["joules"] is None:
        return " Its energy is not known."
    text = f" {_number(became['joules'])} J"
    if became["low_joules"] is not None:
        text += f" ({_number(became['low_joules'])} to {_number(became['high_joules'])})"
    if became["idle_joules"] is not None:
        text += f" and {_number(became['idle_joules'])} J of idle power"
    text += f", {became['energy_method']}, {became['boundary']}"
    return text + (", outside the sizes of the profile." if became["extrapolated"] else ".")


def _number(value: str | float | None) -> str:
    return "an unknown number of" if value is None else f"{float(value):.4g}"
