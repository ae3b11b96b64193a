"""What a fit finds: query models with their scores, and profiles."""

from __future__ import annotations

import msgspec

from wattshed.records.common import Boundary, Interval, Kind, Provenance


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
    r2 : float or None
        Leave-one-cell-out coefficient of determination, about the mean; nothing where all
        cells are equal.
    """

    mape_pct: float
    median_ape_pct: float
    bias_pct: float
    negative_predictions: int
    r2: float | None


class Regression(msgspec.Struct, frozen=True):
    """Ordinary least squares of the studies' bilinear form, with its statistics.

    Attributes
    ----------
    coefficients : dict
        By parameter name; ``1`` is the constant.
    intervals : dict
        Student-t, 95 %.
    r2_centred, r2_uncentred : float
        About the mean and about zero: only the one that fits the kind of fit may be quoted
        (uncentred without a constant), and the two cannot be compared.
    f, p : float
        F statistic of all slopes and its p-value.
    negative_predictions : int
        Over the log-spaced grid of the domain.

    A statistic that is infinite or undefined is None, as F is without any residual.
    """

    coefficients: dict[str, float]
    intervals: dict[str, Interval]
    r2_centred: float | None
    r2_uncentred: float | None
    f: float | None
    p: float | None
    negative_predictions: int


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
    regression : dict
        ``without_intercept`` and ``with_intercept``: the bilinear form by ordinary least
        squares, whichever form was selected. Empty if there are too few cells.
    """

    form: str
    coefficients: dict[str, float]
    intervals: dict[str, Interval] = {}
    draws: list[list[float]] = []
    forms: dict[str, FormScore] = {}
    skipped: dict[str, str] = {}
    regression: dict[str, Regression] = {}


class Profile(msgspec.Struct, frozen=True):
    """What one deployment costs for a query, and how far that can be trusted.

    Attributes
    ----------
    name : str
        Unique within its file, e.g. ``wilkins-2024/m1-pro/llama-2-7b``.
    boundary : {"accelerator", "host", "wall"}
        What the energy covers.
    kind : {"measured", "derived", "modelled", "published"}
        Of the energy; a fit is derived, or modelled where the energy of its runs is.
    energy : QueryModel or None
        None where the runs have no energy: then nothing can be planned with it.
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
    energy: QueryModel | None
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
