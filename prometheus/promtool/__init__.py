"""Tests of the rules as code. ``python -m prometheus`` writes them to tests/*.yml, for `promtool test rules`."""

from prometheus.promtool import (
    applications,
    cost,
    errors,
    exporter,
    healthy,
    inside,
    latency,
    little_traffic,
    models,
    names,
    new_models,
    no_traces,
    quality,
    rated_versions,
    scorers,
    several_exporters,
    shards,
    traces,
    vanished,
    versions,
)

FILES = tuple(
    module.FILE
    for module in (
        applications,
        cost,
        errors,
        exporter,
        healthy,
        inside,
        latency,
        little_traffic,
        models,
        names,
        new_models,
        no_traces,
        quality,
        rated_versions,
        scorers,
        several_exporters,
        shards,
        traces,
        vanished,
        versions,
    )
)
