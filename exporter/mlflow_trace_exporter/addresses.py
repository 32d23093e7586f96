"""URLs that may contain a password. Pure."""

import re


def without_credentials(uri: str) -> str:
    """Remove ``user:password@`` from a URL."""
    return re.sub(r"//[^/\s]*@", "//", uri)
