from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.promtail.expand import ExpandError, expand

VARIABLES = {"V": "Value", "E": "", "P": "/var/log/app.log.gz", "U": "ünï", "N": "2"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ${V} b ${V}", "a Value b Value"),
        ("${UNSET}|${E}|", "||"),
        ("$V $ {V} $$ $${V} $", "$V $ {V} $ ${V} $"),
        # A default counts for what is not set and for what is empty, whatever sign stands before it.
        ("${UNSET:-x y}|${E:-x}|${V:-x}", "x y|x|Value"),
        ("${UNSET:=x}|${UNSET=x}|${UNSET:?x}|${UNSET:+x}|${V:+x}", "x|x|x|x|Value"),
        ("${UNSET:-}|${UNSET:-http://${V}:${N}/}", "|http://Value:2/"),
        # One colon takes a part, and what is no number leaves the value as it is: this is no default.
        ("${V:1}|${V:1:3}|${V:9}|${V:1:99}|${V:0:0}", "alue|alu||alue|"),
        ("${V: -3}|${U:0:2}|${UNSET:default}|${V:x:y}", "Value|ü||Value"),
        ("${V,}|${V,,}|${V^}|${V^^}|${U^}", "value|value|Value|VALUE|Ünï"),
        ("${#V}|${#UNSET}|${#U}", "5|0|5"),
        (
            "${P#*/}|${P##*/}|${P%.*}|${P%%.*}|${P#x}",
            "var/log/app.log.gz|app.log.gz|/var/log/app.log|/var/log/app|" + VARIABLES["P"],
        ),
        (
            "${P/log/L}|${P//log/L}|${P//log/}|${P/#\\/var/V}|${P/%.gz/.xz}",
            "/var/L/app.log.gz|/var/L/app.L.gz|/var//app..gz|V/log/app.log.gz|/var/log/app.log.xz",
        ),
        # As Promtail's documentation warns: with -config.expand-env a double backslash becomes one.
        (r"expression: '^(\\d+)\d+\.\/'", r"expression: '^(\d+)\d+\./'"),
        ("${V}}", "Value}"),
        ("größer ${U}\n", "größer ünï\n"),
        ("", ""),
    ],
)
def test_expansion(text: str, expected: str) -> None:
    assert expand(text, VARIABLES) == expected


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a\nb ${V", 2, "has no }"),
        ("${}", 1, "no variable's name"),
        ("\n\n${V-x}", 3, "has no }"),
        ("${V:}", 1, "empty argument"),
        ("${V#}", 1, "empty argument"),
        ("${V/x}", 1, "no second /"),
        ("${UNSET:-a", 1, "no }"),
        ("${V:3:-1}", 1, "negative length"),
        ("${#V", 1, "no }"),
        ("${V%a${N}}", 1, "no }"),
    ],
)
def test_what_cannot_be_read(text: str, line: int, message: str) -> None:
    with pytest.raises(ExpandError, match=message) as caught:
        expand(text, VARIABLES)
    assert caught.value.line == line


@given(st.text(st.characters(exclude_characters="$\\\0")))
def test_other_text_stays_as_it_is(text: str) -> None:
    assert expand(text, VARIABLES) == text


@given(st.lists(st.sampled_from(["${V}", "x", "${E}", "$", "{", "}", "$$", "\n", "${UNSET:-d}", "\\"]), max_size=8))
def test_pieces_are_replaced_one_by_one(pieces: list[str]) -> None:
    text = "".join(f"{piece} " for piece in pieces)
    made = {"${V}": "Value", "${E}": "", "$$": "$", "${UNSET:-d}": "d"}
    assert expand(text, VARIABLES) == "".join(f"{made.get(piece, piece)} " for piece in pieces)
