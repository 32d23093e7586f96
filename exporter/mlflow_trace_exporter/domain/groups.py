"""Groups of series: the unit that is admitted, held at 0, put to sleep and forgotten. Pure."""

from typing import NamedTuple

from mlflow_trace_exporter.domain.labels import PLACE_LABELS, VERSION_LABELS, Labels, LabelValues


class Group(NamedTuple):
    """The labels that all series about the same things share, such as the traces of one version. ``names`` begin with
    PLACE_LABELS and have no label that only one metric has. ``values`` are in the order of ``names``."""

    names: tuple[str, ...]
    values: LabelValues

    @property
    def place(self) -> "Group":
        """The group of the experiment and environment."""
        return Group(PLACE_LABELS, self.values[: len(PLACE_LABELS)])

    @property
    def is_place(self) -> bool:
        """Whether its labels are only the experiment and environment."""
        return len(self.names) == len(PLACE_LABELS)

    @property
    def labels(self) -> Labels:
        """The values by name."""
        return dict(zip(self.names, self.values, strict=True))

    @property
    def version(self) -> LabelValues:
        """The values of VERSION_LABELS. A place has only the first of them."""
        return self.values[: len(VERSION_LABELS)]


NO_GROUP = Group((), ())
"""Stands for series that are about the exporter's own work and not about traces."""
