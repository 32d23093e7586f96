"""What people, judges and checks say about a trace."""

from dataclasses import dataclass

HUMAN, LLM_JUDGE, CODE = "human", "llm_judge", "code"
"""Who assesses traces: a person, a model, or a program."""


@dataclass(frozen=True, slots=True)
class Assessment:
    """A feedback that MLflow stores with a trace, without its rationale.

    ``name`` and ``source`` are label values. ``value`` is a label value for a word or a truth value, a number for a
    score, and None if there is neither. ``failed``: its scorer reported an error. ``cost_usd``: what the judge cost.
    ``valid``: it is not overridden. ``form`` is a checksum of what MLflow's own counts distinguish: its name and value.
    """

    assessment_id: str
    name: str
    source: str
    value: str | float | None
    form: int
    failed: bool = False
    cost_usd: float | None = None
    valid: bool = True
