"""Providers and models that fail or are slow."""

from collections.abc import Iterator, Mapping

from prometheus.promtool.case import Case, CaseFile, Fired, Series, Target, ask, fires, one

FIRING = 'count by (job, alertname, severity, provider, model) (ALERTS{alertstate="firing"})'

WELL = {"ok": "0+50x48", "error": "0x48"}
FAILS = {"ok": "0+50x36 1800x12", "error": "0x36 0+50x12"}
FAILS_IN_PART = {"ok": "0+50x36 1800+40x12", "error": "0x36 0+10x12"}


def _calls(job: str, *of: tuple[str, str, str, Mapping[str, str]]) -> Iterator[Series]:
    """Calls of a job, by application, provider and model. All applications have an objective, except `trial`."""
    for experiment, provider, model, calls in of:
        yield from Target(job).model(model, provider, experiment, calls=calls)
    for experiment in {each[0]: None for each in of}:
        if experiment != "trial":
            yield from Target(job).application("production", experiment, recorded_error_ratio="0.05x48")


def _fired(job: str, description: str, status: str, since: int, severity: str = "warning", model: str = "") -> Fired:
    """An alert on openai, or on one of its models."""
    named = {"provider": "openai", **({"model": model} if model else {})}
    on_dashboard, inside = (
        "&".join(f"{prefix}{name}={value}" for name, value in named.items()) for prefix in ("var-", "")
    )
    return Fired(
        {"data": "traces", "job": job, "severity": severity, **named},
        summary=f"Calls of a {'model' if model else 'provider'} {'fail' if status else 'are slower than usual'}.",
        description=description,
        dashboard=f"mlflow-models?var-job={job.replace(' ', '+')}&{on_dashboard}",
        traces=f"{inside}&{status or 'duration_above=3.500&'}since={since}",
    )


def _fails(job: str, description: str, severity: str = "critical", model: str = "") -> Fired:
    return _fired(job, description, "status=error&", 11_400, severity, model)


def _durations(job: str, slow: str, provider: str = "openai", model: str = "gpt-4o") -> Iterator[Series]:
    """Calls of which from some time on (the values of ``slow``) a tenth takes longer than 5 s."""
    buckets = {"1.0": "0+180x48", "2.5": slow, "5.0": slow, "10.0": "0+200x48", "+Inf": "0+200x48"}
    return Target(job).model(model, provider, call_buckets=buckets)


NEVER_SLOW = "0+200x48"
SLOW_AT_LAST = "0+200x36 7200+180x12"
LESS_SLOW_AT_LAST = "0+200x36 7200+185x12"

