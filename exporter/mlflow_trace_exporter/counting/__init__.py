"""From the source to committed totals: the ledger, the audit, the reader and the poller."""
