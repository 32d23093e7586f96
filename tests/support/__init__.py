"""What tests of all kinds share: real servers, proxies, builders, and the random histories."""

from pathlib import Path

PROJECT = Path(__file__).parents[2]
"""The top of the project."""
