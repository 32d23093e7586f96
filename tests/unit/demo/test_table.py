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


def test_opinions_are_the_most_frequent_word_or_the_mean_score() -> None:
    of = 'experiment="e",environment="production",version="{}",assessment="{}",source="human"'
    exposition = f"""\
# TYPE mlflow_trace_assessments_total counter
mlflow_trace_assessments_total{{{of.format("1", "thumb")},value="true"}} 3
mlflow_trace_assessments_total{{{of.format("1", "thumb")},value="false"}} 1
mlflow_trace_assessments_total{{{of.format("2", "thumb")},value="true"}} 0
# TYPE mlflow_trace_assessment_score histogram
mlflow_trace_assessment_score_bucket{{{of.format("1", "grounded")},le="+Inf"}} 4
mlflow_trace_assessment_score_sum{{{of.format("1", "grounded")}}} 3
mlflow_trace_assessment_score_count{{{of.format("1", "grounded")}}} 4
"""
    assert table.opinions(exposition) == [
        ("production", "1", "grounded", "human", "4", "0.75"),
        ("production", "1", "thumb", "human", "4", "75.0% true"),
    ]
