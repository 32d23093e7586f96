"""What reads MLflow once and prints it: report, health, doctor, check and backfill, and their Python API."""
