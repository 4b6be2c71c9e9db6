"""The functions of templates, by cases from Go's, sprig's and Loki's documentation."""

from __future__ import annotations

import re

import pytest

from atalaia.logql.template.parse import TemplateError

from .support import made

CASES = [
    # ---- texts
    ("lower `ÀB`", "àb"),
    ("upper `àß`", "ÀSS"),
    ("title `the quick-brown fox1a`", "The Quick-Brown Fox1a"),
    ("trunc 2 `héllo`", "hé"),
    ("trunc -2 `hello`", "lo"),
    ("trunc 9 `hello`", "hello"),
    ("trunc -9 `hello`", "hello"),
    ("substr 1 3 `héllo`", "él"),
    ("substr -1 3 `hello`", "hel"),
    ("substr 2 -1 `hello`", "llo"),
    ("substr 2 99 `hello`", "llo"),
    ("substr 5 -1 `hello`", ""),
    ("contains `el` `hello`", "true"),
    ("hasPrefix `he` `hello`", "true"),
    ("hasSuffix `he` `hello`", "false"),
    ("indent 2 `a\nb`", "  a\n  b"),
    ("nindent 1 `a`", "\n a"),
    ("replace `l` `L` `hello`", "heLLo"),
    ("repeat 3 `ab`", "ababab"),
    ("repeat 0 `ab`", ""),
    ("trim `  a b\t\n`", "a b"),
    ("trimAll `$-` `$-a-$`", "a"),
    ("trimPrefix `-` `--a`", "-a"),
    ("trimSuffix `-` `a--`", "a-"),
    ("alignLeft 5 `ab`", "ab   "),
    ("alignLeft 1 `ab`", "a"),
    ("alignRight 5 `ab`", "   ab"),
    ("alignRight 1 `ab`", "b"),
    ("b64enc `é`", "w6k="),
    ("b64dec `w6k=`", "é"),
    ("urlencode `a b&é`", "a+b%26%C3%A9"),
    ("urldecode `a+b%26`", "a b&"),
    ("default `x` .empty", "x"),
    ("default `x` .n", "5"),
    ("default 3 0", "3"),
    ("default 3", "3"),
    ("count `a|e` .level", "1"),
    ("regexReplaceAll `(e)(r)` .level `$2$1`", "reror"),
    ("regexReplaceAll `a*` `baac` `<$0>`", "<>b<aa>c<>"),
    ("regexReplaceAllLiteral `r+` .level `$1`", "e$1o$1"),
    ("ToLower `A`", "a"),
    ("ToUpper `a`", "A"),
    ("Replace `aaa` `a` `b` 2", "bba"),
    ("Replace `aaa` `a` `b` -1", "bbb"),
    ("Trim `xxaxx` `x`", "a"),
    ("TrimLeft `xxaxx` `x`", "axx"),
    ("TrimRight `xxaxx` `x`", "xxa"),
    ("TrimPrefix `ab` `a`", "b"),
    ("TrimSuffix `ab` `b`", "a"),
    ("TrimSpace ` a `", "a"),
    # ---- amounts
    ("bytes `2 KB`", "2000"),
    ("bytes `1KiB`", "1024"),
    ("duration `1h30m`", "5400"),
    ("duration_seconds `250ms`", "0.25"),
    # ---- whole numbers
    ("int `12`", "12"),
    ("int `1.9`", "0"),
    ("int 1.9", "1"),
    ("int `x`", "0"),
    ("int `0x1F`", "31"),
    ("int true", "1"),
    ("add 1 2 3", "6"),
    ("add `1` `2`", "3"),
    ("sub 1 3", "-2"),
    ("mul 2 3 4", "24"),
    ("div 7 2", "3"),
    ("div -7 2", "-3"),
    ("mod 7 3", "1"),
    ("mod -7 3", "-1"),
    ("max 1 `5` 3", "5"),
    ("min 1 5 3", "1"),
    ("add 9223372036854775807 1", "-9223372036854775808"),
    # ---- floats
    ("float64 `1.5`", "1.5"),
    ("float64 `x`", "0"),
    ("addf 0.1 0.2", "0.3"),
    ("subf 5.5 1", "4.5"),
    ("mulf 1.1 3", "3.3"),
    ("divf 1 3", "0.3333333333333333"),
    ("maxf 1.5 2", "2"),
    ("minf 1.5 2", "1.5"),
    ("ceil 1.2", "2"),
    ("floor -1.2", "-2"),
    ("round 123.5555 2", "123.56"),
    ("round 2.5 0", "3"),
    ("round 1.25 1 0.6", "1.2"),
    ("floor 1e30", "1e+30"),
    # ---- comparison
    ("eq 1 2 1", "true"),
    ("eq `a` `b`", "false"),
    ("ne 1 2", "true"),
    ("lt `a` `b`", "true"),
    ("le 2 2", "true"),
    ("gt 1.5 1.0", "true"),
    ("ge 1 2", "false"),
    ("eq true true", "true"),
    ("eq (int `1`) 1", "true"),
    ("eq nil nil", "true"),
    # ---- values
    ("len `é`", "2"),
    ("len (fromJson .js).a.b", "3"),
    ("index (fromJson .js) `a` `b` 2", "x"),
    ("index . `n`", "5"),
    ("index . `missing`", ""),
    ("index `abc` 1", "98"),
    ("slice `abcd` 1 3", "bc"),
    ("slice `abcd` 2", "cd"),
    ("slice (fromJson .js).a.b 1", "[2.5 x]"),
    ("fromJson `{`", "<no value>"),
    ("fromJson `1e6`", "1e+06"),
    ('fromJson `{"a":[true,null]}`', "map[a:[true <nil>]]"),
    ("(fromJson .js).z", "<no value>"),
    ("print 1 2 `a` `b` 3 nil", "1 2ab3 <nil>"),
    ("print `a` `b`", "ab"),
    ("println 1 `a`", "1 a\n"),
    ('html `<a href="x">\'&`', "&lt;a href=&#34;x&#34;&gt;&#39;&amp;"),
    ("js `a'b<\n`", "a\\'b\\u003C\\u000A"),
    ("urlquery `a b` `c`", "a+bc"),
    # ---- times
    ("__timestamp__ | unixEpoch", "1700000000"),
    ("__timestamp__ | unixEpochMillis", "1700000000123"),
    ("__timestamp__ | unixEpochNanos", "1700000000123456789"),
    ("date `2006-01-02 15:04:05` __timestamp__", "2023-11-14 22:13:20"),
    ("date `Mon Jan _2 03:04:05PM 06 .000` __timestamp__", "Tue Nov 14 10:13:20PM 23 .123"),
    (
        "date `2/1/2006 3:4:5 pm Monday January 002 .999999999` __timestamp__",
        "14/11/2023 10:13:20 pm Tuesday November 318 .123456789",
    ),
    ("date `Z07:00 -0700 MST` __timestamp__", "Z +0000 UTC"),
    ("__timestamp__", "2023-11-14 22:13:20.123456789 +0000 UTC"),
    ("toDate `2006-01-02` `2023-11-14` | unixEpoch", "1699920000"),
    ("toDate `2006-01-02` `x`", "0001-01-01 00:00:00 +0000 UTC"),
    ("toDateInZone `2006-01-02 15:04` `America/Sao_Paulo` `2023-11-14 12:00` | date `-07:00 15:04`", "-03:00 12:00"),
    ("toDateInZone `2006-01-02` `No/Where` `2023-11-14` | unixEpoch", "1699920000"),
    ("unixToTime `1700000000` | date `15:04`", "22:13"),
    ("unixToTime `1700000000123` | unixEpochMillis", "1700000000123"),
    ("unixToTime `19675` | date `2006-01-02`", "2023-11-14"),
    ("date `2006` 0", "1970"),
    ("gt (now | unixEpoch | int) 1700000000", "true"),
]


