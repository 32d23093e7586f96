"""Names and globs of names, as the configuration selects experiments, environments, workspaces and metrics. Pure."""

from fnmatch import fnmatchcase

WILDCARDS = frozenset("*?[")

ANY = "*"
"""The pattern of all names."""


def is_name(pattern: str) -> bool:
    """Whether a pattern is certainly no glob."""
    return not WILDCARDS & set(pattern)


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern is this name, or a glob that matches it. So the name `chat[v2]` matches itself."""
    return pattern in (ANY, name) or fnmatchcase(name, pattern)
