"""What a search for all trade-offs finds."""

from __future__ import annotations

import msgspec


class FrontPoint(msgspec.Struct, frozen=True):
    """A supported point of energy against runtime.

    Attributes
    ----------
    energy_j : float
        Of the workload, idle power that stays on included.
    runtime_s_mean : float
        Service time of a query without queueing.
    energy_weight : float
        λ in JSON: `wattshed plan --lambda` with it gives this plan.
    price_j_per_s : float
        What the next second of mean runtime saves per query; 0 at the least energy.
    """

    energy_j: float
    runtime_s_mean: float
    energy_weight: float = msgspec.field(name="lambda")
    price_j_per_s: float = 0.0
    supported: bool = True


class AccuracyPoint(msgspec.Struct, frozen=True):
    """A supported point of energy against accuracy.

    Attributes
    ----------
    accuracy : float
        By the measure asked for.
    zeta : float or None
        `wattshed plan --zeta` with it gives this plan; None for the mean over queries,
        since a plan weights accuracy with tokens.
    price_j_per_point : float
        What giving up the next percentage point saves per query; 0 at the least energy.
    """

    energy_j: float
    accuracy: float
    zeta: float | None
    price_j_per_point: float
    supported: bool = True


class Budget(msgspec.Struct, frozen=True):
    """The cheapest supported plan within a multiple of the fastest plan's mean runtime."""

    runtime_factor: float
    max_runtime_s_mean: float
    point: FrontPoint


class Knees(msgspec.Struct, frozen=True):
    """Two offers; neither is imposed.

    Attributes
    ----------
    distance : FrontPoint or None
        Farthest from the chord between the ends, both axes scaled to the ends; None
        where no point lies between them.
    marginal : FrontPoint
        The fastest from which one more percent of runtime saves less than one of energy.
    """

    distance: FrontPoint | None
    marginal: FrontPoint


class Gap(msgspec.Struct, frozen=True):
    """What plans between the supported points could save at most, in percent of energy.

    Attributes
    ----------
    step_pct : float
        Against the cheapest supported plan within any runtime budget.
    query_pct : float
        The same once queries of one price may move one by one.
    """

    step_pct: float
    query_pct: float


class RulePoint(msgspec.Struct, frozen=True):
    """A simpler rule beside the front.

    Attributes
    ----------
    excess_pct : float
        Energy above the front at the rule's runtime, in percent of the front's.
    """

    name: str
    family: str
    energy_j: float
    runtime_s_mean: float
    excess_pct: float
    supported: bool = False


class Pareto(msgspec.Struct, frozen=True):
    """The fronts of a workload on a fleet.

    Attributes
    ----------
    points : list of FrontPoint
        By rising runtime; thinned, `total_points` says from how many.
    accuracy_points : list of AccuracyPoint or None
        By falling accuracy; None where accuracies are missing or all the same.
    reference : str
        The best single deployment, whose time sets the horizon of `sunk_idle_j`.
    """

    points: list[FrontPoint]
    total_points: int
    knee: Knees
    budgets: list[Budget]
    gap: Gap
    baselines: list[RulePoint]
    reference: str
    accuracy_measure: str
    accuracy_points: list[AccuracyPoint] | None
    total_accuracy_points: int | None
    queries: int
    sunk_idle_j: float
    normalisation: str
    scales: dict[str, float]
    warnings: list[str]
