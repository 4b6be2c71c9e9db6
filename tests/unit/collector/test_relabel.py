from __future__ import annotations

import hashlib
from pathlib import Path
from textwrap import dedent

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.relabel import ACTIONS, RelabelError, Relabeller, Rule, relabelled, rules_of
from atalaia.environment.yamlfile import Reader

NAMES = st.sampled_from(["a", "b", "c_d", "__meta_x", "__path__", "job"])
VALUES = st.text(st.sampled_from("ab;:/é\n1"), max_size=5)
LABELS = st.dictionaries(NAMES, VALUES.filter(bool), max_size=5)


def of(text: str) -> tuple[tuple[Rule, ...], list[tuple[int, str]]]:
    reader = Reader(Path("promtail.yaml"))
    rules = rules_of(reader, reader.load(dedent(text)))
    return rules, [(p.line, p.message) for p in reader.problems]


@pytest.mark.parametrize(
    ("rule", "labels", "expected"),
    [
        # replace: copies by default, joins with `;`, deletes by an empty replacement, leaves alone what does not match.
        (Rule(source_labels=("a",), target_label="b"), {"a": "x"}, {"a": "x", "b": "x"}),
        (Rule(source_labels=("a", "b"), target_label="c"), {"a": "x"}, {"a": "x", "c": "x;"}),
        (Rule(source_labels=("a", "b"), separator="@", target_label="c"), {"b": "y"}, {"b": "y", "c": "@y"}),
        (Rule(source_labels=("a",), target_label="b"), {"b": "gone"}, {}),
        (Rule(target_label="b", replacement="fixed"), {"a": "x"}, {"a": "x", "b": "fixed"}),
        (Rule(target_label="a", replacement=""), {"a": "x", "b": "y"}, {"b": "y"}),
        (Rule(source_labels=("a",), regex="y", target_label="b"), {"a": "xyz"}, {"a": "xyz"}),
        (
            Rule(source_labels=("a",), regex="/(.*)-(?P<n>[0-9]+)", target_label="b_${n}", replacement="${1}_$n-$2x"),
            {"a": "/web-7"},
            {"a": "/web-7", "b_7": "web_7-"},
        ),
        (Rule(source_labels=("a",), target_label="${1}"), {"a": "not a name"}, {"a": "not a name"}),
        (
            Rule("replace", ("a",), regex="(x)|(y)", target_label="b", replacement="$2"),
            {"a": "x", "b": "z"},
            {"a": "x"},
        ),
        (
            Rule("replace", ("a",), regex="a.b", target_label="b", replacement="$$1"),
            {"a": "a\nb"},
            {"a": "a\nb", "b": "$1"},
        ),
        # keep, drop: the whole value must match.
        (Rule("keep", ("a",), regex="x|y"), {"a": "y"}, {"a": "y"}),
        (Rule("keep", ("a",), regex="x|y"), {"a": "xy"}, None),
        (Rule("keep", ("a",), regex=".+"), {}, None),
        (Rule("drop", ("a",), regex="x.*"), {"a": "xyz"}, None),
        (Rule("drop", ("a",), regex="x"), {"a": "xyz"}, {"a": "xyz"}),
        (Rule("drop", ("a",), regex=""), {"b": "1"}, None),
        # keepequal, dropequal
        (Rule("keepequal", ("a",), target_label="b"), {"a": "x", "b": "x"}, {"a": "x", "b": "x"}),
        (Rule("keepequal", ("a",), target_label="b"), {"a": "x", "b": "y"}, None),
        (Rule("dropequal", ("a",), target_label="b"), {}, None),
        (Rule("dropequal", ("a",), target_label="b"), {"a": "x"}, {"a": "x"}),
        # hashmod: md5("foo") is acbd18db4cc2f85c edef654fccc4a4d8, of which the second half counts.
        (
            Rule("hashmod", ("a",), target_label="c", modulus=1000),
            {"a": "foo"},
            {"a": "foo", "c": str(0xEDEF654FCCC4A4D8 % 1000)},
        ),
        (Rule("hashmod", ("a",), target_label="c", modulus=1), {"a": "foo"}, {"a": "foo", "c": "0"}),
        # names
        (
            Rule("labelmap", regex="__meta_(.+)"),
            {"__meta_pod": "p", "__meta_a_b": "q", "pod": "old"},
            {"__meta_pod": "p", "__meta_a_b": "q", "pod": "p", "a_b": "q"},
        ),
        (Rule("labelmap", regex="m(.+)", replacement="x_$1"), {"m1": "v"}, {"m1": "v", "x_1": "v"}),
        (Rule("labelmap", regex="m(.+)"), {"m1": "v"}, {"m1": "v"}),  # "1" is no label name
        (Rule("labeldrop", regex="__tmp.*|a"), {"a": "1", "ab": "2", "__tmp_x": "3"}, {"ab": "2"}),
        (Rule("labelkeep", regex="a|b"), {"a": "1", "ab": "2"}, {"a": "1"}),
        # letters
        (Rule("lowercase", ("a",), target_label="a"), {"a": "ÄBc"}, {"a": "äbc"}),
        (Rule("uppercase", ("a", "b"), target_label="c"), {"a": "x", "b": "y"}, {"a": "x", "b": "y", "c": "X;Y"}),
        (Rule("lowercase", ("a",), target_label="b"), {"b": "gone"}, {}),
    ],
)
def test_each_action(rule: Rule, labels: dict[str, str], expected: dict[str, str] | None) -> None:
    before = dict(labels)
    assert relabelled([rule], labels) == expected
    assert labels == before


