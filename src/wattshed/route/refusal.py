"""Say why no endpoint may serve a request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wattshed.fleet import DEFAULT_CLASS, Deployment, Fleet, describe_slo
from wattshed.plan.problem import limited_tokens, token_limits
from wattshed.records import Endpoint, Request
from wattshed.route.outlook import Outlook, forecast


def why_none(
    fleet: Fleet, request: Request, outlook: Outlook, endpoints: Sequence[Endpoint], now_s: float
) -> str:
    """Name, for each deployment that has endpoints, the limit that is in the way.

    >>> import wattshed as ws
    >>> from wattshed.records import Endpoint, Request
    >>> policy = ws.load_policy("least-loaded", fleet="hybrid-2024")
    >>> long = Request("1", input_tokens=32, expected_output_tokens=900.0)
    >>> policy.decide(long, [Endpoint("m1-0", "m1-pro")], now_s=0.0).reason
    'no endpoint may serve the request: m1-pro: max_output_tokens is 512, the forecast 900'
    """
    if not endpoints:
        return "there are no endpoints"
    known = {d.name: d for d in fleet.deployments}
    reasons = []
    for name in sorted({e.deployment for e in endpoints}):
        healthy = any(e.healthy for e in endpoints if e.deployment == name)
        if name not in known:
            reason = f"not in the fleet {fleet.name}"
        elif name in outlook.runtime_s:
            reason = _too_late(request, outlook.runtime_s[name], now_s) if healthy else ""
        else:
            reason = _forbidden(known[name], fleet, request)
        reasons.append(f"{name}: {reason or 'no healthy endpoint'}")
    return f"no endpoint may serve the request: {'; '.join(reasons)}"


def _too_late(request: Request, runtime_s: float, now_s: float) -> str:
    assert request.deadline_s is not None
    left_s = request.arrival_s + request.deadline_s - now_s
    return f"takes {runtime_s:.3g} s, the deadline is in {left_s:.3g} s"


def _forbidden(deployment: Deployment, fleet: Fleet, request: Request) -> str:
    over = list(_limits_exceeded(deployment, request))
    if over:
        return ", ".join(over)
    slo = fleet.slo.get(request.slo_class, fleet.slo.get(DEFAULT_CLASS))
    assert slo is not None
    return f"breaks the SLO {describe_slo(slo)}"


def _limits_exceeded(deployment: Deployment, request: Request) -> Iterator[str]:
    limits = token_limits(deployment)
    tokens = limited_tokens(float(request.input_tokens), forecast(request))
    for name, wanted in tokens.items():
        limit = limits[name]
        if limit is not None and wanted > limit:
            whose = "the input" if name == "max_input_tokens" else "the forecast"
            yield f"{name} is {limit}, {whose} {wanted:g}"
