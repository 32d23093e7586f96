"""Reads amounts from MLflow's JSON: tokens and cost. Pure.

An amount that cannot be right is treated as missing: the trace or call that it belongs to is still counted.
"""

from collections.abc import Mapping

from mlflow_trace_exporter.domain.usage import Cost, TokenUsage

MAX_AMOUNT = 10**12
"""The limit for tokens, cost in USD and duration in ms (31 years) of one trace or span. A larger, wrong value would
spoil a counter for good."""

ROUNDING = 1e-9
"""The relative difference that is tolerated between a total and the sum of its parts."""


def usage_of(found: Mapping[str, object]) -> TokenUsage | None:
    """The token usage in a JSON object as MLflow writes it. If the total exceeds the sum of input and output, the rest
    belongs to the one that is missing or 0, and to the input if both are. If neither is, the rest is ignored: Gemini's
    total includes thinking tokens."""
    given, made = tokens(found.get("input_tokens")), tokens(found.get("output_tokens"))
    total = tokens(found.get("total_tokens"))
    rest = (total or 0) - (given or 0) - (made or 0)
    if given is None and made is None:
        given = total
    elif rest > 0 and not given:
        given = rest
    elif rest > 0 and not made:
        made = rest
    if given is None and made is None:
        return None
    return TokenUsage(
        input=given,
        output=made,
        cache_read_input=tokens(found.get("cache_read_input_tokens")),
        cache_creation_input=tokens(found.get("cache_creation_input_tokens")),
    )


def cost_of(found: Mapping[str, object]) -> Cost | None:
    """The cost in a JSON object as MLflow writes it. If the total exceeds the sum of input and output, the rest is
    added to the input. If MLflow does not split the total, this is all of it."""
    given, made = amount(found.get("input_cost")), amount(found.get("output_cost"))
    total = amount(found.get("total_cost"))
    rest = (total or 0.0) - (given or 0.0) - (made or 0.0)
    if given is None and made is None:
        given = total
    elif total and rest > ROUNDING * total:
        given = (given or 0.0) + rest
    return None if given is None and made is None else Cost(input_usd=given, output_usd=made)


def tokens(value: object) -> int | None:
    """A number of tokens, None if the value is none."""
    found = amount(value)
    return None if found is None or found != int(found) else int(found)


def amount(value: object) -> float | None:
    """A number from 0 to MAX_AMOUNT, None if the value is none."""
    if value is None or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if 0 <= value <= MAX_AMOUNT else None  # NaN and infinities fail the comparison
