"""What the exporter costs, beside what the same work costs at least.

    make bench
    make bench ARGS="catch-up ticks --json figures.json"

Every subject is a module with a function ``figures``. It asserts that it did what its figures claim. A ratio compares
two measurements of one run on one machine; compare no seconds of different runs.

To measure an older state of the package with the same benchmarks, put the older package first on the path:

    PYTHONPATH=OLDER/exporter python -m tests.benchmarks

`serve` and the commands are measured as processes, and they are found the same way. Some subjects call the poller and
the ledger in this process, through ``tests.support``. If those helpers no longer fit the older package, copy this
folder into the older checkout and run it there:

    cp -r tests/benchmarks OLDER/tests/ && cd OLDER && .venv/bin/python -m tests.benchmarks

The other work of the machine shows in seconds, and less in ratios: a file of figures has the load averages beside them.
"""
