"""Recording and alert rules as code, and their tests. ``python -m prometheus`` writes rules/*.yml and tests/*.yml."""
