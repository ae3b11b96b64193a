"""What a plan finds: the assignment and everything it is compared to."""

from __future__ import annotations

import msgspec

from wattshed.records.common import Interval


class Portion(msgspec.Struct, frozen=True):
    """What one deployment gets in a plan.

    Attributes
    ----------
    busy_fraction : float or None
        Busy time over replicas x horizon; None without a horizon.
    """

    deployment: str
    queries: int
    share: float
    energy_j: float
    busy_s: float
    busy_fraction: float | None = None


class Price(msgspec.Struct, frozen=True):
    """What one more unit of a constraint's bound would save.

    Attributes
    ----------
    constraint : str
        E.g. ``busy time of a100``.
    unit : str
        Of the bound; for accuracy the query or token that is answered with an accuracy of 1
        instead of 0.
    price_j : float
        In joules per unit where energy alone is minimised, else in the plan's cost times
        its energy scale.
    binding : bool
    """

    constraint: str
    unit: str
    price_j: float
    binding: bool


class DeploymentPrices(msgspec.Struct, frozen=True):
    """What a deployment charges a query beyond its energy.

    Attributes
    ----------
    query_j : float
        For being sent there: its share and its query cap; negative where a smallest share
        binds or accuracy is worth something.
    runtime_j_per_s : float
        For each second of its runtime: runtime budget, and runtime's own weight. In plans of
        earlier versions also busy time, which is the same where one query is served at a time.
    token_j : float
        For each input and output token.
    busy_j_per_s : float
        For each second of a replica that it takes up.
    """

    query_j: float = 0.0
    runtime_j_per_s: float = 0.0
    token_j: float = 0.0
    busy_j_per_s: float = 0.0


class PriceRule(msgspec.Struct, frozen=True):
    """A plan as a rule for single queries: go where energy plus prices is least.

    A query of m input and n output tokens costs on deployment k, in J or J-equivalents,
    ``energy_weight x e_k(m, n) + (runtime_j_per_s + class price) x r_k(m, n) + busy_j_per_s x
    s_k(m, n) + query_j + token_j x (m + n)``, with e_k less the idle power that stays on, and s_k
    the time of a replica that it takes up, which is r_k without batches. The cheapest eligible
    deployment is the plan's, but for the few queries that tie.

    Attributes
    ----------
    energy_weight : float
        1 where energy alone is minimised; more with a binding energy budget.
    class_runtime_j_per_s : dict
        Added to every deployment's for queries of an SLO class; only what is not zero.
    deployments : dict
        `DeploymentPrices` by name.
    """

    energy_weight: float
    class_runtime_j_per_s: dict[str, float]
    deployments: dict[str, DeploymentPrices]


class Threshold(msgspec.Struct, frozen=True):
    """Short queries to one deployment, the others to another.

    Attributes
    ----------
    small, large : str
        Deployments of the queries within all bounds, and of the others.
    t_in, t_out, product : float or None
        Largest m, n and m n of a short query; None where there is no such bound.
    """

    small: str
    large: str
    t_in: float | None = None
    t_out: float | None = None
    product: float | None = None


