"""Access to the MLflow server. No other package imports mlflow."""
