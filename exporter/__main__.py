"""`python -m exporter` is the command `mlflow-trace-exporter`."""

from exporter.cli import main

main()
