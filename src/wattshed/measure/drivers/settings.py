"""Settings of a driver, given as text: read by type, and refused where they make no sense."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence

from wattshed.errors import ParameterError


class Settings:
    """What the user set, by name.

    Parameters
    ----------
    driver : str
        Begins the place in errors: ``openai: timeout_s``.
    given : mapping
    known : sequence of str

    Raises
    ------
    ParameterError
        If something else was set.
    """

    def __init__(self, driver: str, given: Mapping[str, str], known: Sequence[str]) -> None:
        self.driver, self._given = driver, given
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}? " if near else ""
                raise ParameterError(
                    f"{driver}: {name}", "no such setting", f"{hint}Use {', '.join(known)}"
                )

    def text(self, name: str, default: str = "") -> str:
        """Text as it was given."""
        return self._given.get(name, default)

    def choice(self, name: str, allowed: Sequence[str], default: str) -> str:
        """One of a few words."""
        found = self._given.get(name, default)
        if found not in allowed:
            raise self.refuse(name, f"give one of {', '.join(allowed)}")
        return found

    def yes(self, name: str, default: bool) -> bool:
        """Whether it is ``true``."""
        return self.choice(name, ("true", "false"), "true" if default else "false") == "true"

    def whole(self, name: str, default: int, least: int = 0) -> int:
        """A whole number, of `least` at least."""
        found = self._given.get(name)
        if found is None:
            return default
        if not found.isascii() or not found.isdecimal() or int(found) < least:
            raise self.refuse(name, f"give a whole number from {least}")
        return int(found)

    def number(self, name: str, default: float, *, above: float = -math.inf) -> float:
        """A finite number above `above`."""
        given = self._given.get(name)
        if given is None:
            return default
        try:
            found = float(given)
        except ValueError:
            found = math.nan
        if not math.isfinite(found) or found <= above:
            raise self.refuse(
                name, "give a number" + (f" above {above:g}" if above > -math.inf else "")
            )
        return found

    def refuse(self, name: str, cure: str) -> ParameterError:
        """The error that says so, to be raised."""
        return ParameterError(f"{self.driver}: {name}", repr(self._given.get(name)), cure)


def check_query(input_tokens: int, output_tokens: int, batch_size: int) -> None:
    """Refuse queries of no size.

    Raises
    ------
    ParameterError
    """
    sizes = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "batch_size": batch_size,
    }
    for name, value in sizes.items():
        if value < 1:
            raise ParameterError(name, str(value), "give 1 or more")
