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
from wattshed.records.iteration import (
    ClockResponse,
    ContextCost,
    Curve,
    HeldOut,
    IterationFile,
    IterationProfile,
    PowerState,
    StepDomain,
)
from wattshed.records.plan import (
    CurvePoint,
    DeploymentPrices,
    OutOfSample,
    Plan,
    Policy,
    Portion,
    Price,
    PriceRule,
    Sensitivity,
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

__all__ = [
    "AccuracyPoint",
    "Boundary",
    "Budget",
    "ClockResponse",
    "ContextCost",
    "Curve",
    "CurvePoint",
    "DeploymentPrices",
    "Domain",
    "FormScore",
    "FrontPoint",
    "Gap",
    "HeldOut",
    "Interval",
    "IterationFile",
    "IterationProfile",
    "Kind",
    "Knees",
    "OutOfSample",
    "Pareto",
    "Plan",
    "Policy",
    "Portion",
    "PowerState",
    "Price",
    "PriceRule",
    "Profile",
    "ProfileFile",
    "Provenance",
    "QueryModel",
    "Regression",
    "Rule",
    "RulePoint",
    "Sensitivity",
    "StepDomain",
]