@pytest.mark.parametrize(("call", "expected"), CASES, ids=lambda text: re.sub(r"[^\x20-\x7e]", "?", text))
def test_functions(call: str, expected: str) -> None:
    assert made(f"{{{{{call}}}}}") == expected


@pytest.mark.parametrize("bounds", ["3 2", "6 -1", "7 9", "-1 6", "-1 -1"])
def test_substr_beyond_the_text_fails(bounds: str) -> None:
    with pytest.raises(TemplateError, match="out of range"):
        made(f"{{{{substr {bounds} `hello`}}}}")


PRINTF = [
    ("`%s|%5s|%-5s|%.2s` `a` `b` `c` `déf`", "a|    b|c    |dé"),
    ("`%d|%5d|%-5d|%05d|%+d|% d` 1 2 3 -4 5 6", "1|    2|3    |-0004|+5| 6"),
    ("`%x|%X|%#x|%o|%b|%c|%U|%q` 255 255 255 8 5 65 233 65", "ff|FF|0xff|10|101|A|U+00E9|'A'"),
    ("`%x|%X` `hé` `k`", "68c3a9|6B"),
    (
        "`%f|%.2f|%8.3f|%e|%g|%.3g` 1.5 1.005 3.14159 1234.5 0.00001 1234.5",
        "1.500000|1.00|   3.142|1.234500e+03|1e-05|1.23e+03",
    ),
    ("`%v|%v|%v|%v` 1 `a` true 1.5", "1|a|true|1.5"),
    ('`%q|%t|%%` `a"b` false', '"a\\"b"|false|%'),
    ("`%T %T %T` 1 `a` 1.5", "int string float64"),
    ("`%d` `a`", "%!d(string=a)"),
    ("`%s` 1", "%!s(int=1)"),
    ("`%d %d` 1", "1 %!d(MISSING)"),
    ("`%d` 1 2", "1%!(EXTRA int=2)"),
    ("`%*d|%-*d|` 4 1 3 2", "   1|2  |"),
    ("`%z` 1", "%!z(int=1)"),
    ("`%` ", "%!(NOVERB)"),
    ("`%v` nil", "<nil>"),
    ("`%s` nil", "%!s(<nil>)"),
    ("`%05.1f|%+.1f` -2.5 2.5", "-02.5|+2.5"),
]


@pytest.mark.parametrize(("arguments", "expected"), PRINTF)
def test_printf(arguments: str, expected: str) -> None:
    assert made(f"{{{{printf {arguments}}}}}") == expected
