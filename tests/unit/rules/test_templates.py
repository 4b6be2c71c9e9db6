"""Templates of labels and annotations: Prometheus' variables and functions; expectations worked out from its manual."""

from __future__ import annotations

import pytest

from atalaia.environment.errors import InputError
from atalaia.rules.templates import Surroundings, expanded, template_problem

LABELS = {"server": "postgres_a", "host": "db1.example.com:5432"}


def answer(text: str) -> list:
    if text == "bad":
        raise InputError("no such query")
    return [] if text == "none" else [({"server": "b", "__value__": "x"}, 3.0), ({"server": "a"}, 1.5)]


AROUND = Surroundings(answer, 1_700_000_000 * 10**9, "http://atalaia.example", {"site": "rio"})


@pytest.mark.parametrize(
    ("template", "value", "expected"),
    [
        ("no template", 1.0, "no template"),
        ("{{ $labels.server }}: {{ $value }}", 1234567.0, "postgres_a: 1.234567e+06"),
        ("{{ .Labels.server }}/{{ .Value }}/{{ .Labels.absent }}/", 0.5, "postgres_a/0.5//"),
        ("{{ $externalLabels.site }} {{ $externalURL }} {{ externalURL }} {{ pathPrefix }}", 0.0,
         "rio http://atalaia.example http://atalaia.example "),
        ("{{ if gt $value 2.0 }}many{{ else }}few{{ end }}", 3.0, "many"),
        ("{{ humanize $value }}", 0.0, "0"),
        ("{{ humanize $value }}", 999.0, "999"),
        ("{{ humanize $value }}", 1234567.0, "1.235M"),
        ("{{ humanize $value }}", -0.00012, "-120u"),
        ("{{ humanize $value }}", float("inf"), "+Inf"),
        ("{{ humanize 1e30 }}", 0.0, "1e+06Y"),
        ("{{ humanize \"1500\" }}", 0.0, "1.5k"),
        ("{{ humanize1024 $value }}", 1048576.0, "1Mi"),
        ("{{ humanize1024 $value }}", 0.5, "0.5"),
        ("{{ humanize1024 $value }}", float("nan"), "NaN"),
        ("{{ humanizeDuration $value }}", 0.0, "0s"),
        ("{{ humanizeDuration $value }}", 59.5, "59.5s"),
        ("{{ humanizeDuration $value }}", 3599.0, "59m 59s"),
        ("{{ humanizeDuration $value }}", 90061.7, "1d 1h 1m 1s"),
        ("{{ humanizeDuration $value }}", -3600.0, "-1h 0m 0s"),
        ("{{ humanizeDuration $value }}", 0.00123, "1.23ms"),
        ("{{ humanizePercentage $value }}", 0.1234567, "12.35%"),
        ("{{ humanizeTimestamp $value }}", 1435065584.128, "2015-06-23 13:19:44.128 +0000 UTC"),
        ("{{ printf \"%.2f\" $value }}", 2.0, "2.00"),
        ("{{ toUpper \"ab\" }}{{ toLower \"CD\" }}{{ title \"ef gh\" }}", 0.0, "ABcdEf Gh"),
        ("{{ match \"^post\" $labels.server }} {{ match \"x$\" $labels.server }}", 0.0, "true false"),
        ("{{ reReplaceAll \"(.*)_(.*)\" \"$2 $1\" $labels.server }}", 0.0, "a postgres"),
        ("{{ stripPort $labels.host }} {{ stripDomain $labels.host }}", 0.0, "db1.example.com db1:5432"),
        ("{{ stripPort \"[::1]:80\" }} {{ stripDomain \"10.0.0.1:80\" }} {{ stripDomain \"a.b\" }}", 0.0,
         "::1 10.0.0.1:80 a"),
        ("{{ now }} {{ toTime 0 }} {{ parseDuration \"1h30m\" }} {{ toDuration 90.5 }}", 0.0,
         "1.7e+09 1970-01-01 00:00:00 +0000 UTC 5400 1m30.5s"),
        ("{{ graphLink \"a b\" }} {{ tableLink \"a\" }} {{ urlQueryEscape \"a&b\" }} {{ safeHtml \"<\" }}", 0.0,
         "/graph?g0.expr=a+b&g0.tab=0 /graph?g0.expr=a&g0.tab=1 a%26b <"),
        ("{{ range query \"q\" }}{{ .Labels.server }}={{ .Value }};{{ end }}", 0.0, "b=3;a=1.5;"),
        ("{{ range query \"q\" | sortByLabel \"server\" }}{{ label \"server\" . }}{{ end }}", 0.0, "ab"),
        ("{{ with query \"q\" }}{{ . | first | value | humanize }} {{ . | first | strvalue }}{{ end }}", 0.0, "3 x"),
        ("{{ with query \"none\" }}yes{{ else }}no{{ end }}", 0.0, "no"),
        ("{{ define \"t\" }}{{ .arg0 }}+{{ .arg1 }}{{ end }}{{ template \"t\" (args 1 \"x\") }}", 0.0, "1+x"),
        ("{{ lower \"Loki's too\" }}", 0.0, "loki's too"),
    ],
)  # fmt: skip
def test_templates(template: str, value: float, expected: str) -> None:
    assert template_problem(template) is None
    assert expanded(template, LABELS, value, AROUND) == expected


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ('{{ query "none" | first }}', "first() called on vector with no elements"),
        ('{{ query "bad" }}', "no such query"),
        ('{{ humanize "x" }}', "can't convert 'x' to a number"),
        ('{{ parseDuration "1x" }}', "'1x' is not a duration"),
        ("{{ $value.x }}", "can't evaluate field x"),
        ("{{ toTime 1e300 }}", "too far away"),
    ],
)
def test_what_fails_says_so_in_the_text(template: str, why: str) -> None:
    assert template_problem(template) is None
    found = expanded(template, LABELS, 1.0, AROUND)
    assert found.startswith("<error expanding template: ")
    assert why in found


@pytest.mark.parametrize("template", ["{{ nope }}", "{{ .x", "{{ $nope }}", "{{ if }}{{ end }}", "{{ end }}"])
def test_what_is_no_template_is_told(template: str) -> None:
    assert template_problem(template)


def test_half_characters_become_whole_ones() -> None:
    assert expanded(r'{{ (fromJson "{\"a\":\"\\ud800\"}").a }}', {}, 1.0, AROUND) == "?"
