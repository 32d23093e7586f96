"""The home directory of the current user."""

from pathlib import Path


def directory() -> str:
    """The home directory, or / for a user id without an entry in /etc/passwd and without HOME, as in container engines.

    MLflow's client cannot be imported without a home directory.
    """
    try:
        return str(Path.home())
    except RuntimeError:
        return "/"