FILE = CaseFile(
    "models.yml",
    "Providers and models that fail or are slow.",
    "5m",
    (
        Case(
            "a provider fails, or one of its models; one application fails, everything fails, or as much as ever",
            "5m",
            [
                _calls(
                    "provider",
                    ("chatbot", "openai", "gpt-4o", FAILS),
                    ("search", "openai", "gpt-4o-mini", FAILS_IN_PART),
                    ("search", "anthropic", "claude", WELL),
                ),
                Target("provider", "b").model("gpt-4o", calls=FAILS),
                Target("provider").model(
                    "gpt-4o", call_errors={"RateLimitError": "0x36 0+45x12", "APITimeoutError": "0x36 0+5x12"}
                ),
                _calls(
                    "model",
                    ("chatbot", "openai", "gpt-4o", FAILS_IN_PART),
                    ("search", "openai", "gpt-4o", {"ok": "0+20x48", "error": "0x36 0+5x12"}),
                    ("search", "openai", "gpt-4o-mini", WELL),
                ),
                _calls("warning", ("trial", "openai", "gpt-4o", FAILS), ("search", "anthropic", "claude", WELL)),
                _calls(
                    "small models",
                    *(
                        ("chatbot", "openai", f"m{failed}", {"ok": "0+2x48", "error": f"0x36 0+{failed}x12"})
                        for failed in (1, 2, 3, 4)
                    ),
                ),
                _calls(
                    "key",
                    ("chatbot", "openai", "gpt-4o", FAILS),
                    ("search", "openai", "gpt-4o", {"ok": "0+3x48", "error": "0x48"}),
                ),
                _calls("network", ("chatbot", "openai", "gpt-4o", FAILS), ("search", "anthropic", "claude", FAILS)),
                _calls(
                    "as ever",
                    ("chatbot", "openai", "gpt-4o", {"ok": "0+6x48", "error": "0+4x48"}),
                    ("search", "anthropic", "claude", WELL),
                ),
                _calls(
                    "beside one that always fails",
                    ("chatbot", "openai", "gpt-4o", FAILS),
                    ("trial", "none", "mock", {"ok": "0x48", "error": "0+10x48"}),
                ),
                _calls("few", ("chatbot", "openai", "gpt-4o", {"ok": "0+4x48", "error": "0x36 0+4x12"})),
                _calls("little", ("chatbot", "openai", "gpt-4o", {"ok": "0+400x48", "error": "0x36 0+40x12"})),
            ],
            (
                ask(FIRING, "175m"),
                ask(
                    FIRING,
                    "200m",
                    *(
                        one(job=job, alertname=f"Mlflow{alert}Fails", severity=severity, provider="openai", **model)
                        for job, alert, severity, model in (
                            ("provider", "Provider", "critical", {}),
                            ("model", "Model", "critical", {"model": "gpt-4o"}),
                            ("warning", "Model", "warning", {"model": "gpt-4o"}),
                            ("small models", "Provider", "critical", {}),
                            ("beside one that always fails", "Model", "critical", {"model": "gpt-4o"}),
                        )
                    ),
                ),
                fires(
                    "MlflowProviderFails",
                    "200m",
                    _fails(
                        "provider",
                        "60% of the 200 calls of provider openai in the last ten minutes failed (in the week before: "
                        "0%); for other providers, 0% more of the calls failed than usual. Errors: RateLimitError (90 "
                        "times); APITimeoutError (10 times). Applications: chatbot in production, 100 calls of gpt-4o; "
                        "search in production, 20 calls of gpt-4o-mini.",
                    ),
                    _fails(
                        "small models",
                        "55.56% of the 36 calls of provider openai in the last ten minutes failed (in the week before: "
                        "0%). Errors:. Applications: chatbot in production, 8 calls of m4; chatbot in production, 6 "
                        "calls of m3; chatbot in production, 4 calls of m2.",
                    ),
                ),
                fires(
                    "MlflowModelFails",
                    "200m",
                    _fails(
                        "model",
                        "20% of the 150 calls of model gpt-4o of provider openai in the last ten minutes failed (in "
                        "the week before: 0%). Errors:. Applications: chatbot in production, 20 calls of gpt-4o; "
                        "search in production, 10 calls of gpt-4o.",
                        model="gpt-4o",
                    ),
                    _fails(
                        "warning",
                        "100% of the 100 calls of model gpt-4o of provider openai in the last ten minutes failed (in "
                        "the week before: 0%); for other providers, 0% more of the calls failed than usual. Errors:. "
                        "Applications: trial in production, 100 calls of gpt-4o.",
                        "warning",
                        "gpt-4o",
                    ),
                    _fails(
                        "beside one that always fails",
                        "100% of the 100 calls of model gpt-4o of provider openai in the last ten minutes failed (in "
                        "the week before: 0%); for other providers, 0% more of the calls failed than usual. Errors:. "
                        "Applications: chatbot in production, 100 calls of gpt-4o.",
                        model="gpt-4o",
                    ),
                ),
            ),
        ),
        Case(
            "a provider becomes slow, or one of its models; everything is, calls time out, or there are few",
            "5m",
            [
                _durations("provider", SLOW_AT_LAST),
                _durations("provider", LESS_SLOW_AT_LAST, model="gpt-4o-mini"),
                _durations("provider", NEVER_SLOW, "anthropic", "claude"),
                _durations("model", SLOW_AT_LAST),
                _durations("model", NEVER_SLOW, model="gpt-4o-mini"),
                _durations("network", SLOW_AT_LAST),
                _durations("network", SLOW_AT_LAST, "anthropic", "claude"),
                _durations("as ever", "0+180x48"),
                _durations("timeouts", NEVER_SLOW),
                Target("timeouts").model("gpt-4o", failed_call_buckets={"10.0": "0x48", "+Inf": "0x36 0+100x12"}),
                Target("few").model(
                    "gpt-4o",
                    call_buckets={"1.0": "0+10x36 360x12", "10.0": "0+10x48", "+Inf": "0+10x48"},
                ),
            ],
            (
                ask(FIRING, "180m"),
                ask(
                    FIRING,
                    "225m",
                    one(job="provider", alertname="MlflowProviderSlow", severity="warning", provider="openai"),
                    one(
                        job="model", alertname="MlflowModelSlow", severity="warning", provider="openai", model="gpt-4o"
                    ),
                ),
                fires(
                    "MlflowProviderSlow",
                    "225m",
                    _fired(
                        "provider",
                        "Calls of provider openai in the last half hour were 4.3 times as slow as in the week before. "
                        "The p95 of those that succeeded: gpt-4o, 7.5s; gpt-4o-mini, 6.667s.",
                        "",
                        11_700,
                    ),
                ),
                fires(
                    "MlflowModelSlow",
                    "225m",
                    _fired(
                        "model",
                        "Calls of model gpt-4o of provider openai in the last half hour were 4.3 times as slow as in "
                        "the week before. The p95 of those that succeeded: gpt-4o, 7.5s.",
                        "",
                        11_700,
                        model="gpt-4o",
                    ),
                ),
            ),
        ),
    ),
    rules="mlflow-models.yml",
)
