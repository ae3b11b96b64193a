"""Frozen records that every room shares.

They are plain values: no behaviour beyond their own meaning, SI units in every name,
and msgspec turns them into JSON and back with the path of whatever is wrong.
"""

from wattshed.records.common import (
    Boundary,
    Interval,
    Kind,
    Provenance,
)
from wattshed.records.front import (
    AccuracyPoint,
    Budget,
    FrontPoint,
    Gap,
    Knees,
    Pareto,
    RulePoint,
)
from wattshed.records.plan import (
    CurvePoint,
    DeploymentPrices,
    DrawnCost,
    LimitUse,
    OutOfSample,
    Plan,
    Policy,
    Portion,
    Price,
    PriceRule,
    Robust,
    Sensitivity,
    Threshold,
)
from wattshed.records.profile import (
    Domain,
    FormScore,
    Profile,
    ProfileFile,
    QueryModel,
    Regression,
    Rule,
)
from wattshed.records.route import Decision, Endpoint, Request

__all__ = [
    "AccuracyPoint",
    "Boundary",
    "Budget",
    "CurvePoint",
    "Decision",
    "DeploymentPrices",
    "Domain",
    "DrawnCost",
    "Endpoint",
    "FormScore",
    "FrontPoint",
    "Gap",
    "Interval",
    "Kind",
    "Knees",
    "LimitUse",
    "OutOfSample",
    "Pareto",
    "Plan",
    "Policy",
    "Portion",
    "Price",
    "PriceRule",
    "Profile",
    "ProfileFile",
    "Provenance",
    "QueryModel",
    "Regression",
    "Request",
    "Robust",
    "Rule",
    "RulePoint",
    "Sensitivity",
    "Threshold",
]
