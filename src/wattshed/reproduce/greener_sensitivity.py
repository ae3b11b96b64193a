"""How verdicts hang on what is assumed of the clock."""

from __future__ import annotations

from wattshed.reproduce.greener_claims import judge_figures
from wattshed.reproduce.greener_figures import simulate_figures
from wattshed.reproduce.greener_load import Bench
from wattshed.reproduce.greener_readings import energy_exponents
from wattshed.reproduce.greener_settings import AS_IN_PROFILE, Assumed, profile_of
from wattshed.reproduce.study import Result

KNEES = (0.4, 0.5, 0.6, 0.7, 0.8)
EXPONENTS = (1.5, 2.0, 2.5, 3.0)


def variants() -> dict[str, Assumed]:
    """What is assumed otherwise, one thing at a time, with the assumption of the profile."""
    clock = profile_of(8).clock
    knees = {f"memory knee {k:g}": Assumed(memory_knee=k) for k in KNEES if k != clock.memory_knee}
    exponents = {
        f"dynamic exponent {g:g}": Assumed(dynamic_exponent=g)
        for g in EXPONENTS
        if g != clock.dynamic_exponent
    }
    default = f"memory knee {clock.memory_knee:g}, dynamic exponent {clock.dynamic_exponent:g}"
    following = {"short prompts follow the clock": Assumed(prompts_follow=True)}
    power = {"power prior not scaled": Assumed(unscaled_power=True)}
    return {default: AS_IN_PROFILE} | knees | exponents | following | power


def simulate_sensitivity(seed: int) -> Result:
    """Verdicts on the claims that rest on figures under each variant, from one replication.

    Returns
    -------
    dict
        Claim to a list of `{assumed, ours, verdict}`.
    """
    bench = Bench(seed, 1)
    found: Result = {}
    for name, assumed in variants().items():
        for claim, judged in judge_figures(simulate_figures(bench, assumed)).items():
            row = {"assumed": name, "ours": judged.ours, "verdict": judged.verdict}
            found.setdefault(claim, []).append(row)
    return found


def simulate_exponents(bench: Bench) -> Result:
    """Least dynamic exponent at which 1.6 GHz needs less than 80 % of the energy, by batch.

    With the power of the profiles, and with that of the prior unscaled; see `energy_exponents`.
    """
    return {
        "scaled": energy_exponents(bench, AS_IN_PROFILE),
        "unscaled": energy_exponents(bench, Assumed(unscaled_power=True)),
    }
