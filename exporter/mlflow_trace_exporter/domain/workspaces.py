"""Workspaces of MLflow in labels. Pure.

Experiments of different workspaces can have the same name. So where the server has workspaces, the label ``experiment``
is WORKSPACE/NAME, and everything that is grouped or matched by it keeps the applications of two teams apart. The label
``workspace`` is derived from it where series are written.
"""

from collections.abc import Collection, Sequence

WORKSPACE = "workspace"
"""The label that series with an experiment also have if the server has workspaces."""

SEPARATOR = "/"
"""Names of workspaces cannot contain it: they consist of lowercase letters, digits and hyphens."""


def qualified(workspace: str | None, experiment: str) -> str:
    """The name of an experiment that is unique on the server. Example: team-a/chatbot."""
    return experiment if workspace is None else f"{workspace}{SEPARATOR}{experiment}"


class WorkspaceLabel:
    """Adds the label ``workspace`` to series with these label ``names``, if they have an experiment and no such label
    of the user's. ``workspaces``: all that can be in a label ``experiment``; empty if the server has none."""

    def __init__(self, names: Sequence[str], workspaces: Collection[str]) -> None:
        derived = bool(workspaces) and "experiment" in names and WORKSPACE not in names
        self.names = (*names, WORKSPACE) if derived else tuple(names)
        self._at = names.index("experiment") if derived else None
        self._workspaces = workspaces

    def values(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """The values for ``names``, or fewer if the experiment is in no workspace."""
        if self._at is None:
            return labels
        workspace, separator, _ = labels[self._at].partition(SEPARATOR)
        return (*labels, workspace) if separator and workspace in self._workspaces else labels