def test_rules_follow_each_other_until_one_drops() -> None:
    rules = (
        Rule(source_labels=("__address__",), regex="(.*):.*", target_label="__tmp"),
        Rule(source_labels=("__tmp",), target_label="host"),
        Rule("drop", ("host",), regex="bad"),
        Rule("labeldrop", regex="__tmp"),
    )
    assert relabelled(rules, {"__address__": "good:80", "empty": ""}) == {"__address__": "good:80", "host": "good"}
    assert relabelled(rules, {"__address__": "bad:80"}) is None
    relabel = Relabeller(rules)
    assert (
        relabel({"__address__": "good:80"})
        == relabel({"__address__": "good:80"})
        == relabelled(rules, {"__address__": "good:80"})
    )


def test_which_labels_rules_read() -> None:
    rules = (
        Rule(source_labels=("__a", "b"), target_label="c"),
        Rule("labelmap", regex="__journal_(.+)"),
        Rule("keepequal", ("d",), target_label="e"),
        Rule("labeldrop", regex="f"),
    )
    relabel = Relabeller(rules)
    assert [name for name in ("__a", "b", "c", "__journal_x", "d", "e", "f", "__g") if relabel.reads(name)] == [
        "__a", "b", "__journal_x", "d", "e",
    ]  # fmt: skip


def test_rules_are_read_with_prometheus_defaults() -> None:
    rules, problems = of(
        """
        - source_labels: [__meta_a, b]
          target_label: c
        - {action: KEEP, source_labels: [a], regex: 10}
        - {target_label: x, replacement: }
        - {action: hashmod, source_labels: [a], modulus: 8, target_label: shard}
        """
    )
    assert problems == []
    assert rules == (
        Rule("replace", ("__meta_a", "b"), ";", "(.*)", 0, "c", "$1"),
        Rule("keep", ("a",), regex="10"),
        Rule("replace", target_label="x", replacement=""),
        Rule("hashmod", ("a",), modulus=8, target_label="shard"),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1", "relabel_configs is {'a': 1}, not a list"),
        ("- {action: replcae}", "relabel_configs: the action 'replcae' is not known; there are: replace, keep"),
        ("- {sorce_labels: [a], target_label: b}", "relabel_configs: 'sorce_labels' is not known"),
        ("- {source_labels: a, target_label: b}", "source_labels is 'a', not a list"),
        ("- {source_labels: [a-b], target_label: b}", "relabel_configs: source_labels: 'a-b' is not a label name"),
        ("- {source_labels: [a], target_label: b, regex: '('}", "relabel_configs: the regex is not RE2"),
        ("- {source_labels: [a]}", "relabel_configs: replace needs 'target_label'"),
        ("- {target_label: 'a-b'}", "relabel_configs: target_label 'a-b' is not a label name"),
        ("- {target_label: 'a-$1'}", "relabel_configs: target_label 'a-$1' is not a label name"),
        ("- {action: hashmod, target_label: 'a$1', modulus: 1}", "relabel_configs: target_label 'a$1' is not a"),
        ("- {action: hashmod, target_label: a}", "relabel_configs: hashmod needs a 'modulus'"),
        ("- {action: hashmod, target_label: a, modulus: -1}", "relabel_configs: modulus '-1' is not a whole number"),
        ("- {action: labelmap, regex: x, replacement: '-$1'}", "relabel_configs: replacement '-$1' makes no label"),
        ("- {action: lowercase, target_label: a, replacement: b}", "relabel_configs: lowercase takes no 'replacement'"),
        ("- {action: keepequal, target_label: a, regex: b}", "relabel_configs: keepequal takes only"),
        ("- {action: labeldrop, regex: a, source_labels: [b]}", "relabel_configs: labeldrop takes only 'regex'"),
    ],
)
def test_each_refusal(text: str, expected: str) -> None:
    rules, problems = of("\n" + text)
    assert rules == ()
    ((line, message),) = problems
    assert line == 2
    assert message.startswith(expected)


@given(labels=LABELS, name=NAMES, modulus=st.integers(1, 1 << 64))
def test_hashmod_is_md5s_last_eight_bytes(labels: dict[str, str], name: str, modulus: int) -> None:
    made = relabelled([Rule("hashmod", (name,), target_label="t", modulus=modulus)], labels)
    number = int(hashlib.md5(labels.get(name, "").encode()).hexdigest()[16:], 16)
    assert made == {**labels, "t": str(number % modulus)}


@given(labels=LABELS, regex=st.sampled_from(["a", "a|b", ".*", "[a-c].*", "__.*", ""]))
def test_opposite_actions_part_all_labels(labels: dict[str, str], regex: str) -> None:
    kept, dropped = (relabelled([Rule(action, regex=regex)], labels) or {} for action in ("labelkeep", "labeldrop"))
    assert {**kept, **dropped} == labels
    assert not kept.keys() & dropped.keys()
    for one, other in (("keep", "drop"), ("keepequal", "dropequal")):
        rules = [
            Rule(action, ("a",), regex=regex) if one == "keep" else Rule(action, ("a",), target_label="b")
            for action in (one, other)
        ]
        outcomes = [relabelled([rule], labels) for rule in rules]
        assert outcomes in ([labels, None], [None, labels])


@given(labels=LABELS, target=st.sampled_from(["new", "a"]))
def test_replace_copies_a_value_exactly(labels: dict[str, str], target: str) -> None:
    made = relabelled([Rule(source_labels=("b",), target_label=target)], labels)
    expected = {**labels, target: labels.get("b", "")}
    assert made == {name: value for name, value in expected.items() if value}


def test_every_action_is_tried_above() -> None:
    marks = test_each_action.pytestmark[0].args[1]  # type: ignore[attr-defined]
    assert {case[0].action for case in marks} == set(ACTIONS)


def test_an_unknown_action_is_refused_at_once() -> None:
    with pytest.raises(RelabelError, match="not known"):
        Rule("nothing")
