"""How much is lost of traces that grow after they were counted, as traces that arrive over OTLP do.

The poller and the ledger are real; MLflow and its time are simulated. Of 2,000 traces without MLflow's mark, 100 get
late spans, up to 20 minutes after all traces were counted. Before that, half of these 100 have no tokens and no cost,
and the others have a tenth of them. Then three hours pass, so that their start times are closed.
"""

from collections.abc import Iterator

from mlflow_trace_exporter.domain.usage import Cost, TokenUsage
from tests.benchmarks.figures import Figure, Setting, at_most, say
from tests.support.builders import record
from tests.support.rig import HOUR_MS, INTERVAL_MS, MINUTE_MS, Rig
from tests.support.simulated import SimulatedMlflow

TRACES, LATE = 2_000, 100
TICKS = 20 * MINUTE_MS // INTERVAL_MS
USAGE, COST = TokenUsage(input=1_000, output=200), Cost(input_usd=0.25, output_usd=0.5)
TENTH, TENTH_COST = TokenUsage(input=100, output=20), Cost(input_usd=0.025, output_usd=0.05)
TOKENS = ("mlflow_trace_input_tokens_total", "mlflow_trace_output_tokens_total")
COSTS = ("mlflow_trace_input_cost_usd_total", "mlflow_trace_output_cost_usd_total")


def figures(setting: Setting) -> Iterator[Figure]:
    """Count all traces, then let some grow."""
    mlflow = SimulatedMlflow()
    rig = Rig(mlflow, setting.directory / "ledger.db", origin_ms=mlflow.clock_ms)
    every = TRACES // LATE
    for number in range(TRACES):
        usage, cost = (USAGE, COST) if number % every else (None, None) if number % (2 * every) else (TENTH, TENTH_COST)
        mlflow.add(
            record(
                trace_id=f"tr-{number:032x}",
                start_ms=mlflow.clock_ms,
                duration_ms=1_000,
                finalized=False,
                usage=usage,
                cost=cost,
            ),
            1_000,
        )
    rig.run(3 * MINUTE_MS)
    assert rig.traces == TRACES, f"{rig.traces} are counted before anything is late"
    say(f"late-spans: {shown(rig, TOKENS):,.0f} tokens are counted at first")
    late = range(0, TRACES, every)
    for tick in range(TICKS):
        for number in late[tick * LATE // TICKS : (tick + 1) * LATE // TICKS]:
            mlflow.change(mlflow.traces[f"tr-{number:032x}"], usage=USAGE, cost=COST)
        assert rig.tick()
    rig.run(3 * HOUR_MS)
    assert rig.traces == TRACES, f"{rig.traces} are counted in the end"
    tokens, cost_usd = TRACES * (1_000 + 200), TRACES * (0.25 + 0.5)
    yield Figure("missing tokens in the end", missing_percent(shown(rig, TOKENS), tokens), "%", goal=at_most(0))
    yield Figure("missing cost in the end", missing_percent(shown(rig, COSTS), cost_usd), "%", goal=at_most(0))


def shown(rig: Rig, families: tuple[str, ...]) -> float:
    """The sum of some counters."""
    return sum(map(rig.total, families))


def missing_percent(found: float, expected: float) -> float:
    """The relative difference in percent, in either direction, without rounding errors."""
    return abs(round(100 * (1 - found / expected), 6))
