"""Addresses that may carry a password. Pure."""

import re


def without_credentials(uri: str) -> str:
    """The address without the ``user:password@`` that it may carry."""
    return re.sub(r"//[^/\s]*@", "//", uri)
