"""The commands that read MLflow once and print a result (report, health, doctor, check, backfill); the Python API."""