class Policy(msgspec.Struct, frozen=True):
    """One way to assign a workload, and what it costs.

    Attributes
    ----------
    name : str
        For people and scripts, e.g. ``T_in=32 (m1, else a100)``.
    family : str
        ``exact``, ``single``, ``round-robin``, ``random``, ``t-in``, ``t-out``, ``box``,
        ``product``, or ``nominal``: a robust plan's counterpart for the fits alone.
    energy_j : float
        Gross energy of the workload, idle power that stays on included.
    runtime_s_total, runtime_s_mean : float
        Service time without queueing.
    runtime_ratio : float
        Mean runtime against the reference baseline.
    saving_pct : float
        Energy that the plan saves against this policy, in percent of this policy.
    saving : Interval or None
        Interval of `saving_pct`; None where a profile carries no draws.
    significant : bool or None
        Whether the interval of the saving excludes zero; None without an interval.
    probability_saves : float or None
        Part of the draws of the fits in which the plan needs less energy than this policy;
        None without draws.
    cost : float
        Mean cost per query in the plan's normalised unit.
    displaced_queries : int
        Queries that the rule sent where they may not go and that went to the cheapest
        eligible deployment instead.
    keeps_limits : bool or None
        Whether it keeps the limits that the plan keeps; None if there are none.
    rule : Threshold or None
        What it is made of, where it is a threshold rule.
    """

    name: str
    family: str
    energy_j: float
    runtime_s_total: float
    runtime_s_mean: float
    runtime_ratio: float
    saving_pct: float
    saving: Interval | None
    significant: bool | None
    cost: float
    displaced_queries: int = 0
    shares: dict[str, float] = {}
    keeps_limits: bool | None = None
    probability_saves: float | None = None
    rule: Threshold | None = None


class Sensitivity(msgspec.Struct, frozen=True):
    """The plan solved again with one figure changed.

    Attributes
    ----------
    change : str
        What was changed, e.g. ``m1 energy +10 %``.
    saving_pct : float
        Saving of the new optimum against the reference baseline.
    fixed_plan_saving_pct : float
        Saving of the unchanged plan under the changed figure: negative when the plan
        would have been a mistake.
    significant : bool or None
        Whether the new optimum's interval excludes zero.
    probability_saves : float or None
        Part of the draws in which the new optimum needs less energy than the reference.
    """

    change: str
    saving_pct: float
    saving: Interval | None
    fixed_plan_saving_pct: float
    significant: bool | None
    shares: dict[str, float]
    probability_saves: float | None = None


class CurvePoint(msgspec.Struct, frozen=True):
    """Energy and runtime of the exact optimum at one weight."""

    energy_weight: float
    energy_j: float
    runtime_s_mean: float
    accuracy_token_weighted: float | None
    shares: dict[str, float]


class DrawnCost(msgspec.Struct, frozen=True):
    """What an assignment costs over the draws of the fits.

    In joules, idle power that stays on included; where energy alone is not what is minimised,
    in the plan's cost times its energy scale.

    Attributes
    ----------
    policy : str
    mean_j : float
    p90_j : float
        Nine tenths of the draws cost at most this.
    worst_tenth_j : float
        Mean of the worst tenth of the draws (CVaR).
    gap : float
        Relative distance of what the plan minimises to its bound; negative only for a policy
        that does not keep the plan's limits.
    """

    policy: str
    mean_j: float
    p90_j: float
    worst_tenth_j: float
    gap: float


class Robust(msgspec.Struct, frozen=True):
    """How a plan allows for the uncertainty of the fits.

    Attributes
    ----------
    criterion : {"expected", "p90"}
        What is minimised over the draws: the mean, or the mean of the worst tenth.
    draws : int
    bound_j : float
        No assignment within the limits has less of that.
    draw_weights : list of float
        With each query's energy and runtime averaged over the draws by these, `Plan.rule`
        holds.
    plan, nominal, reference : DrawnCost
        This plan, the plan for the fitted profiles alone, and the best single deployment.
    """

    criterion: str
    draws: int
    bound_j: float
    draw_weights: list[float]
    plan: DrawnCost
    nominal: DrawnCost
    reference: DrawnCost


