"""Tests of the rules as code. ``python -m prometheus`` writes them to tests/*.yml, for `promtool test rules`."""

from prometheus.promtool import (
    cost,
    errors,
    exporter,
    healthy,
    latency,
    little_traffic,
    names,
    no_traces,
    traces,
    versions,
)

FILES = tuple(
    module.FILE
    for module in (cost, errors, exporter, healthy, latency, little_traffic, names, no_traces, traces, versions)
)
