"""Energy and power on a page of Prometheus' text format, by component."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from wattshed.measure.metrics import KEPLER_INFO, Labels, Rule
from wattshed.measure.shared import NO_DATA, Flags, Said
from wattshed.records.common import Kind

SLICE = "GPU_I_ID"
"""Label of a part of a GPU (MIG); what it says is the whole GPU's all the same."""

MIG: Flags = ("mig",)

ESTIMATES = ("estimator", "none")
NAME = re.compile(r"[a-zA-Z_:][\w:]*")


@dataclass(frozen=True)
class Point:
    """What a page says of a component.

    Attributes
    ----------
    rules : tuple of Rule
        Of its metrics, that of energy first.
    labels : mapping
        Of its first sample.
    energy_j, power_w : float or None
    stamp : float or None
        When it was so, if the page tells.
    flags : tuple of str
    provenance : Kind
    """

    rules: tuple[Rule, ...]
    labels: Labels
    energy_j: float | None
    power_w: float | None
    stamp: float | None
    flags: Flags
    provenance: Kind

    def say(self) -> Said:
        """As a reading."""
        return self.energy_j, self.power_w, self.flags


def read_page(text: str, rules: Sequence[Rule]) -> dict[str, Point]:
    """Components on a page, as far as rules know them.

    Raises
    ------
    ValueError
        If a line that a rule is for is malformed.
    """
    samples = samples_of(text, {KEPLER_INFO, *(rule.metric for rule in rules)})
    found: dict[str, dict[Rule, list[Sample]]] = {}
    for rule in rules:
        for sample in samples:
            component = rule.component(sample.labels) if sample.name == rule.metric else None
            if component is not None:
                found.setdefault(component, {}).setdefault(rule, []).append(sample)
    sources = next((sample.labels for sample in samples if sample.name == KEPLER_INFO), {})
    return {component: _point(by_rule, sources) for component, by_rule in found.items()}


def samples_of(text: str, names: Collection[str]) -> list[Sample]:
    """Samples on a page that have one of some names.

    Raises
    ------
    ValueError
        If one of their lines is malformed.
    """
    # Most pages are long and say little of energy, so only the lines wanted are parsed. Without its
    # TYPE, a metric keeps the name that it has on the page.
    wanted = [line for line in text.splitlines() if (m := NAME.match(line)) and m[0] in names]
    try:
        families = list(text_string_to_metric_families("\n".join(wanted)))
    except IndexError as error:  # what the parser says of some malformed labels
        raise ValueError(str(error)) from None
    return [sample for family in families for sample in family.samples]


def _point(by_rule: Mapping[Rule, Sequence[Sample]], sources: Labels) -> Point:
    rules = tuple(sorted(by_rule, key=lambda rule: not rule.is_energy))
    values = {rule.is_energy: _value(rule, by_rule[rule]) for rule in rules}
    samples = [sample for rule in rules for sample in by_rule[rule]]
    flags = NO_DATA if values[rules[0].is_energy] is None else ()
    if any(SLICE in sample.labels for sample in samples):
        flags += MIG
    return Point(
        rules,
        samples[0].labels,
        values.get(True),
        values.get(False),
        None if samples[0].timestamp is None else float(samples[0].timestamp),
        flags,
        "modelled" if sources.get(rules[0].source_label) in ESTIMATES else rules[0].provenance,
    )


def _value(rule: Rule, samples: Sequence[Sample]) -> float | None:
    values = [float(sample.value) for sample in samples]
    if not all(math.isfinite(value) and 0 <= value < rule.blank for value in values):
        return None
    if not rule.repeats:
        return sum(values) * rule.factor
    if not rule.is_energy and len(set(values)) > 1:
        return None  # one of them is out of date, and nothing tells which
    return max(values) * rule.factor  # a counter's largest value is its latest
