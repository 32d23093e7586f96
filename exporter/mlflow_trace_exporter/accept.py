"""Content negotiation: parses the headers Accept and Accept-Encoding (RFC 9110). Pure."""

import re
from collections.abc import Mapping
from urllib.request import parse_http_list

_QUALITY = re.compile(r"0(\.\d*)?|1(\.0*)?")


def qualities(header: str) -> Mapping[str, float]:
    """Map each media type or coding (lower case, without parameters) to its quality, from 0 (not acceptable) to 1.

    A name that occurs several times, for example with several versions, gets its best quality. A quality that cannot be
    parsed counts as 1, as in Prometheus' own client library. The order is that of the header.
    """
    found: dict[str, float] = {}
    for part in parse_http_list(header):
        name, *parameters = "".join(part.split()).lower().split(";")
        given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        quality = float(given) if _QUALITY.fullmatch(given) else 1.0
        found[name] = max(quality, found.get(name, 0.0))
    return found
