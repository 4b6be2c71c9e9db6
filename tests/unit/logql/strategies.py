"""Hypothesis strategies that make LogQL trees: every tree is valid and can be said in LogQL."""

import itertools

from hypothesis import strategies as st

from atalaia.logql import tree as t

_KEYWORDS = "app status json logfmt ip bytes duration count rate sum by on or and drop keep unwrap offset"
_GROUPED = "avg min max first last stdvar stddev"

NAMES = st.one_of(st.sampled_from(_KEYWORDS.split()), st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True))
TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8"), max_size=12),
    st.sampled_from(["", '"', "`", "\\", "a\nb", "{{ .x }}", "#", "é\u2028\x7f", "</>", "%d"]),
)
REGEXES = st.sampled_from(["", ".*", ".+", "foo|bar", r"\d{3}\.", "(?i)err", "[^a-z]+", "(?P<x>a)b*", '\\Q`"\\E'])
IPS = st.sampled_from(
    ["10.0.0.1", "10.0.0.0/8", "10.0.0.1-10.0.0.9", "::1", "2001:db8::/32", "2001:db8::1-2001:db8::8"]
)
FLOATS = st.one_of(
    st.integers(0, 10**9).map(float),
    st.floats(0, allow_nan=False, allow_infinity=False),
    st.sampled_from([0.5, 1e-7]),
)
SIGNED = st.one_of(FLOATS, FLOATS.map(lambda value: -value))
RANGES = st.one_of(st.sampled_from([10**9 * s for s in (1, 60, 300, 3600, 86400)]), st.integers(1, 2**63 - 1))
SIGNED_DURATIONS = st.one_of(RANGES, RANGES.map(lambda ns: -ns), st.just(0))
LABELS = st.lists(NAMES, max_size=3).map(tuple)


def matchers() -> st.SearchStrategy[t.Matcher]:
    return st.one_of(
        st.builds(t.Matcher, NAMES, st.sampled_from(["=", "!="]), TEXTS),
        st.builds(t.Matcher, NAMES, st.sampled_from(["=~", "!~"]), REGEXES),
    )


def selectors() -> st.SearchStrategy[t.Selector]:
    demand = st.builds(t.Matcher, NAMES, st.just("="), TEXTS.filter(bool))
    return st.builds(
        lambda first, others, at: t.Selector((*others[:at], first, *others[at:])),
        demand,
        st.lists(matchers(), max_size=2),
        st.integers(0, 2),
    )


def line_filters() -> st.SearchStrategy[t.LineFilter]:
    text = st.one_of(st.builds(t.LineMatch, TEXTS), st.builds(t.LineMatch, IPS, st.just(True)))
    patterns = st.sampled_from(["", "GET <_> 200", "<_>", "a < b > c", "plain"])

    def chain(*ops: str, of: st.SearchStrategy[t.LineMatch]) -> st.SearchStrategy[t.LineFilter]:
        alternatives = st.lists(of, min_size=1, max_size=3).map(tuple)
        return st.builds(t.LineFilter, st.sampled_from(ops), alternatives)

    return st.one_of(
        chain("|=", "!=", of=text),
        chain("|~", "!~", of=st.builds(t.LineMatch, REGEXES)),
        chain("|>", "!>", of=st.builds(t.LineMatch, patterns)),
    )


def comparisons() -> st.SearchStrategy[t.Comparison]:
    amounts = st.one_of(
        st.builds(t.Number, SIGNED),
        st.builds(t.Duration, SIGNED_DURATIONS),
        st.builds(t.Bytes, st.integers(0, 2**64 - 1)),
    )
    return st.one_of(
        st.builds(t.Comparison, NAMES, st.sampled_from(["=", "!="]), TEXTS),
        st.builds(t.Comparison, NAMES, st.sampled_from(["=~", "!~"]), REGEXES),
        st.builds(t.Comparison, NAMES, st.sampled_from(["=", "!="]), st.builds(t.IpMatch, IPS)),
        st.builds(t.Comparison, NAMES, st.sampled_from(["==", "!=", ">", ">=", "<", "<="]), amounts),
    )


def conditions() -> st.SearchStrategy[t.Condition]:
    return st.recursive(
        comparisons(),
        lambda inner: st.one_of(st.builds(t.And, inner, inner), st.builds(t.Or, inner, inner)),
        max_leaves=5,
    )


