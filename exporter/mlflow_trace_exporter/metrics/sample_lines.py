"""Writes the sample lines of series about traces, byte for byte as prometheus_client does, but many times faster."""

from itertools import accumulate

from prometheus_client.utils import floatToGoString

from mlflow_trace_exporter.metrics.meter import TraceFamily
from mlflow_trace_exporter.metrics.series import Exemplars, Labels, Numbers


class SampleLines:
    """Writes the samples of a family."""

    def __init__(self, family: TraceFamily) -> None:
        self._name = family.name
        self._buckets = family.buckets
        names = sorted((name, at) for at, name in enumerate(family.label_names))
        self._before_le = [(name, at) for name, at in names if name < "le"]
        self._after_le = [(name, at) for name, at in names if name > "le"]

    def write(self, labels: Labels, numbers: Numbers, exemplars: Exemplars) -> bytes:
        """The lines of one series. Of the exemplars those are written whose bucket is not empty."""
        before = [f'{name}="{_escaped(labels[at])}"' for name, at in self._before_le]
        after = [f'{name}="{_escaped(labels[at])}"' for name, at in self._after_le]
        own = "{" + ",".join((*before, *after)) + "}" if labels else ""
        if not self._buckets:
            return f"{self._name}{own} {floatToGoString(numbers[0])}\n".encode()
        *counts, total = *accumulate(numbers[:-1]), numbers[-1]
        opening = f'{self._name}_bucket{{{"".join(f"{each}," for each in before)}le="'
        closing = f'"{"".join(f",{each}" for each in after)}}} '
        buckets = (
            f"{opening}{bucket}{closing}{floatToGoString(count)}{_exemplar(bucket, number, exemplars)}\n"
            for bucket, number, count in zip(self._buckets, numbers, counts, strict=False)
        )
        ends = (
            f"{self._name}_count{own} {floatToGoString(counts[-1])}\n{self._name}_sum{own} {floatToGoString(total)}\n"
        )
        return f"{''.join(buckets)}{ends}".encode()


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _exemplar(bucket: str, number: float, exemplars: Exemplars) -> str:
    if not number or bucket not in exemplars:
        return ""
    found = exemplars[bucket]
    trace_id, value = _escaped(found.trace_id), floatToGoString(found.value)
    return f' # {{trace_id="{trace_id}"}} {value} {found.timestamp_s}'
