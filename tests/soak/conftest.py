from tests.integration.conftest import database, postgresql

__all__ = ["database", "postgresql"]
