"""What other commands see of a ledger."""

from enum import Enum
from typing import Any, Protocol


class Outlook(Enum):
    """The state of the ledger that `serve` would find. The value describes what `serve` would do."""

    NEW = "will be created"
    FOUND = "found: counting continues from it"
    IN_USE = "in use by a running exporter: counting continues"
    DAMAGED = "damaged: it would be set aside, and all counters would restart at zero"


class Rows(Protocol):
    """Runs a query."""

    def __call__(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """All rows."""
        ...
