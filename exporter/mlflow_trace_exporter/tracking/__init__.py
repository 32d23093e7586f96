"""The MLflow server: the only package that imports mlflow."""

import os

from mlflow_trace_exporter import home

# mlflow reads these when it is imported. It needs a home directory. A monitoring process must not contact anything but
# its MLflow server unless the user configures it.
os.environ.setdefault("HOME", home.directory())
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
