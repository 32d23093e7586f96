"""What a client accepts, and how much it likes it: the headers Accept and Accept-Encoding, by RFC 9110. Pure."""

import re
from collections.abc import Mapping
from urllib.request import parse_http_list

_QUALITY = re.compile(r"0(\.\d*)?|1(\.0*)?")


def qualities(header: str) -> Mapping[str, float]:
    """By media type or coding, in lower case and without parameters, its quality from 0 (not at all) to 1.

    One that comes several times, as for several versions, has the best of them. A quality that cannot be read is 1, as
    for Prometheus' own library. Those that are named first come first.
    """
    found: dict[str, float] = {}
    for part in parse_http_list(header):
        name, *parameters = "".join(part.split()).lower().split(";")
        given = next((each[2:] for each in parameters if each.startswith("q=")), "1")
        quality = float(given) if _QUALITY.fullmatch(given) else 1.0
        found[name] = max(quality, found.get(name, 0.0))
    return found
