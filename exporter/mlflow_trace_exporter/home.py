"""The home directory of the user whom a process runs as."""

from pathlib import Path


def directory() -> str:
    """Where it is; / for a user id that has no entry in the list of users and no HOME, as container engines do it.

    MLflow's client cannot be imported without one.
    """
    try:
        return str(Path.home())
    except RuntimeError:
        return "/"
