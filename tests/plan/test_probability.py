"""The probability that a plan saves, on the built-in plan."""

from __future__ import annotations

from wattshed import load_fleet, plan_workload, read_workload


def test_what_is_not_significant_is_less_probable() -> None:
    """An interval of 95 % above zero leaves at most 2.5 % of the draws that lose."""
    plan = plan_workload(load_fleet("hybrid-2024"), read_workload("alpaca"))
    assert any(not s.significant for s in plan.sensitivity)
    for each in (*plan.baselines, *plan.sensitivity):
        assert each.saving is not None
        assert each.probability_saves is not None
        if each.saving.low > 0:
            assert each.probability_saves >= 0.97
        if each.saving.high < 0:
            assert each.probability_saves <= 0.03
        if each.saving.low == each.saving.high == 0:
            assert each.probability_saves == 0
