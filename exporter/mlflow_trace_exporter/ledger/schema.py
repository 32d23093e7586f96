"""The tables of a ledger, and the conversion of ledgers of earlier versions."""

import logging
import sqlite3
from contextlib import closing, suppress
from glob import escape
from hashlib import blake2b
from pathlib import Path

from mlflow_trace_exporter.ledger.contents import DamagedError

log = logging.getLogger(__name__)

APPLICATION_ID = 0x4D54_4578
"""Marks a SQLite file as a ledger of this program ("MTEx")."""

SCHEMA_VERSION = 8

_DONE = """
CREATE TABLE done (digest BLOB NOT NULL UNIQUE, start_ms INTEGER NOT NULL, group_id INTEGER, failed INTEGER,
  duration_ms INTEGER, input INTEGER, output INTEGER, cache_read_input INTEGER, cache_creation_input INTEGER,
  input_nano_usd INTEGER, output_nano_usd INTEGER, seen INTEGER{spans});
CREATE INDEX done_by_start ON done (start_ms);
"""

_WORKSPACES = "CREATE TABLE workspaces (name TEXT PRIMARY KEY) WITHOUT ROWID;\n"

_ASSESSMENTS = """
CREATE TABLE assessments (digest BLOB PRIMARY KEY, start_ms INTEGER NOT NULL, form INTEGER) WITHOUT ROWID;
CREATE INDEX assessments_by_start ON assessments (start_ms, form);
"""

_SKETCHES = """
CREATE TABLE sketches (period_ms INTEGER NOT NULL, start_ms INTEGER NOT NULL, who TEXT NOT NULL, labels TEXT NOT NULL,
  sketch BLOB NOT NULL, PRIMARY KEY (period_ms, start_ms, who, labels));
"""

_GROUPS = """
CREATE TABLE groups (id INTEGER PRIMARY KEY, names TEXT NOT NULL, labels TEXT NOT NULL, active_ms INTEGER NOT NULL,
  stage INTEGER NOT NULL, UNIQUE (labels, names));
"""

_GROUPS_BEFORE = """
CREATE TABLE groups (id INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE, active_ms INTEGER NOT NULL,
  stage INTEGER NOT NULL);
"""

SCHEMA = f"""
{_DONE.format(spans=", spans BLOB")}
CREATE TABLE pending (trace_id TEXT PRIMARY KEY, start_ms INTEGER NOT NULL, experiment_id TEXT NOT NULL,
  experiment TEXT NOT NULL, environment TEXT NOT NULL, running INTEGER NOT NULL, first_ms INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL, form INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX pending_by_next ON pending (next_ms);
CREATE TABLE retired (bucket_ms INTEGER PRIMARY KEY, traces INTEGER NOT NULL);
CREATE TABLE totals (family TEXT, labels TEXT, part TEXT, value NUMERIC NOT NULL, slept NUMERIC NOT NULL,
  PRIMARY KEY (family, labels, part)) WITHOUT ROWID;
{_GROUPS}CREATE TABLE versions (labels TEXT PRIMARY KEY, first_ms INTEGER) WITHOUT ROWID;
CREATE TABLE shapes (family TEXT PRIMARY KEY, shape TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE experiments (experiment_id TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, origin_ms INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE horizon (one INTEGER PRIMARY KEY CHECK (one = 1), origin_ms INTEGER NOT NULL, fresh_ms INTEGER,
  closed_ms INTEGER NOT NULL, retired_ms INTEGER NOT NULL, forgotten_ms INTEGER NOT NULL,
  assessed_ms INTEGER NOT NULL DEFAULT 0);
CREATE TABLE passes (kind TEXT PRIMARY KEY, started_ms INTEGER NOT NULL, from_ms INTEGER NOT NULL,
  lo_ms INTEGER NOT NULL, hi_ms INTEGER NOT NULL, ended_after_ms INTEGER) WITHOUT ROWID;
{_WORKSPACES}{_ASSESSMENTS}{_SKETCHES}PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {SCHEMA_VERSION};
"""

