"""One row for each request."""

from __future__ import annotations

import numpy as np
import polars as pl

from wattshed.fleet import Fleet
from wattshed.simulate.external import endpoint_names
from wattshed.simulate.layout import FATES
from wattshed.simulate.result import Simulation


def request_table(found: Simulation, fleet: Fleet, policy: str, controller: str) -> pl.DataFrame:
    """Requests in order of arrival; what is not known is empty.

    Parameters
    ----------
    found : Simulation
    fleet : Fleet
    policy, controller : str
        Names, written into every row.
    """
    requests = found.requests
    assert requests.group is not None
    names = pl.Series([*endpoint_names(fleet.deployments), None])
    known = {
        "start_s": found.start_s,
        "first_token_s": found.first_token_s,
        "finish_s": found.finish_s,
        "ttft_s": found.ttft_s,
        "tpot_s": found.tpot_s,
        "longest_gap_s": found.longest_gap_s,
        "e2e_s": found.e2e_s,
    }
    return pl.DataFrame(
        {
            "request": np.arange(len(requests)),
            "arrival_s": requests.arrival_s,
            "input_tokens": requests.input_tokens,
            "output_tokens": requests.output_tokens,
            "class": pl.Series(list(requests.classes)).gather(requests.group),
            "fate": pl.Series(list(FATES)).gather(found.fate),
            "endpoint": names.gather(np.where(found.replica >= 0, found.replica, len(names) - 1)),
            **{name: pl.Series(values).fill_nan(None) for name, values in known.items()},
            "prefill_energy_j": found.prefill_energy_j,
            "decode_energy_j": found.decode_energy_j,
            "static_energy_j": found.static_energy_j,
            "preemptions": found.preemptions,
            "retries": found.retries,
        }
    ).select(pl.lit(policy).alias("policy"), pl.lit(controller).alias("controller"), pl.all())
