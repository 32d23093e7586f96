"""Decides which assessments of a trace to count. Pure.

Assessments come late: a judge looks at traces of the last hour, and people take days. They also change. MLflow then
edits the assessment, or stores a new one that overrides it. A counter cannot take back what was counted, so the new
opinion is counted as well:

    counted       a-1  correctness  yes                     adds one yes
    now           a-1  correctness  yes   overridden
                  a-2  correctness  no    overrides a-1     adds one no, and one change

So the ledger keeps the id of each assessment, with the form in which it was last read.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from mlflow_trace_exporter.domain.assessments import Assessment
from mlflow_trace_exporter.domain.groups import Group
from mlflow_trace_exporter.domain.trace import TraceRecord

Forms = Mapping[str, int | None]
"""By id, the form in which assessments were last read; None for those that were not valid."""


@dataclass(frozen=True, slots=True)
class Added:
    """An assessment to count. ``is_first``: it is the first of its name that has a value in the trace."""

    assessment: Assessment
    is_first: bool = False


@dataclass(frozen=True, slots=True)
class Assessed:
    """What is new about the assessments of a trace.

    ``group``: that of the series that count the trace, None if that is not known. ``added``: the assessments to count.
    ``forms``: what the ledger should know from now on. ``changed``: how many assessments that were counted have been
    edited or overridden.
    """

    record: TraceRecord
    group: Group | None = None
    added: tuple[Added, ...] = ()
    forms: Forms = field(default_factory=dict)
    changed: int = 0


def assessed(record: TraceRecord, known: Forms, group: Group | None = None) -> Assessed | None:
    """What is new about the assessments of a trace that is done with; None if nothing is. ``known``: those that the
    ledger knows."""
    new = [each for each in record.assessments if _is_new(each, known)]
    if not new:
        return None
    names = {each.name for each in record.assessments if each.assessment_id in known and not each.failed}
    added: list[Added] = []
    for each in filter(None, (_to_count(one, known) for one in new)):
        added.append(Added(each, each.value is not None and each.name not in names))
        names |= set() if each.value is None else {each.name}
    changed = sum(known.get(each.assessment_id) is not None for each in new)
    return Assessed(record, group, tuple(added), {each.assessment_id: _form(each) for each in new}, changed)


def _is_new(assessment: Assessment, known: Forms) -> bool:
    is_known = assessment.assessment_id in known
    return not is_known or known[assessment.assessment_id] != _form(assessment)


def _to_count(assessment: Assessment, known: Forms) -> Assessment | None:
    """What a new form of an assessment adds. One that is overridden before it is read adds only its cost, and one that
    is valid again because what overrode it was deleted adds nothing."""
    if assessment.assessment_id not in known:
        return assessment if assessment.valid else replace(assessment, value=None, failed=False)
    was_valid = known[assessment.assessment_id] is not None
    return replace(assessment, cost_usd=None) if assessment.valid and was_valid else None


def _form(assessment: Assessment) -> int | None:
    return assessment.form if assessment.valid else None
