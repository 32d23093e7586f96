"""Sends samples to Prometheus by remote write, without an encoder: https://prometheus.io/docs/specs/prw/remote_write_spec/.

Many series with the same samples share their encoding, so that millions of samples per second can be sent.
"""

import struct
import urllib.request
from collections.abc import Iterable, Mapping

_SAMPLE = struct.Struct("<Bd")
_LITERAL_OF_4_BYTES = 63 << 2
_MOST_BYTES = 16_000_000
"""The size of a request; Prometheus refuses more than 32 MiB."""
_LABELS, _SAMPLES, _SERIES = b"\x0a", b"\x12", b"\x0a"
"""Tags of fields that contain other fields."""


def labels(pairs: Mapping[str, str]) -> bytes:
    """The labels of a series, one of which is `__name__`."""
    return b"".join(
        _field(
            _LABELS, b"".join(_field(tag, text.encode()) for tag, text in zip((b"\x0a", b"\x12"), pair, strict=True))
        )
        for pair in sorted(pairs.items())
    )


def samples(values: Iterable[tuple[float, float]]) -> bytes:
    """Samples of a series: pairs of a time (Unix seconds) and a value, in order of time."""
    return b"".join(
        _field(_SAMPLES, _SAMPLE.pack(0x09, value) + b"\x10" + _varint(round(at_s * 1000))) for at_s, value in values
    )


def send(url: str, series: Iterable[tuple[bytes, bytes]]) -> None:
    """Send series, each with its samples, to Prometheus at this address."""
    part = bytearray()
    for names, values in series:
        part += _field(_SERIES, names + values)
        if len(part) > _MOST_BYTES:
            _post(url, bytes(part))
            part.clear()
    _post(url, bytes(part))


def _post(url: str, body: bytes) -> None:
    snappy = _varint(len(body)) + bytes([_LITERAL_OF_4_BYTES]) + struct.pack("<I", len(body) - 1) + body
    headers = {
        "Content-Type": "application/x-protobuf",
        "Content-Encoding": "snappy",
        "X-Prometheus-Remote-Write-Version": "0.1.0",
    }
    with urllib.request.urlopen(urllib.request.Request(f"{url}/api/v1/write", snappy, headers), timeout=300):
        pass


def _field(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])
