"""Frozen records that every room shares.

They are plain values: no behaviour beyond their own meaning, SI units in every name,
and msgspec turns them into JSON and back with the path of whatever is wrong.
"""

from __future__ import annotations

from typing import Literal

import msgspec

Kind = Literal["measured", "derived", "modelled", "published"]
Boundary = Literal["accelerator", "host", "wall"]


class Interval(msgspec.Struct, frozen=True):
    """Where a figure lies with probability `level`.

    Attributes
    ----------
    low, high : float
        In the unit of the figure.
    method : str
        How it was found, e.g. "bootstrap over cells, 200 draws".
    level : float
        0.95 unless told.
    """

    low: float
    high: float
    method: str
    level: float = 0.95


class Provenance(msgspec.Struct, frozen=True):
    """Where figures come from.

    Attributes
    ----------
    name : str
        Name in this project.
    source : str
        Publication or repository.
    commit : str
        Revision of the source; empty where there is none.
    licence : str
    kind : {"measured", "derived", "modelled", "published"}
    note : str
        What was done to the source.
    """

    name: str
    source: str
    commit: str
    licence: str
    kind: Kind
    note: str = ""


class Rule(msgspec.Struct, frozen=True):
    """A named rule that was applied to runs, and how many rows it touched."""

    name: str
    action: str
    rows: int


class Domain(msgspec.Struct, frozen=True):
    """The (m, n) box that the cells of a fit span, in tokens, both ends included."""

    input_tokens: tuple[int, int]
    output_tokens: tuple[int, int]


class FormScore(msgspec.Struct, frozen=True):
    """Leave-one-cell-out errors of one form on one quantity.

    Attributes
    ----------
    mape_pct, median_ape_pct : float
        Mean and median absolute relative error.
    bias_pct : float
        Error of the total over all cells.
    negative_predictions : int
        Over the cells left out and the log-spaced grid of the domain.
    r2 : float
        Leave-one-cell-out coefficient of determination, about the mean.
    """

    mape_pct: float
    median_ape_pct: float
    bias_pct: float
    negative_predictions: int
    r2: float


class QueryModel(msgspec.Struct, frozen=True):
    """A fitted e(m, n) in joules or r(m, n) in seconds.

    Attributes
    ----------
    form : str
        Name in `wattshed.fit.forms.FORMS`.
    coefficients : dict
        By parameter name.
    intervals : dict
        By parameter name; empty for published coefficients, which carry none.
    draws : list of list of float
        Bootstrap coefficients, one row for each draw; a profile's energy and runtime
        draws share their resampled cells row by row. Empty where there is no interval.
    forms : dict
        Score of every form that was tried, the selected one included.
    skipped : dict
        Form name to the reason why it was not tried or not eligible.
    """

    form: str
    coefficients: dict[str, float]
    intervals: dict[str, Interval] = {}
    draws: list[list[float]] = []
    forms: dict[str, FormScore] = {}
    skipped: dict[str, str] = {}


class Profile(msgspec.Struct, frozen=True):
    """What one deployment costs for a query, and how far that can be trusted.

    Attributes
    ----------
    name : str
        Unique within its file, e.g. ``wilkins-2024/m1-pro/llama-2-7b``.
    boundary : {"accelerator", "host", "wall"}
        What the energy covers.
    kv_cache : bool or None
        Whether the engine kept a KV cache.
    accuracy : float or None
        Quality of the model's answers in [0, 1], by the measure named in `accuracy_source`.
    domain : Domain or None
        Where predictions interpolate; None if the source does not say.
    """

    name: str
    system: str
    model: str
    accelerator: str
    n_accelerators: int
    boundary: Boundary
    kind: Kind
    energy: QueryModel
    runtime: QueryModel
    domain: Domain | None = None
    kv_cache: bool | None = None
    cells: int = 0
    trials: int = 0
    accuracy: float | None = None
    accuracy_source: str = ""
    rules: list[Rule] = []
    provenance: list[Provenance] = []


class ProfileFile(msgspec.Struct, frozen=True):
    """Content of profiles.json."""

    profiles: list[Profile]
    created_by: str
    inputs: dict[str, str] = {}
    seed: int = 0
    schema: str = "wattshed/profiles"
    version: int = 1


class Portion(msgspec.Struct, frozen=True):
    """What one deployment gets in a plan."""

    deployment: str
    queries: int
    share: float
    energy_j: float
    busy_s: float


class Price(msgspec.Struct, frozen=True):
    """What one more unit of a constraint's bound would save.

    Attributes
    ----------
    constraint : str
        E.g. ``busy time of a100``.
    unit : str
        Of the bound; empty for accuracy, whose unit is one query's (or token's) worth.
    price_j : float
        In joules per unit where energy alone is minimised, else in the plan's cost times
        its energy scale.
    binding : bool
    """

    constraint: str
    unit: str
    price_j: float
    binding: bool


class Policy(msgspec.Struct, frozen=True):
    """One way to assign a workload, and what it costs.

    Attributes
    ----------
    name : str
        For people and scripts, e.g. ``T_in=32 (m1, else a100)``.
    family : str
        ``exact``, ``single``, ``round-robin``, ``random``, ``t-in``, ``t-out``, ``box``
        or ``product``.
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
    cost : float
        Mean cost per query in the plan's normalised unit.
    displaced_queries : int
        Queries that the rule sent where they may not go and that went to the cheapest
        eligible deployment instead.
    keeps_limits : bool or None
        Whether it keeps the limits that the plan keeps; None if there are none.
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
    """

    change: str
    saving_pct: float
    saving: Interval | None
    fixed_plan_saving_pct: float
    significant: bool | None
    shares: dict[str, float]


class CurvePoint(msgspec.Struct, frozen=True):
    """Energy and runtime of the exact optimum at one weight."""

    energy_weight: float
    energy_j: float
    runtime_s_mean: float
    accuracy_token_weighted: float | None
    shares: dict[str, float]


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
    gap : float
        Relative distance of what is minimised to its bound.
    prices : list of Price
        One for each limit; empty without limits.
    converged : bool
        Whether the bound is proven; False after an interrupt.
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
    gap: float = 0.0
    prices: list[Price] = []
    converged: bool = True


class OutOfSample(msgspec.Struct, frozen=True):
    """What a rule costs on queries it was not made on.

    Attributes
    ----------
    predictor : str
        Where output lengths came from: ``known``, or a name in
        `wattshed.workload.lengths.PREDICTORS`.
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
    regret_pct : float or None
        Cost above the least that the test queries can cost with the rule's scales and prices,
        in percent of it; None where accuracy makes that cost zero or negative.
    displaced_queries : int
        Queries that turned out longer than their deployment admits, or seemed too long for
        every one, and were served by the cheapest eligible; a first attempt is not charged.
    shares : dict
        Part of the queries by deployment.
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
