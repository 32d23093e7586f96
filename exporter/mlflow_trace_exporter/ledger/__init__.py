"""The ledger: what was counted, in a database. Only ``counting`` writes to it."""
