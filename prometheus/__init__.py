"""Recording and alert rules as code. ``python -m prometheus`` writes rules/*.yml."""
