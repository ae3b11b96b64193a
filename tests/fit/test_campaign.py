"""Fitting whole deployments: the built-in ones, and runs that nobody has seen."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from wattshed import fit_profiles, load_profile, load_profiles, predict, read_runs, save_profiles
from wattshed.errors import InputError
from wattshed.fit.campaign import Options, select_form
from wattshed.fit.cells import make_cells
from wattshed.fit.forms import FORMS
from wattshed.records import FormScore, Profile

A100_7B = ("falcon-7b", "llama-2-7b", "mistral-7b")
A100_LARGE = ("llama-2-13b", "llama-2-70b", "falcon-40b", "mixtral-8x7b")


@pytest.fixture(scope="module")
def built_in() -> dict[str, Profile]:
    return {p.name: p for p in load_profiles()}


@pytest.mark.parametrize("model", A100_7B + A100_LARGE)
def test_energy_error_of_a100_models(built_in: dict[str, Profile], model: str) -> None:
    energy = built_in[f"wilkins-2024/swing-a100/{model}"].energy
    limit = 5 if model in A100_7B else 10
    assert energy.forms[energy.form].mape_pct <= limit
    assert energy.forms["bilinear"].mape_pct > 100


def test_energy_error_of_the_m1(built_in: dict[str, Profile]) -> None:
    energy = built_in["wilkins-2024/m1-pro/llama-2-7b"].energy
    assert energy.forms[energy.form].mape_pct <= 10
    assert energy.forms["bilinear"].mape_pct > 100


def test_no_selected_form_predicts_a_negative_value(built_in: dict[str, Profile]) -> None:
    for profile in built_in.values():
        for model in (profile.energy, profile.runtime):
            if model.forms:
                assert model.forms[model.form].negative_predictions == 0, profile.name


def test_the_built_in_profiles_are_what_a_fit_gives(built_in: dict[str, Profile]) -> None:
    runs = read_runs("wilkins-2024").only("system", ("palmetto-v100",))
    for fresh in fit_profiles(runs):
        shipped = built_in[fresh.name]
        assert fresh.energy.form == shipped.energy.form
        m, n = np.array([8.0, 200, 1500]), np.array([300.0, 20, 1000])
        np.testing.assert_allclose(
            predict(fresh, m, n).energy_j, predict(shipped, m, n).energy_j, rtol=1e-4
        )


@pytest.mark.slow
def test_intervals_cover_the_truth_about_as_often_as_they_say(tmp_path: Path) -> None:
    """Coverage of the bootstrap interval on data whose truth is known."""
    truth = {"n": 4.0, "s1": 0.03, "s2": 0.0}
    hits = 0
    for seed in range(40):
        path = tmp_path / f"{seed}.csv"
        made_up_runs(np.random.default_rng(seed), noise=0.05).write_csv(path)
        fitted = fit_profiles(read_runs(path), Options(form="phase", seed=seed))[0]
        interval = fitted.energy.intervals["s1"]
        hits += interval.low <= truth["s1"] <= interval.high
    assert hits >= 33  # 95 % of 40 is 38; fewer than 33 has probability below 0.002


def made_up_runs(rng: np.random.Generator, noise: float) -> pl.DataFrame:
    grid = 2.0 ** np.arange(3, 10)
    m, n = (axis.ravel() for axis in np.meshgrid(grid, grid))
    energy = FORMS["phase"].predict(np.array([4.0, 0.03, 0.0]), m, n)
    runtime = FORMS["phase"].predict(np.array([0.03, 1e-4, 0.0]), m, n)
    return pl.DataFrame(
        {
            "system": "lab",
            "model": "new-model",
            "input_tokens": m.astype(int),
            "output_tokens": n.astype(int),
            "runtime_s": runtime * np.exp(rng.normal(0, noise, len(m))),
            "accelerator_energy_j": energy * np.exp(rng.normal(0, noise, len(m))),
        }
    )


@pytest.mark.parametrize("suffix", ["csv", "parquet", "jsonl"])
def test_unseen_runs_fit_without_any_change(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"runs.{suffix}"
    frame = made_up_runs(np.random.default_rng(0), noise=0.02)
    {"csv": frame.write_csv, "parquet": frame.write_parquet, "jsonl": frame.write_ndjson}[suffix](
        path
    )
    profile = fit_profiles(read_runs(path))[0]
    assert profile.name == "lab/new-model"
    found = predict(profile, 100, 100).energy_j[0]
    expected = FORMS["phase"].predict(
        np.array([4.0, 0.03, 0.0]), np.array([100.0]), np.array([100.0])
    )
    assert found == pytest.approx(expected[0], rel=0.03)


def test_engines_with_a_kv_cache_get_the_kv_form(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    frame = made_up_runs(rng, 0.0)
    m, n = (frame[c].to_numpy().astype(float) for c in ("input_tokens", "output_tokens"))
    energy = FORMS["kv-phase"].predict(np.array([1.0, 0.05, 0.0, 2.0, 1e-4]), m, n)
    path = tmp_path / "kv.csv"
    frame.with_columns(
        pl.Series("accelerator_energy_j", energy * np.exp(rng.normal(0, 0.02, len(m)))),
        kv_cache=pl.lit("true"),
    ).write_csv(path)
    energy_model = fit_profiles(read_runs(path))[0].energy
    assert energy_model.form == "kv-phase"
    assert energy_model.forms["kv-phase"].mape_pct < 5
    assert "describes engines without" in energy_model.skipped["phase"]


def test_trials_pool_to_their_mean_and_standard_error(tmp_path: Path) -> None:
    """Raw trials, and their mean with standard deviation and count, are the same cell."""
    values = [10.0, 12.0, 17.0]
    raw = pl.DataFrame({"runtime_s": [1.0] * 3, "accelerator_energy_j": values})
    mean = pl.DataFrame(
        {
            "runtime_s": [1.0],
            "accelerator_energy_j": [np.mean(values)],
            "accelerator_energy_sd_j": [np.std(values, ddof=1)],
            "trials": [3],
        }
    )
    cells = []
    for name, frame in (("raw", raw), ("mean", mean)):
        path = tmp_path / f"{name}.csv"
        frame.with_columns(
            system=pl.lit("s"), model=pl.lit("m"), input_tokens=8, output_tokens=8
        ).write_csv(path)
        cells.append(make_cells(read_runs(path).table, "accelerator"))
    for column in ("energy_j", "energy_error_j", "trials"):
        np.testing.assert_allclose(getattr(cells[0], column), getattr(cells[1], column))


def test_profiles_round_trip_through_their_file(
    tmp_path: Path, built_in: dict[str, Profile]
) -> None:
    path = tmp_path / "profiles.json"
    save_profiles(list(built_in.values()), path)
    assert load_profiles(path) == list(built_in.values())
    name = next(iter(built_in))
    assert load_profile(f"{path}#{name}") == built_in[name]
    assert [p.name for p in tmp_path.iterdir()] == ["profiles.json"]


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "profiles.json"
    for profile in load_profiles()[:2]:
        save_profiles([profile], path)
        assert [found.name for found in load_profiles(path)] == [profile.name]


def test_predictions_say_when_they_extrapolate_and_when_they_are_negative() -> None:
    ours = predict(load_profile("wilkins-2024/swing-a100/llama-2-7b"), [100, 5000], [100, 100])
    assert ours.extrapolated.tolist() == [False, True]
    assert not ours.negative.any()
    study = predict(load_profile("wilkins-2024-ols/swing-a100/llama-2-7b"), [2048], [8])
    assert study.energy_j[0] < 0
    assert study.negative.tolist() == [True]


def test_selection_refuses_negative_forms_however_good() -> None:
    good = FormScore(1.0, 1.0, 0.0, 3, 1.0)
    fair = FormScore(5.0, 5.0, 0.0, 0, 0.9)
    assert select_form({"bilinear": good, "phase": fair}, {}) == "phase"


def test_rules_are_named_with_the_rows_they_touched() -> None:
    runs = read_runs("wilkins-2024").only("system", ("m1-pro",)).only("model", ("mistral-7b",))
    rules = {r.name: r.rows for r in fit_profiles(runs, Options(draws=0))[0].rules}
    assert rules["warmup"] > 0
    assert rules["pause_2s"] > 0
    everything = fit_profiles(runs, Options(draws=0, drop=(), pause_correction=False))[0]
    assert everything.rules == []
    assert everything.trials > fit_profiles(runs, Options(draws=0))[0].trials


def test_too_few_cells_are_refused_with_the_number(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    made_up_runs(np.random.default_rng(0), 0.1).head(3).write_csv(path)
    with pytest.raises(InputError, match=r"3 distinct .* cells remain"):
        fit_profiles(read_runs(path))


def test_regression_statistics_are_those_of_the_form_on_the_cells(tmp_path: Path) -> None:
    import statsmodels.api as sm

    path = tmp_path / "runs.csv"
    made_up_runs(np.random.default_rng(0), noise=0.2).write_csv(path)
    runs = read_runs(path)
    energy = fit_profiles(runs, Options(draws=0))[0].energy
    cells = make_cells(runs.table, "accelerator")
    columns = np.stack([cells.m, cells.n, cells.m * cells.n], axis=1)
    for name, design in (
        ("without_intercept", columns),
        ("with_intercept", sm.add_constant(columns)),
    ):
        ours, theirs = energy.regression[name], sm.OLS(cells.energy_j, design).fit()
        np.testing.assert_allclose(list(ours.coefficients.values()), theirs.params, rtol=1e-9)
        quoted = ours.r2_uncentred if name == "without_intercept" else ours.r2_centred
        np.testing.assert_allclose([quoted, ours.f], [theirs.rsquared, theirs.fvalue], rtol=1e-9)
        ends = [(i.low, i.high) for i in ours.intervals.values()]
        np.testing.assert_allclose(ends, theirs.conf_int(), rtol=1e-9)


@pytest.mark.parametrize(
    ("cells", "fits"),
    [
        ([(m, n, 1.0 * n) for m in (8, 32, 128) for n in (8, 32, 128)], 2),
        ([(m, n, 5.0) for m in (8, 32, 128) for n in (8, 32, 128)], 2),
        ([(32, n, 2.0 + 0.9 * n) for n in (8, 16, 32, 64, 128, 256)], 0),
    ],
    ids=["no residual", "no variation", "one input length"],
)
def test_runs_without_noise_variation_or_a_second_axis_are_fitted(
    tmp_path: Path, cells: list[tuple[int, int, float]], fits: int
) -> None:
    path, saved = tmp_path / "runs.csv", tmp_path / "profiles.json"
    header = "system,model,input_tokens,output_tokens,runtime_s,accelerator_energy_j"
    rows = [f"a,x,{m},{n},{value},{100 * value}" for m, n, value in cells]
    path.write_text("\n".join([header, *rows]) + "\n")
    profiles = fit_profiles(read_runs(path))
    save_profiles(profiles, saved)
    loaded = load_profiles(str(saved))[0].energy
    assert loaded.regression == profiles[0].energy.regression
    assert loaded.forms[loaded.form].mape_pct < 5
    assert len(loaded.regression) == fits
    assert all(fitted.f is None or fitted.f >= 0 for fitted in loaded.regression.values())


@pytest.mark.slow
def test_every_built_in_profile_is_what_the_script_makes(built_in: dict[str, Profile]) -> None:
    """tools/build_profiles.py, run again: fits and printed models."""
    script = Path(__file__).parent.parent.parent / "tools/build_profiles.py"
    spec = importlib.util.spec_from_file_location("build_profiles", script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    fresh = {p.name: p for p in module.built_in_profiles()}
    assert fresh.keys() == built_in.keys()
    m, n = np.array([8.0, 200, 1500, 40]), np.array([300.0, 20, 1000, 8])
    for name, profile in fresh.items():
        shipped = built_in[name]
        assert (profile.energy.form, profile.runtime.form) == (
            shipped.energy.form,
            shipped.runtime.form,
        )
        assert (profile.accuracy, profile.rules, profile.domain) == (
            shipped.accuracy,
            shipped.rules,
            shipped.domain,
        )
        for quantity in ("energy_j", "runtime_s"):
            np.testing.assert_allclose(
                getattr(predict(profile, m, n), quantity),
                getattr(predict(shipped, m, n), quantity),
                rtol=1e-4,
            )


def test_runs_without_energy_give_the_runtime_alone(tmp_path: Path) -> None:
    """The same runtime model as with energy, and a file that can be read again."""
    path, saved = tmp_path / "runs.csv", tmp_path / "profiles.json"
    frame = made_up_runs(np.random.default_rng(0), noise=0.02)
    frame.write_csv(path)
    whole = fit_profiles(read_runs(path), Options(draws=0))[0]
    frame.drop("accelerator_energy_j").write_csv(path)
    runtime = fit_profiles(read_runs(path), Options(draws=0))[0]
    assert runtime.energy is None
    assert runtime.runtime == whole.runtime
    save_profiles([runtime], saved)
    assert load_profiles(saved) == [runtime]
    with pytest.raises(InputError, match=r"lab/new-model: has no energy model: .*; measure with"):
        predict(runtime, 8, 8)


@pytest.mark.parametrize("accelerator", ["", "h100"])
def test_energy_of_the_host_alone_is_that_of_a_query_where_its_cpu_computes(
    tmp_path: Path, accelerator: str
) -> None:
    path = tmp_path / "runs.csv"
    frame = made_up_runs(np.random.default_rng(0), noise=0.02)
    frame.write_csv(path)
    whole = fit_profiles(read_runs(path), Options(draws=0))[0]
    frame = frame.rename({"accelerator_energy_j": "host_energy_j"})
    frame.with_columns(accelerator=pl.lit(accelerator)).write_csv(path)
    found = fit_profiles(read_runs(path), Options(draws=0))[0]
    if accelerator:
        assert found.energy is None
    else:
        assert (found.energy, found.boundary) == (whole.energy, "host")
        with pytest.raises(InputError, match="only the host has energy; use host"):
            fit_profiles(read_runs(path), Options(boundary="accelerator"))


def test_rows_without_energy_are_left_out_where_others_have_it(tmp_path: Path) -> None:
    """Both models rest on the same rows, and the rule says how many went."""
    path = tmp_path / "runs.csv"
    frame = made_up_runs(np.random.default_rng(0), noise=0.02)
    frame.slice(5).write_csv(path)
    rest = fit_profiles(read_runs(path))[0]
    some = frame.with_row_index().with_columns(
        accelerator_energy_j=pl.when(pl.col("index") >= 5).then("accelerator_energy_j")
    )
    some.write_csv(path)
    mixed = fit_profiles(read_runs(path))[0]
    assert [(r.name, r.rows) for r in mixed.rules] == [("no_energy", 5)]
    assert (mixed.energy, mixed.runtime) == (rest.energy, rest.runtime)


@pytest.mark.parametrize(
    ("flags", "kind"),
    [("", "derived"), ("modelled", "modelled"), ("simulated", "modelled")],
)
def test_an_estimated_energy_makes_a_modelled_profile(
    tmp_path: Path, flags: str, kind: str
) -> None:
    path = tmp_path / "runs.csv"
    frame = made_up_runs(np.random.default_rng(0), noise=0.02)
    told = pl.when(pl.col("output_tokens") == 8).then(pl.lit(f"cold|{flags}"))
    frame.with_columns(flags=told).write_csv(path)
    runs = read_runs(path)
    profile = fit_profiles(runs, Options(draws=0))[0]
    assert profile.kind == kind
    assert profile.provenance[0].kind == ("modelled" if flags else "measured")
    dropped = Options(draws=0, drop=("cold",))
    assert fit_profiles(runs, dropped)[0].kind == "derived"
    frame.with_columns(flags=told).drop("accelerator_energy_j").write_csv(path)
    assert fit_profiles(read_runs(path), Options(draws=0))[0].kind == "derived"  # of the runtime
