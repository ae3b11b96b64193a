"""Energy and power that an exporter shows in Prometheus' text format.

``prometheus:URL`` knows dcgm-exporter, Kepler and macmon; any other metric is read by
``prometheus:URL?metric=NAME&scope=gpu&unit=mJ``. Values are flagged `stale` when the exporter has
not refreshed them for a second: dcgm-exporter looks every 30 s unless told. On a GPU that is shared
(MIG) each part repeats the counter of the whole: it is read once, and flagged `mig`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import get_args
from urllib.parse import urlsplit, urlunsplit

import httpx

from wattshed.errors import MeterError
from wattshed.measure.clock import NS_PER_S, Clock
from wattshed.measure.exposition import Point, read_page
from wattshed.measure.meter import Meter
from wattshed.measure.metrics import OPTIONS, RULES, Rule, rule_of, uuid_of
from wattshed.measure.shared import NO_DATA, NOT_PERMITTED, Flags, Said, Shared, SharedMeter
from wattshed.measure.web import get, is_refusal, open_client, place_of, reason_of, take_options
from wattshed.records import MeterInfo
from wattshed.records.measure import Scope

MODELS = ("modelName", "gpu_name", "chip")
HOST: tuple[Scope, ...] = ("cpu_package", "dram")
ANOTHER = "name one that it shows: prometheus:URL?metric=NAME&scope=gpu&unit=mJ"
STALE_S = 1.0
Page = Mapping[str, Point]


def open_meters(argument: str, clock: Clock) -> list[Meter]:
    """Open a meter for each component on a page.

    Raises
    ------
    ParameterError, MeterError
    """
    url, options = take_options(argument if "://" in argument else f"http://{argument}", OPTIONS)
    parts = urlsplit(url)
    url = urlunsplit(parts._replace(path="/metrics")) if parts.path in ("", "/") else url
    scraper = Scraper(url, [rule_of(options)] if options else RULES, clock)
    shared = Shared(scraper.scrape, clock)
    page = shared.answer(None).value
    if page is None:
        raise scraper.refusal()
    if not page:
        what = options.get("metric", "metric of energy or power that is known")
        raise MeterError(url, f"shows no {what}", ANOTHER)
    return [SharedMeter(info, shared, _pick(name)) for name, info in infos_of(page, url).items()]


class Scraper:
    """A page that is scraped; the connection is closed when it is let go.

    Parameters
    ----------
    url : str
    rules : sequence of Rule
    clock : Clock
    """

    def __init__(self, url: str, rules: Sequence[Rule], clock: Clock) -> None:
        self.url, self._rules, self._clock = url, rules, clock
        self._client = open_client(url)
        self._error: Exception = RuntimeError("nothing was asked")
        self._changes: dict[str, tuple[object, int]] = {}
        weakref.finalize(self, self._client.close)

    def scrape(self) -> tuple[Page | None, Flags]:
        """Components on the page now, or why there are none."""
        try:
            text = get(self._client, self.url).decode(errors="replace")
            page = read_page(text, self._rules)
        except (httpx.HTTPError, ValueError) as error:
            self._error = error
            return None, NOT_PERMITTED if is_refusal(error) else NO_DATA
        return {name: self._with_age(name, page) for name in page}, ()

    def _with_age(self, name: str, page: Page) -> Point:
        """Flag a point whose timestamp, or the whole page if it has none, has not changed."""
        point, now_ns = page[name], self._clock.mono_ns()
        state = page if point.stamp is None else point.stamp
        if name not in self._changes or self._changes[name][0] != state:
            self._changes[name] = state, now_ns
        if now_ns - self._changes[name][1] <= STALE_S * NS_PER_S:
            return point
        return replace(point, flags=(*point.flags, "stale"))

    def refusal(self) -> MeterError:
        """Error for a scrape that failed."""
        reason = reason_of(self._error)
        if is_refusal(self._error):
            cure = "scrape it from where it asks for no credentials: wattshed sends none"
            return MeterError(self.url, reason, cure, "not_permitted")
        return MeterError(self.url, reason, "check that an exporter listens there")


def infos_of(page: Page, url: str) -> dict[str, MeterInfo]:
    """What each component of a page is.

    Parameters
    ----------
    page : mapping of str to Point
    url : str
        Its host tells components of machines apart, its port those of exporters.
    """
    place, server = place_of(url), urlsplit(url).netloc
    covers = {name: uuid_of(point.labels) or f"{place}{name}" for name, point in page.items()}
    return {
        name: MeterInfo(
            id=f"prometheus:{server}/{name}",
            source="prometheus",
            kind="counter" if point.rules[0].is_energy else "power",
            scope=point.rules[0].scope,
            covers=(covers[name], *(covers[other] for other in _parts(name, page))),
            model=next((point.labels[key] for key in MODELS if key in point.labels), ""),
            provenance=point.provenance,
            resolution_j=None if point.rules[0].factor == 1 else point.rules[0].factor,
            averaging_s=point.rules[-1].averaging_s,
            note=point.rules[0].metric,
            limit_w=point.rules[0].limit_w,
        )
        for name, point in page.items()
    }


def _parts(name: str, page: Page) -> list[str]:
    rule = page[name].rules[0]
    if not rule.whole:
        return []
    scopes = HOST if rule.scope == "soc" else get_args(Scope)
    return [other for other in page if other != name and page[other].rules[0].scope in scopes]


def _pick(name: str) -> Callable[[Page], Said]:
    return lambda page: page[name].say() if name in page else (None, None, NO_DATA)
