"""All series that rules read, in a healthy state."""

from prometheus.promtool.case import Case, CaseFile, Target, ask, one, sample

A = Target()


FILE = CaseFile(
    "healthy.yml",
    "All series that rules read, in a healthy state.",
    "10m",
    (
        Case(
            "nothing fires in three days",
            "5m",
            [
                A.exporter(
                    864,
                    last_poll="0+300x864",
                    catching_up="0x100 1x3 0x759",
                    complete_until="0+300x864",
                    polls="0+20x864",
                    poll_errors={"timeout": "0+1x864", "clock": "0x864"},
                    unaccounted="0x864",
                    clock_difference="-300x400 300x463",
                    late="0x864",
                    label_overflow={"version": "0x864"},
                    series="950x864",
                    series_limit="100000x864",
                    ledger_resets="0x864",
                    reload_successful="1x864",
                ),
                A.application("production", in_progress="3x864", abandoned="0x864"),
                A.objective(
                    "production",
                    864,
                    error_ratio=0.05,
                    latency_seconds=5,
                    latency_ratio=0.95,
                    cost_usd_per_day=300,
                    min_traces=20,
                ),
                A.version(
                    "production",
                    "1.4.0",
                    trace_name="support",
                    traces="0+64x864",
                    errors="0+1x864",
                    slow="0+2x864",
                    input_cost="0+0.25x864",
                    output_cost="0+0.25x864",
                    missing={"token_usage": "0+16.0x864", "cost": "0+16.0x864", "user": "0+16.0x864"},
                    tokens={"input": "0+32000x864", "output": "0+32000x864"},
                    traces_with_tokens={"input": "0+64x864", "output": "0+64x864"},
                    buckets={"1.0": "0+32.0x864", "5.0": "0+62.0x864", "600.0": "0+64x864", "+Inf": "0+64x864"},
                ),
                A.version(
                    "production",
                    "1.5.0",
                    trace_name="support",
                    traces="0+16x864",
                    errors="0+0.5x864",
                    slow="0+0.5x864",
                    input_cost="0+0.0625x864",
                    output_cost="0+0.0625x864",
                    missing={"token_usage": "0+4.0x864", "cost": "0+4.0x864", "user": "0+4.0x864"},
                    tokens={"input": "0+9600x864", "output": "0+9600x864"},
                    traces_with_tokens={"input": "0+16x864", "output": "0+16x864"},
                    buckets={"1.0": "0+8.0x864", "5.0": "0+15.5x864", "600.0": "0+16x864", "+Inf": "0+16x864"},
                ),
                A.version(
                    "staging",
                    "1.5.0",
                    trace_name="support",
                    traces="0+8x864",
                    errors="0+4x864",
                    slow="0+1x864",
                    input_cost="0+0.0625x864",
                    output_cost="0+0.0625x864",
                    missing={"token_usage": "0+2.0x864", "cost": "0+2.0x864", "user": "0+2.0x864"},
                    tokens={"input": "0+4800x864", "output": "0+4800x864"},
                    traces_with_tokens={"input": "0+8x864", "output": "0+8x864"},
                    buckets={"1.0": "0+4.0x864", "5.0": "0+7.0x864", "600.0": "0+8x864", "+Inf": "0+8x864"},
                ),
                A.version(
                    "nobody",
                    "1.0.0",
                    trace_name="support",
                    traces="0+0x864",
                    errors="0+0x864",
                    slow="0+0x864",
                    input_cost="0+0x864",
                    output_cost="0+0x864",
                    missing={"token_usage": "0+0.0x864", "cost": "0+0.0x864", "user": "0+0.0x864"},
                    tokens={"input": "0+0x864", "output": "0+0x864"},
                    traces_with_tokens={"input": "0+0x864", "output": "0+0x864"},
                    buckets={"1.0": "0+0.0x864", "5.0": "0+0x864", "600.0": "0+0x864", "+Inf": "0+0x864"},
                ),
            ],
            (
                ask(
                    (
                        "count by (alertname, environment) "
                        '(count_over_time(ALERTS{alertstate="firing",severity!="none"}[3d]))'
                    ),
                    "71h",
                ),
                ask(
                    "environment:mlflow_traces:increase1h",
                    "71h",
                    sample(
                        960,
                        __name__="environment:mlflow_traces:increase1h",
                        job="mlflow-trace-exporter",
                        environment="production",
                    ),
                    sample(
                        96,
                        __name__="environment:mlflow_traces:increase1h",
                        job="mlflow-trace-exporter",
                        environment="staging",
                    ),
                    sample(
                        0,
                        __name__="environment:mlflow_traces:increase1h",
                        job="mlflow-trace-exporter",
                        environment="nobody",
                    ),
                ),
                ask(
                    "round(experiment_environment:mlflow_trace_errors:ratio_increase3d, 0.0001)",
                    "71h",
                    sample(0.0188, job="mlflow-trace-exporter", experiment="chatbot", environment="production"),
                    sample(0.5, job="mlflow-trace-exporter", experiment="chatbot", environment="staging"),
                ),
                ask(
                    (
                        "round(experiment_environment_version:mlflow_tokens_per_trace:mean_increase1h{environment"
                        '="production"})'
                    ),
                    "71h",
                    sample(
                        1000,
                        job="mlflow-trace-exporter",
                        experiment="chatbot",
                        environment="production",
                        version="1.4.0",
                    ),
                    sample(
                        1200,
                        job="mlflow-trace-exporter",
                        experiment="chatbot",
                        environment="production",
                        version="1.5.0",
                    ),
                ),
                ask(
                    (
                        'round(environment:mlflow_trace_duration_seconds:quantile_increase1h{environment="product'
                        'ion"}, 0.01)'
                    ),
                    "71h",
                    one(job="mlflow-trace-exporter", environment="production", quantile="0.5"),
                    sample(4.84, job="mlflow-trace-exporter", environment="production", quantile="0.95"),
                    sample(409.6, job="mlflow-trace-exporter", environment="production", quantile="0.99"),
                ),
                ask(
                    'environment:mlflow_trace_cost_usd:increase1d{environment="production"}',
                    "71h",
                    sample(
                        180,
                        __name__="environment:mlflow_trace_cost_usd:increase1d",
                        job="mlflow-trace-exporter",
                        environment="production",
                    ),
                ),
            ),
        ),
    ),
)