class Plan(msgspec.Struct, frozen=True):
    """An assignment of a workload to deployments, with everything it is compared to.

    Attributes
    ----------
    energy_j : float
        Gross energy of the queries, and the idle power that stays on while they wait.
    sunk_idle_j : float
        Idle energy over the horizon, counted once and the same for every policy. The
        horizon is the time that the reference's replicas need for the workload.
    reference : str
        The baseline that savings are quoted against: the best single deployment.
    lower_bound_j : float or None
        No assignment within the limits needs less energy; None where something else than
        energy is minimised.
    lower_bound_cost : float or None
        No assignment within the limits has a lower mean `cost`; given where `lower_bound_j`
        is not, but for robust plans, whose bound is in `robust`.
    gap : float
        Relative distance of what is minimised to its bound.
    prices : list of Price
        One for each limit; empty without limits.
    rule : PriceRule or None
        Weights and prices as a rule for single queries; always there in a plan that
        `plan_workload` made.
    binding : list of str
        The limits that bind: whose price is above zero.
    iterations : int
        Passes over all queries that finding prices took, or cuts of a robust plan; 1 where
        each query decides for itself.
    converged : bool
        Whether the bound is proven; False after an interrupt.
    robust : Robust or None
        What it minimises over the draws of the fits; None if it is made for the fits alone.
    verdict : str
        What to do and how sure that is, in plain words.
    """

    energy_j: float
    sunk_idle_j: float
    runtime_s_total: float
    runtime_s_mean: float
    cost: float
    queries: int
    energy_weight: float
    accuracy_weight: float | None
    normalisation: str
    scales: dict[str, float]
    accuracy_query_mean: float | None
    accuracy_token_weighted: float | None
    reference: str
    assignment: list[Portion]
    baselines: list[Policy]
    sensitivity: list[Sensitivity]
    curve: list[CurvePoint]
    warnings: list[str]
    verdict: str
    lower_bound_j: float | None = None
    lower_bound_cost: float | None = None
    gap: float = 0.0
    prices: list[Price] = []
    rule: PriceRule | None = None
    binding: list[str] = []
    iterations: int = 1
    converged: bool = True
    robust: Robust | None = None


class LimitUse(msgspec.Struct, frozen=True):
    """How much of a plan's limit its rule uses on queries that it was not made on.

    Attributes
    ----------
    constraint, unit : str
        As of `Price`.
    used, bound : float
        Over the test queries, in the constraint's unit. Limits on totals, such as busy time, are
        as much larger or smaller as there are more or fewer test queries. Of a floor, such as
        the accuracy's, `bound` is the least.
    kept : bool
        To 1e-9 of the bound.
    """

    constraint: str
    unit: str
    used: float
    bound: float
    kept: bool


class OutOfSample(msgspec.Struct, frozen=True):
    """What a rule costs on queries it was not made on.

    Attributes
    ----------
    predictor : str
        Where output lengths came from: ``known``, or a name in
        `wattshed.workload.lengths.PREDICTORS`, or ``distribution``, which minimises the
        expected cost over past lengths.
    energy_j : float
        Gross energy of the test queries, idle power that stays on included.
    runtime_s_mean : float
        Service time without queueing.
    reference : str
        The single deployment that is best on the training queries.
    saving_pct : float
        Energy saved against the reference serving all test queries, in percent of it.
    saving : Interval or None
        Interval of `saving_pct`, both under the same draws; None without draws.
    probability_saves : float or None
        Part of the draws in which the rule needs less energy than the reference.
    regret_pct : float or None
        Cost above the least that the test queries can cost with the rule's scales and prices,
        in percent of it; None where accuracy makes that cost zero or negative.
    displaced_queries : int
        Queries that turned out longer than their deployment admits, or seemed too long for
        every one, and were served by the cheapest eligible; a first attempt is not charged.
    shares : dict
        Part of the queries by deployment.
    busy_s : dict
        Time that its queries keep each deployment busy, in seconds.
    accuracy_query_mean, accuracy_token_weighted : float or None
        None where a deployment states no accuracy.
    limits : list of LimitUse
        One for each limit of the plan; empty without limits.
    """

    predictor: str
    energy_j: float
    runtime_s_mean: float
    reference: str
    saving_pct: float
    saving: Interval | None
    significant: bool | None
    regret_pct: float | None
    displaced_queries: int
    shares: dict[str, float]
    probability_saves: float | None = None
    busy_s: dict[str, float] = {}
    accuracy_query_mean: float | None = None
    accuracy_token_weighted: float | None = None
    limits: list[LimitUse] = []
