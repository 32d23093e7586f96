"""From the source to committed totals: the audit, the reader and the poller."""
