"""What the reader of a plan must know about its predictions."""

from __future__ import annotations

from wattshed.fit.forms import Array
from wattshed.plan.latency import query_profile
from wattshed.plan.problem import Problem


def find_caveats(problem: Problem, shares: Array) -> list[str]:
    """Negative and extrapolated predictions, missing domains and unlike boundaries.

    Parameters
    ----------
    problem : Problem
    shares : array (Q, K)
    """
    found = []
    count = problem.queries.count
    for k, deployment in enumerate(problem.deployments):
        profile = query_profile(deployment)
        negative = int(count[problem.negative[:, k]].sum())
        if negative:
            found.append(
                f"{deployment.name}: the profile {profile.name} predicts a negative energy or"
                f" runtime for {negative} of {problem.total} queries"
                f" ({100 * negative / problem.total:.1f} %); its form is {profile.energy.form}"
            )
        outside = problem.extrapolated[:, k] & (shares[:, k] > 0)
        if outside.any():
            box = profile.domain
            assert box is not None
            found.append(
                f"{deployment.name}: {int(count[outside].sum())} of the queries it gets lie outside"
                f" the cells of its profile (m {box.input_tokens[0]} to {box.input_tokens[1]},"
                f" n {box.output_tokens[0]} to {box.output_tokens[1]}): extrapolated"
            )
        if profile.domain is None:
            found.append(f"{deployment.name}: the profile {profile.name} states no validity domain")
    if len({d.profile.boundary for d in problem.deployments}) > 1:
        parts = ", ".join(
            f"{d.name} {d.profile.boundary}"
            + (f" + {d.host_power_w:g} W" if d.host_power_w else "")
            for d in problem.deployments
        )
        found.append(f"energy boundaries differ: {parts}")
    return found
