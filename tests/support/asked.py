"""Who asks the chatbot, and where. Beside the asker, because a test that only compares need not import what asks."""

VERSIONS = {"production": "2.1.0", "staging": "2.2.0"}
USERS = ("ada", "ben", "cleo")
