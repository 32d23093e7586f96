"""Benchmarks of the exporter. Most figures are compared with a baseline: the least that the same work can cost.

    make bench
    make bench ARGS="catch-up ticks --json figures.json"

Each subject is a module with a function ``figures``, which asserts that it did what its figures claim. A ratio compares
two measurements of one run on one machine. Do not compare seconds of different runs.

To measure an older state of the package with the same benchmarks, put the older package first on the path:

    PYTHONPATH=OLDER/exporter python -m tests.benchmarks

`serve` and the commands run as processes, which find the package on the same path. Some subjects call the poller and
the ledger in this process, through ``tests.support``. If those helpers no longer fit the older package, copy this
folder into the older checkout and run it there:

    cp -r tests/benchmarks OLDER/tests/ && cd OLDER && .venv/bin/python -m tests.benchmarks

Other work on the machine affects seconds, and ratios less so. Files of figures therefore include the load averages.
"""
