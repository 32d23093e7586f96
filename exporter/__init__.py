"""mlflow-trace-exporter: Prometheus metrics from the traces that MLflow stores."""

__version__ = "0.1.0"
