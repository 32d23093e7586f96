"""What the demo's terminal shows of /metrics."""

from mlflow_trace_exporter.demo import table

OF = 'experiment="e",environment="{}",version="1",provider="{}",model="{}"'
GROQ, STAGING, OPENAI = (
    OF.format("production", "groq", "llama"),
    OF.format("staging", "groq", "llama"),
    OF.format("production", "openai", "gpt"),
)
EXPOSITION = f"""\
# TYPE mlflow_llm_call_duration_seconds histogram
mlflow_llm_call_duration_seconds_bucket{{{GROQ},status="ok",le="1"}} 2
mlflow_llm_call_duration_seconds_bucket{{{GROQ},status="ok",le="10"}} 2
mlflow_llm_call_duration_seconds_bucket{{{GROQ},status="ok",le="+Inf"}} 2
mlflow_llm_call_duration_seconds_count{{{GROQ},status="ok"}} 2
mlflow_llm_call_duration_seconds_bucket{{{GROQ},status="error",le="1"}} 0
mlflow_llm_call_duration_seconds_bucket{{{GROQ},status="error",le="10"}} 1
mlflow_llm_call_duration_seconds_bucket{{{GROQ},status="error",le="+Inf"}} 1
mlflow_llm_call_duration_seconds_count{{{GROQ},status="error"}} 1
mlflow_llm_call_duration_seconds_bucket{{{STAGING},status="ok",le="1"}} 1
mlflow_llm_call_duration_seconds_bucket{{{STAGING},status="ok",le="10"}} 1
mlflow_llm_call_duration_seconds_bucket{{{STAGING},status="ok",le="+Inf"}} 1
mlflow_llm_call_duration_seconds_count{{{STAGING},status="ok"}} 1
# TYPE mlflow_llm_input_tokens_total counter
mlflow_llm_input_tokens_total{{{GROQ}}} 1200
mlflow_llm_input_tokens_total{{{STAGING}}} 300
mlflow_llm_input_tokens_total{{{OPENAI}}} 5
# TYPE mlflow_llm_output_tokens_total counter
mlflow_llm_output_tokens_total{{{GROQ}}} 20
# TYPE mlflow_llm_cache_read_input_tokens_total counter
mlflow_llm_cache_read_input_tokens_total{{{GROQ}}} 128
# TYPE mlflow_llm_input_cost_usd_total counter
mlflow_llm_input_cost_usd_total{{{GROQ}}} 0.5
# TYPE mlflow_llm_output_cost_usd_total counter
mlflow_llm_output_cost_usd_total{{{GROQ}}} 0.25
"""


def test_models_are_summed_over_environments_and_cached_tokens_count_once() -> None:
    assert table.models(EXPOSITION) == [
        ("groq", "llama", "4", "25.0%", "0.67s", "8.20s", "1,520", "$0.7500"),
        ("openai", "gpt", "0", "-", "-", "-", "5", "$0.0000"),
    ]


def test_without_spans_there_are_no_models() -> None:
    assert table.models("") == []
