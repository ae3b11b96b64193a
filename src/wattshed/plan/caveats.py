"""What the reader of a plan must know about its predictions."""

from __future__ import annotations

from collections.abc import Sequence

from wattshed.fit.forms import Array
from wattshed.fleet import Deployment
from wattshed.plan.problem import Problem
from wattshed.profiles import energy_model
from wattshed.records import IterationProfile, Profile, StepDomain
from wattshed.serving import engine_settings
from wattshed.steps import modelled_parts


def find_caveats(problem: Problem, shares: Array) -> list[str]:
    """Negative, extrapolated and modelled predictions, missing domains and unlike boundaries.

    Parameters
    ----------
    problem : Problem
    shares : array (Q, K)
    """
    found = []
    count = problem.queries.count
    for k, deployment in enumerate(problem.deployments):
        negative = int(count[problem.negative[:, k]].sum())
        outside = int(count[problem.extrapolated[:, k] & (shares[:, k] > 0)].sum())
        if isinstance(deployment.profile, IterationProfile):
            found += _of_steps(deployment, deployment.profile, outside)
        else:
            found += _of_queries(deployment, deployment.profile, (negative, outside, problem.total))
    found += estimate_caveats(problem.deployments) + engine_caveats(problem.deployments)
    if len({d.profile.boundary for d in problem.deployments}) > 1:
        parts = ", ".join(
            f"{d.name} {d.profile.boundary}"
            + (f" + {d.host_power_w:g} W" if d.host_power_w else "")
            for d in problem.deployments
        )
        found.append(f"energy boundaries differ: {parts}")
    return found


def _of_queries(
    deployment: Deployment, profile: Profile, numbers: tuple[int, int, int]
) -> list[str]:
    """Caveats of a profile of single queries: negative, extrapolated and all queries given."""
    negative, outside, total = numbers
    found = []
    if negative:
        found.append(
            f"{deployment.name}: the profile {profile.name} predicts a negative energy or"
            f" runtime for {negative} of {total} queries"
            f" ({100 * negative / total:.1f} %); its form is {energy_model(profile).form}"
        )
    if outside:
        box = profile.domain
        assert box is not None
        found.append(
            f"{deployment.name}: {outside} of the queries it gets lie outside"
            f" the cells of its profile (m {box.input_tokens[0]} to {box.input_tokens[1]},"
            f" n {box.output_tokens[0]} to {box.output_tokens[1]}): extrapolated"
        )
    if profile.domain is None:
        found.append(f"{deployment.name}: the profile {profile.name} states no validity domain")
    return found


def estimate_caveats(deployments: Sequence[Deployment]) -> list[str]:
    """Profiles of single queries whose energy no meter measured."""
    return [
        f"{d.name}: the energy of the profile {d.profile.name} is modelled: no meter measured it"
        for d in deployments
        if isinstance(d.profile, Profile) and d.profile.kind == "modelled"
    ]


def engine_caveats(deployments: Sequence[Deployment]) -> list[str]:
    """What is assumed of engines that batch: their defaults, modelled parts, full batches."""
    found = []
    for deployment in deployments:
        profile = deployment.profile
        if isinstance(profile, IterationProfile):
            settings = engine_settings(deployment)
            parts = ", ".join(modelled_parts(profile, settings.clock))
            found += settings.notes
            found.append(f"{deployment.name}: modelled in the profile {profile.name}: {parts}")
    if found:
        found.append(
            "engines that batch are taken to be full at all times: each query is served beside"
            " max_batch - 1 like it, or as many as the cache holds, and waits for nothing"
        )
    return found


def _of_steps(deployment: Deployment, profile: IterationProfile, outside: int) -> list[str]:
    if not outside:
        return []
    return [
        f"{deployment.name}: {outside} of the queries it gets are served in steps outside the"
        f" cells of its profile ({_cells(profile.domain)}): extrapolated"
    ]


def _cells(domain: StepDomain) -> str:
    spans = {
        "batch": domain.batch,
        "batch with energy": domain.energy_batch,
        "context tokens": domain.context_tokens,
        "prompt tokens": domain.prompt_tokens,
    }
    return ", ".join(
        f"{name} {span[0]:.0f} to {span[1]:.0f}" for name, span in spans.items() if span
    )
