"""Writes sample lines byte for byte as prometheus_client does, but many times faster."""

from collections.abc import Collection, Sequence
from functools import lru_cache
from itertools import accumulate

from prometheus_client.utils import floatToGoString

from mlflow_trace_exporter.domain.labels import LabelValues
from mlflow_trace_exporter.domain.workspaces import WorkspaceLabel
from mlflow_trace_exporter.metrics.series import Exemplars, Numbers

_number = lru_cache(maxsize=10_000)(floatToGoString)
"""Writes a number. It is cached, because small counts are frequent."""


class SampleLines:
    """Writes the samples of a family, which is a histogram if it has ``buckets``, otherwise a counter or gauge.
    ``workspaces``: see ``WorkspaceLabel``."""

    def __init__(
        self,
        name: str,
        label_names: Sequence[str],
        buckets: Sequence[str] = (),
        workspaces: Collection[str] = (),
    ) -> None:
        self._name = name
        self._buckets = buckets
        self._workspace = WorkspaceLabel(label_names, workspaces)
        names = sorted((name, at) for at, name in enumerate(self._workspace.names))
        self._before_le = [(name, at) for name, at in names if name < "le"]
        self._after_le = [(name, at) for name, at in names if name > "le"]

    def write(self, labels: LabelValues, numbers: Numbers, exemplars: Exemplars) -> bytes:
        """The lines of one series. An exemplar is written only if its bucket is not empty."""
        values = self._workspace.values(labels)
        before = [f'{name}="{_escaped(values[at])}"' for name, at in self._before_le]
        after = [f'{name}="{_escaped(values[at])}"' for name, at in self._after_le if at < len(values)]
        own = "{" + ",".join((*before, *after)) + "}" if labels else ""
        if not self._buckets:
            return f"{self._name}{own} {_number(numbers[0])}\n".encode()
        *counts, total = *accumulate(numbers[:-1]), numbers[-1]
        opening = f'{self._name}_bucket{{{"".join(f"{each}," for each in before)}le="'
        closing = f'"{"".join(f",{each}" for each in after)}}} '
        buckets = (
            f"{opening}{bucket}{closing}{_number(count)}{_exemplar(bucket, number, exemplars)}\n"
            for bucket, number, count in zip(self._buckets, numbers, counts, strict=False)
        )
        ends = f"{self._name}_count{own} {_number(counts[-1])}\n{self._name}_sum{own} {_number(total)}\n"
        return f"{''.join(buckets)}{ends}".encode()


@lru_cache(maxsize=10_000)
def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def _exemplar(bucket: str, number: float, exemplars: Exemplars) -> str:
    if not number or bucket not in exemplars:
        return ""
    found = exemplars[bucket]
    trace_id, value = _escaped(found.trace_id), _number(found.value)
    return f' # {{trace_id="{trace_id}"}} {value} {found.timestamp_s}'
