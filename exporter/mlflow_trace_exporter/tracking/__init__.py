"""The MLflow server: the only package that imports mlflow."""
