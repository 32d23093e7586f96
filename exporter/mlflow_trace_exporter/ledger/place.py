"""Where a ledger is: a file of SQLite, or a schema in a PostgreSQL database."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Database:
    """A ledger in PostgreSQL. ``url``: that of the database, as libpq reads it; it can contain a password. ``name``:
    that of the ledger, because several can share a database."""

    url: str
    name: str

    def __str__(self) -> str:
        """The ledger without anything secret: libpq also reads passwords after the question mark."""
        hosts = self.url.partition("://")[2].partition("?")[0].rpartition("@")[2]
        return f"ledger {self.name} in PostgreSQL at {hosts or 'the default address'}"

    __repr__ = __str__


Place = Path | Database
