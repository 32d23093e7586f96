"""Ledgers as earlier versions of the program wrote them."""

import sqlite3
from contextlib import closing
from pathlib import Path

from mlflow_trace_exporter.ledger.schema import digest

GROUP = '["chatbot","production","1.4.0","support"]'
SHAPE = '[["experiment","environment","version","trace_name"],[]]'

SCHEMA_4 = """
CREATE TABLE done (trace_id TEXT PRIMARY KEY, start_ms INTEGER NOT NULL, amounts INTEGER);
CREATE INDEX done_by_start ON done (start_ms);
CREATE TABLE pending (trace_id TEXT PRIMARY KEY, start_ms INTEGER NOT NULL, experiment_id TEXT NOT NULL,
  experiment TEXT NOT NULL, environment TEXT NOT NULL, running INTEGER NOT NULL, first_ms INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL, next_ms INTEGER NOT NULL, form INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX pending_by_next ON pending (next_ms);
CREATE TABLE retired (bucket_ms INTEGER PRIMARY KEY, traces INTEGER NOT NULL);
CREATE TABLE totals (family TEXT, labels TEXT, part TEXT, value NUMERIC NOT NULL, slept NUMERIC NOT NULL,
  PRIMARY KEY (family, labels, part)) WITHOUT ROWID;
CREATE TABLE groups (labels TEXT PRIMARY KEY, active_ms INTEGER NOT NULL, stage INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE versions (labels TEXT PRIMARY KEY, first_ms INTEGER) WITHOUT ROWID;
CREATE TABLE shapes (family TEXT PRIMARY KEY, shape TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE experiments (experiment_id TEXT PRIMARY KEY, created_ms INTEGER NOT NULL, origin_ms INTEGER NOT NULL)
  WITHOUT ROWID;
CREATE TABLE horizon (one INTEGER PRIMARY KEY CHECK (one = 1), origin_ms INTEGER NOT NULL, fresh_ms INTEGER,
  closed_ms INTEGER NOT NULL, retired_ms INTEGER NOT NULL, forgotten_ms INTEGER NOT NULL);
CREATE TABLE passes (kind TEXT PRIMARY KEY, started_ms INTEGER NOT NULL, from_ms INTEGER NOT NULL,
  lo_ms INTEGER NOT NULL, hi_ms INTEGER NOT NULL, ended_after_ms INTEGER) WITHOUT ROWID;
PRAGMA application_id = 1297368440;
PRAGMA user_version = 4;
"""

ROWS = f"""
INSERT INTO done VALUES ('tr-1', 1000, 4081470063), ('it''s', 2000, 7), ('tr-given-up', 3000, NULL);
INSERT INTO pending VALUES ('tr-9', 700000, '1', 'chatbot', 'production', 1, 1, 2, 3, 4);
INSERT INTO totals VALUES ('mlflow_trace_exporter_ledger_resets_total', '[]', '', 0, 0),
  ('mlflow_traces_total', '{GROUP}', '', 2, 0), ('mlflow_trace_input_cost_usd_total', '{GROUP}', '', 0.5, 0.25);
INSERT INTO groups VALUES ('{GROUP}', 5000, 1), ('["chatbot","production"]', 5000, 2);
INSERT INTO shapes VALUES ('mlflow_traces_total', '{SHAPE}'), ('mlflow_trace_input_cost_usd_total', '{SHAPE}');
INSERT INTO versions VALUES ('["chatbot","production","1.4.0"]', 1000);
INSERT INTO experiments VALUES ('1', 5, 0);
INSERT INTO horizon VALUES (1, 0, 1000000000000, 100000000000, 6000000, 5400000);
INSERT INTO passes VALUES ('fresh', 1000000000001, 100000000000, 200000000000, 1000172800000, 999999880000);
"""
"""Two counted traces, one that was given up, one that is pending, and a pass that was cut short."""

TO_SCHEMA_5 = """
DROP TABLE done;
CREATE TABLE done (digest BLOB NOT NULL UNIQUE, start_ms INTEGER NOT NULL, group_id INTEGER, failed INTEGER,
  duration_ms INTEGER, input INTEGER, output INTEGER, cache_read_input INTEGER, cache_creation_input INTEGER,
  input_nano_usd INTEGER, output_nano_usd INTEGER, seen INTEGER);
CREATE INDEX done_by_start ON done (start_ms);
INSERT INTO done (digest, start_ms, seen) VALUES (digest('tr-1'), 1000, 4081470063), (digest('it''s'), 2000, 7),
  (digest('tr-given-up'), 3000, NULL);
ALTER TABLE groups RENAME TO groups_before;
CREATE TABLE groups (id INTEGER PRIMARY KEY, labels TEXT NOT NULL UNIQUE, active_ms INTEGER NOT NULL,
  stage INTEGER NOT NULL);
INSERT INTO groups (labels, active_ms, stage) SELECT labels, active_ms, stage FROM groups_before;
DROP TABLE groups_before;
PRAGMA user_version = 5;
"""
"""The ids as digests, with what each trace is counted with."""

TO_SCHEMA_6 = f"""{TO_SCHEMA_5}
CREATE TABLE workspaces (name TEXT PRIMARY KEY) WITHOUT ROWID;
PRAGMA user_version = 6;
"""

TO_SCHEMA_7 = f"""{TO_SCHEMA_6}
ALTER TABLE groups RENAME TO groups_before;
CREATE TABLE groups (id INTEGER PRIMARY KEY, names TEXT NOT NULL, labels TEXT NOT NULL, active_ms INTEGER NOT NULL,
  stage INTEGER NOT NULL, UNIQUE (labels, names));
INSERT INTO groups SELECT id, iif(json_array_length(labels) = 2, '["experiment","environment"]',
  '["experiment","environment","version","trace_name"]'), labels, active_ms, stage FROM groups_before;
DROP TABLE groups_before;
ALTER TABLE done ADD COLUMN spans BLOB;
PRAGMA user_version = 7;
"""
"""Groups with the names of their labels, and the spans that are counted."""

_CHANGE = {
    7: TO_SCHEMA_7,
    6: TO_SCHEMA_6,
    5: TO_SCHEMA_5,
    4: "",
    3: "ALTER TABLE horizon DROP COLUMN forgotten_ms; PRAGMA user_version = 3;",
    2: "ALTER TABLE horizon DROP COLUMN forgotten_ms; DROP TABLE versions; PRAGMA user_version = 2;",
}
"""How the other schemas differ from schema 4."""


def write_ledger(path: Path, schema: int) -> None:
    """Write a ledger of an earlier schema, in the journal mode that it would have."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as db:
        db.create_function("digest", 1, digest, deterministic=True)
        db.executescript(SCHEMA_4 + ROWS + _CHANGE[schema])
        db.execute("PRAGMA journal_mode = WAL")