MIGRATIONS = {
    2: """
CREATE TABLE versions (labels TEXT PRIMARY KEY, first_ms INTEGER) WITHOUT ROWID;
INSERT OR IGNORE INTO versions SELECT json_array(json_extract(labels, '$[0]'),
  json_extract(labels, '$[1]'), json_extract(labels, '$[2]')), NULL FROM groups
  WHERE json_array_length(labels) > 2;
PRAGMA user_version = 3;
""",  # when an existing version was first seen is unknown and stays so
    3: """
ALTER TABLE horizon ADD COLUMN forgotten_ms INTEGER NOT NULL DEFAULT 0;
UPDATE horizon SET forgotten_ms = max(0, retired_ms - 600000);
PRAGMA user_version = 4;
""",  # schema 3 forgot ids up to one bucket before the retired mark
    4: f"""
ALTER TABLE groups RENAME TO groups_before;
ALTER TABLE done RENAME TO done_before;
DROP INDEX done_by_start;
{_GROUPS_BEFORE} {_DONE.format(spans="")}
INSERT INTO groups (labels, active_ms, stage) SELECT labels, active_ms, stage FROM groups_before;
INSERT INTO done (digest, start_ms, seen)
  SELECT digest(trace_id), start_ms, amounts FROM done_before ORDER BY start_ms;
DROP TABLE groups_before;
DROP TABLE done_before;
PRAGMA user_version = 5;
""",  # noqa: S608 - no values; schema 4 kept a checksum of the amounts, and the ids as text
    5: f"{_WORKSPACES} PRAGMA user_version = 6;",
    6: f"""
ALTER TABLE groups RENAME TO groups_before;
{_GROUPS}
INSERT INTO groups SELECT id, iif(json_array_length(labels) = 2, '["experiment","environment"]', names), labels,
  active_ms, stage FROM groups_before LEFT JOIN
  (SELECT json_extract(shape, '$[0]') AS names FROM shapes WHERE family = 'mlflow_traces_total')
  WHERE json_array_length(labels) IN (2, json_array_length(names));
DROP TABLE groups_before;
UPDATE done SET group_id = NULL WHERE group_id NOT IN (SELECT id FROM groups);
ALTER TABLE done ADD COLUMN spans BLOB;
PRAGMA user_version = 7;
""",  # noqa: S608 - no values; until schema 6, only the series of traces and places were in groups
    7: f"""
{_ASSESSMENTS}
{_SKETCHES}
ALTER TABLE horizon ADD COLUMN assessed_ms INTEGER NOT NULL DEFAULT 0;
UPDATE horizon SET assessed_ms = min(closed_ms, ifnull((SELECT max(start_ms) FROM done), closed_ms));
PRAGMA user_version = 8;
""",  # noqa: S608 - no values; assessments of earlier traces are not counted, or all of them would be at once
}
"""The migration from each earlier schema to the next one."""

DIGEST_BYTES = 11
"""At this length, the probability that any two of a billion ids have the same digest is about 1 in 600 million."""


def digest(trace_id: str) -> bytes:
    """A digest of the id of a trace that is done with. The ledger keeps it instead of the id."""
    return blake2b(trace_id.encode(), digest_size=DIGEST_BYTES).digest()


def version_of(db: sqlite3.Connection) -> int:
    """The schema version of a ledger."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def migrate(db: sqlite3.Connection, path: Path) -> None:
    """Convert an older ledger to the current schema. A copy is kept until ``drop_copies``. Raises DamagedError if the
    ledger cannot be converted."""
    version = version_of(db)
    if version not in MIGRATIONS:
        return
    log.info("converting the ledger to a new schema", extra={"ledger": path, "schema": SCHEMA_VERSION})
    _copy(db, Path(f"{path}{_COPY}{version}"))
    db.create_function("digest", 1, digest, deterministic=True)
    try:
        while migration := MIGRATIONS.get(version_of(db)):
            db.executescript(f"BEGIN; {migration} COMMIT;")
    except (sqlite3.OperationalError, sqlite3.IntegrityError) as error:
        if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_ERROR, sqlite3.SQLITE_CONSTRAINT):
            raise DamagedError(f"it cannot be converted: {error}") from None  # a table or a value is not as expected
        raise


def _copy(db: sqlite3.Connection, target: Path) -> None:
    unfinished = Path(f"{target}.unfinished")
    unfinished.unlink(missing_ok=True)
    with closing(sqlite3.connect(unfinished)) as copy:
        db.backup(copy)
    unfinished.replace(target)


_COPY = ".schema-"


def drop_copies(path: Path) -> None:
    """Delete the copies that ``migrate`` made of the ledger at ``path``."""
    with suppress(OSError):  # they are deleted at another time
        for copy in path.parent.glob(f"{escape(path.name)}{_COPY}*"):
            copy.unlink(missing_ok=True)
