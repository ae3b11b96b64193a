"""API keys: who may ask, for which models, and how much. Keys are kept as hashes only.

A budget is a bucket that fills evenly and holds as much as its window allows. A request is charged
when it comes, whatever becomes of it, so that who tries again and again is limited, too; tokens and
joules when they are known: what is under way at the same time may go over a budget by what it uses,
and has to be waited off.
"""

from __future__ import annotations

import hashlib
import hmac
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from wattshed.errors import FileError
from wattshed.files import find_not_finite
from wattshed.serve.refused import RefusedError

MINUTE_S, HOUR_S = 60.0, 3600.0
Positive = Annotated[float, msgspec.Meta(gt=0)]


class KeyEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One ``[[keys]]`` table.

    Attributes
    ----------
    tenant : str
        Whom requests with this key are charged to, in the ledger.
    sha256 : str
        Of the key, in hexadecimal digits.
    models : list of str
        That it may ask for; all if empty.
    requests_per_minute, tokens_per_minute, joules_per_hour : float or None
        Budgets; none if None. Tokens are input and output together, joules without idling.
    """

    tenant: Annotated[str, msgspec.Meta(min_length=1)]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    models: list[str] = []
    requests_per_minute: Positive | None = None
    tokens_per_minute: Positive | None = None
    joules_per_hour: Positive | None = None


class KeyFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Content of a file of keys."""

    keys: Annotated[list[KeyEntry], msgspec.Meta(min_length=1)]


@dataclass
class Bucket:
    """A budget.

    Attributes
    ----------
    holds : float
        What its window allows; full at first.
    window_s : float
    """

    holds: float
    window_s: float
    level: float = 0.0
    _filled_s: float | None = None

    def wait_s(self, need: float, now_s: float) -> float:
        """Seconds until the level is at `need`, or the bucket is full; 0 if it is now."""
        self._fill(now_s)
        return max(0.0, min(need, self.holds) - self.level) * self.window_s / self.holds

    def charge(self, amount: float, now_s: float) -> None:
        """Take something out, also more than there is."""
        self._fill(now_s)
        self.level -= amount

    def _fill(self, now_s: float) -> None:
        if self._filled_s is None:
            self.level = self.holds
        else:
            grown = (now_s - self._filled_s) * self.holds / self.window_s
            self.level = min(self.holds, self.level + max(0.0, grown))
        self._filled_s = now_s


class Holder:
    """Whoever holds a key, with what is left of the budgets."""

    def __init__(self, entry: KeyEntry) -> None:
        self.entry, self.tenant = entry, entry.tenant
        self.digest = bytes.fromhex(entry.sha256)
        limits = {
            "requests": (entry.requests_per_minute, MINUTE_S),
            "tokens": (entry.tokens_per_minute, MINUTE_S),
            "joules": (entry.joules_per_hour, HOUR_S),
        }
        self._buckets = {k: Bucket(v, s) for k, (v, s) in limits.items() if v is not None}

    def admit(self, now_s: float) -> None:
        """Charge one request.

        Raises
        ------
        RefusedError
            If a budget is used up.
        """
        for name, bucket in self._buckets.items():
            need = 1.0 if name == "requests" else bucket.holds * 1e-9
            wait_s = bucket.wait_s(need, now_s)
            if wait_s > 0:
                message = f"the budget of {name} of {self.tenant!r} is used up; try again later"
                raise RefusedError(429, message, f"{name}_budget", retry_after_s=wait_s)
        if "requests" in self._buckets:
            self._buckets["requests"].charge(1.0, now_s)

    def check_model(self, model: str) -> None:
        """Refuse a model that the key is not for.

        Raises
        ------
        RefusedError
        """
        if not self.allows(model):
            allowed = ", ".join(self.entry.models)
            message = f"this key is not for {model!r}; use one of {allowed}"
            raise RefusedError(403, message, "model_not_allowed", param="model")

    def allows(self, model: str) -> bool:
        """Whether the key is for a model."""
        return not self.entry.models or model in self.entry.models

    def charge(self, tokens: int, joules: float, now_s: float) -> None:
        """Charge what a request has used."""
        for name, amount in (("tokens", float(tokens)), ("joules", joules)):
            if name in self._buckets:
                self._buckets[name].charge(amount, now_s)


class Keys:
    """All keys. Finding one takes as long whatever is presented."""

    def __init__(self, entries: Sequence[KeyEntry]) -> None:
        self._holders = [Holder(entry) for entry in entries]

    def identify(self, authorization: str | None) -> Holder:
        """Whose key it is.

        Raises
        ------
        RefusedError
            If it is nobody's.
        """
        scheme, _, token = (authorization or "").partition(" ")
        digest = hashlib.sha256(token.strip().encode("utf-8", "surrogateescape")).digest()
        found = None
        for holder in self._holders:
            if hmac.compare_digest(digest, holder.digest):
                found = holder
        if found is None or scheme.lower() != "bearer":
            message = "no valid API key; send it as 'Authorization: Bearer KEY'"
            raise RefusedError(401, message, "invalid_api_key")
        return found


def load_keys(path: Path) -> Keys:
    """Read a file of keys.

    Raises
    ------
    FileError
        Naming the place, never the content.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
        found = msgspec.convert(raw, KeyFile)
    except OSError as error:
        raise FileError(str(path), f"cannot be read: {error.strerror}", "check the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FileError(str(path), f"is not TOML: {error}", "correct the syntax") from None
    except msgspec.ValidationError as error:
        cure = "give tables [[keys]] with tenant and sha256"
        raise FileError(str(path), str(error), cure) from None
    wrong = find_not_finite(raw)
    if wrong:
        where, cure = f"{path}: {wrong[0]}", "give a finite number, or leave it out for no budget"
        raise FileError(where, f"{wrong[1]:g}", cure)
    digests = [entry.sha256 for entry in found.keys]
    if len(set(digests)) < len(digests):
        raise FileError(str(path), "the same key is there twice", "give each tenant its own")
    return Keys(found.keys)
