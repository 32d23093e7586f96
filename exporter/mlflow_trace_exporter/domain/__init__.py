"""Frozen values and pure decisions: traces, labels, objectives, what to read next, and when a trace is final."""
