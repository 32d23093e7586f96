"""Label rules and traces of every kind, for properties that hold for all of them."""

from hypothesis import strategies as st

from mlflow_trace_exporter.domain.labels import LabelRules, LabelSource
from mlflow_trace_exporter.domain.patterns import Pattern
from mlflow_trace_exporter.domain.trace import TraceRecord
from tests.support.builders import record

KEYS = ("environment", "app_version", "a b", "name")
PATTERNS = (
    None,
    Pattern("(.+)-(.*)", "$2"),
    Pattern("(?s:.*)", "a"),
    Pattern("(.)(.*)", '${2}"$1\\'),
    Pattern("(x)?.*", "$1"),
)

ODD = ("prod", "production", " prod ", "a-b", "50%", 'a"b\\', "unknown", "other", "x" * 130, "a\0b\n", "\ud800", " ")
odd = st.sampled_from(ODD)
texts = odd | st.text(st.characters(exclude_categories=()), max_size=8)
known = st.dictionaries(st.sampled_from(KEYS), texts)
kinds = st.sampled_from(["tag", "metadata", "experiment_tag"])
keys, patterns = st.sampled_from(KEYS), st.sampled_from(PATTERNS)
source = st.builds(LabelSource, kinds, keys, patterns) | st.builds(
    LabelSource, st.just("experiment"), st.just("name"), patterns
)
sources = st.lists(source, min_size=1, max_size=3).map(tuple)
names = st.sampled_from(["environment", "version", "trace_name", "team"])
rules: st.SearchStrategy[LabelRules] = st.builds(
    LabelRules,
    environment=sources,
    version=sources,
    extra=st.just(()) | sources.map(lambda found: (("team", found),)),
    trace_name=st.booleans(),
    defaults=st.dictionaries(names, texts),
    maps=st.dictionaries(names, st.dictionaries(texts.map(str.strip), texts, max_size=3)),
)
records: st.SearchStrategy[TraceRecord] = st.builds(
    record,
    experiment=texts,
    name=st.none() | texts,
    tags=known,
    metadata=known,
    experiment_tags=known,
)