def stages() -> st.SearchStrategy[t.Stage]:
    paths = st.one_of(NAMES, st.sampled_from(["a.b", "a[0].b", '["x y"]', 'a["b-c"][1]']))
    keys = st.tuples(NAMES, st.one_of(NAMES, TEXTS))
    assignments = st.lists(
        st.one_of(st.builds(t.Rename, NAMES, NAMES), st.builds(t.Template, NAMES, TEXTS)),
        min_size=1,
        max_size=3,
        unique_by=lambda assignment: assignment.name,
    ).map(tuple)
    items = st.lists(st.one_of(NAMES, matchers()), min_size=1, max_size=3).map(tuple)
    return st.one_of(
        line_filters(),
        st.builds(t.Json, st.lists(st.tuples(NAMES, paths), max_size=2).map(tuple)),
        st.builds(t.Logfmt, st.lists(keys, max_size=2).map(tuple), st.booleans(), st.booleans()),
        st.builds(t.Regexp, st.sampled_from([r"(?P<m>\w+)", r"(?P<a>x)-(?P<b>`)", r"\((?P<c>[<(]+)"])),
        st.builds(t.Pattern, st.sampled_from(["<ip> - <_>", '"<a>" <b>', "<_>,<only>"])),
        st.just(t.Unpack()),
        st.just(t.Decolorize()),
        st.builds(t.LabelFilter, conditions()),
        st.builds(t.LineFormat, TEXTS),
        st.builds(t.LabelFormat, assignments),
        st.builds(t.Drop, items),
        st.builds(t.Keep, items),
    )


def _can_be_said(pipeline: tuple[t.Stage, ...]) -> bool:
    return not any(
        isinstance(stage, t.Drop | t.Keep)
        and isinstance(stage.items[-1], str)
        and isinstance(following, t.LineFilter)
        and following.op in ("!=", "!~")
        for stage, following in itertools.pairwise(pipeline)
    )


def log_queries() -> st.SearchStrategy[t.LogQuery]:
    return st.builds(t.LogQuery, selectors(), st.lists(stages(), max_size=4).map(tuple).filter(_can_be_said))


def groupings() -> st.SearchStrategy[t.Grouping]:
    return st.builds(t.Grouping, st.booleans(), LABELS)


def range_aggregations() -> st.SearchStrategy[t.RangeAggregation]:
    plain = ["rate", "count_over_time", "bytes_rate", "bytes_over_time", "absent_over_time"]
    never_grouped = ["rate", "rate_counter", "sum_over_time", "absent_over_time"]
    grouped = [f"{name}_over_time" for name in _GROUPED.split()]
    unwraps = st.builds(t.Unwrap, NAMES, st.sampled_from([None, "bytes", "duration", "duration_seconds"]))
    shared = {"query": log_queries(), "range_ns": RANGES, "offset_ns": SIGNED_DURATIONS}
    unwrapped = shared | {
        "unwrap": unwraps,
        "unwrap_filters": st.lists(st.builds(t.LabelFilter, conditions()), max_size=2).map(tuple),
    }
    grouping = st.none() | groupings()
    return st.one_of(
        st.builds(t.RangeAggregation, op=st.sampled_from(plain), **shared),
        st.builds(t.RangeAggregation, op=st.sampled_from(never_grouped), **unwrapped),
        st.builds(t.RangeAggregation, op=st.sampled_from(grouped), grouping=grouping, **unwrapped),
        st.builds(
            t.RangeAggregation,
            op=st.just("quantile_over_time"),
            parameter=FLOATS,
            grouping=grouping,
            **unwrapped,
        ),
    )


def is_scalar(metric: t.Metric) -> bool:
    if isinstance(metric, t.Binary):
        return is_scalar(metric.left) and is_scalar(metric.right)
    return isinstance(metric, t.Scalar)


def metrics() -> st.SearchStrategy[t.Metric]:
    leaves = st.one_of(range_aggregations(), st.builds(t.Scalar, SIGNED), st.builds(t.VectorFn, FLOATS))
    matchings = st.none() | st.one_of(
        st.builds(t.Matching, st.booleans(), LABELS),
        st.builds(t.Matching, st.booleans(), LABELS, st.sampled_from(["left", "right"]), LABELS),
    )

    def extend(inner: st.SearchStrategy[t.Metric]) -> st.SearchStrategy[t.Metric]:
        series = inner.filter(lambda metric: not is_scalar(metric))
        plain = ["sum", "avg", "count", "max", "min", "stddev", "stdvar"]
        counts = st.integers(1, 10**6)
        return st.one_of(
            st.builds(t.VectorAggregation, st.sampled_from(plain), inner, st.none() | groupings()),
            st.builds(t.VectorAggregation, st.sampled_from(["sort", "sort_desc"]), inner),
            st.builds(
                t.VectorAggregation,
                st.sampled_from(["topk", "bottomk"]),
                inner,
                st.none() | groupings(),
                counts,
            ),
            st.builds(t.VectorAggregation, st.just("approx_topk"), inner, st.none(), counts),
            st.builds(t.LabelReplace, inner, TEXTS, TEXTS, TEXTS, REGEXES),
            st.builds(t.Binary, st.sampled_from(["+", "-", "*", "/", "%", "^"]), inner, inner, matchings),
            st.builds(
                t.Binary,
                st.sampled_from(["==", "!=", ">", ">=", "<", "<="]),
                inner,
                inner,
                matchings,
                st.booleans(),
            ),
            st.builds(t.Binary, st.sampled_from(["and", "or", "unless"]), series, series, matchings),
        )

    return st.recursive(leaves, extend, max_leaves=4)


def queries() -> st.SearchStrategy[t.Query]:
    """Any LogQL query."""
    return st.one_of(log_queries(), metrics())
