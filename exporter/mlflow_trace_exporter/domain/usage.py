"""The tokens and the cost of a call, or of all calls of a trace."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TokenUsage:
    """Tokens of one LLM call, or of all LLM calls of a trace. None means unknown, which is not zero. If MLflow has only
    a total, it is ``input``.

    Most of MLflow's integrations include cached tokens in ``input``. ``mlflow.claude_code`` does not, and neither does
    Bedrock's before MLflow 3.16.1: there the two cache counts can exceed ``input``.
    """

    input: int | None = None
    output: int | None = None
    cache_read_input: int | None = None
    cache_creation_input: int | None = None


@dataclass(frozen=True, slots=True)
class Cost:
    """Cost of one LLM call, or of all LLM calls of a trace, in USD, as computed by MLflow. None means unknown.
    ``input_usd`` includes costs that MLflow does not split."""

    input_usd: float | None = None
    output_usd: float | None = None

    @property
    def total_usd(self) -> float:
        """Input and output together."""
        return (self.input_usd or 0.0) + (self.output_usd or 0.0)
