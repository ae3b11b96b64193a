"""The exception tree.

WattshedError                 anything this package raises on purpose
└── InputError                bad input; the command line exits with 2
    ├── FileError             a file that is missing, unreadable or of the wrong kind
    ├── TableError            a row or column of a table
    ├── FleetError            a key of fleet.toml
    ├── ProfileError          an unknown or unusable profile
    ├── ParameterError        an argument out of its range
    ├── UnservableError       a query that no deployment may serve
    ├── InfeasibleError       constraints that cannot all hold
    ├── MeterError            a meter that is missing or may not be read
    └── EngineError           an engine that cannot be reached, or failed

Each carries the place, what was found there and what to do about it; nothing is
raised for a condition the caller cannot act on.
"""

from __future__ import annotations

from typing import Literal

Status = Literal["missing", "not_permitted", "not_trusted"]


class WattshedError(Exception):
    """Base of every exception that wattshed raises on purpose."""


class InputError(WattshedError):
    """Bad input, told in one line.

    Parameters
    ----------
    where : str
        File, row, column, key or argument.
    found : str
        What was found there, with its value.
    cure : str
        What to do about it.
    """

    def __init__(self, where: str, found: str, cure: str) -> None:
        self.where = where
        self.found = found
        self.cure = cure
        super().__init__(f"{where}: {found}; {cure}")


class FileError(InputError):
    """A file that is missing, unreadable or of the wrong kind."""


class TableError(InputError):
    """A row or column of a table: runs, a workload, rates, a signal."""


class FleetError(InputError):
    """A key of fleet.toml."""


class ProfileError(InputError):
    """An unknown or unusable profile."""


class ParameterError(InputError):
    """An argument out of its range."""


class UnservableError(InputError):
    """A query that no deployment may serve."""


class InfeasibleError(InputError):
    """Constraints that cannot all hold; tells the least relaxation."""


class MeterError(InputError):
    """A meter that is missing or may not be read.

    Parameters
    ----------
    where, found, cure : str
        See `InputError`.
    status : {"missing", "not_permitted", "not_trusted"}
    """

    def __init__(self, where: str, found: str, cure: str, status: Status = "missing") -> None:
        self.status = status
        super().__init__(where, found, cure)


class EngineError(InputError):
    """An engine that cannot be reached, or failed."""
