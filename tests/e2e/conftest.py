from tests.integration.conftest import mlflow

__all__ = ["mlflow"]
