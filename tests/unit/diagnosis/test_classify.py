import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.client.entries import LogEntry
from atalaia.diagnosis.classify import classify
from atalaia.diagnosis.fill import fill, visible
from atalaia.diagnosis.groups import group
from atalaia.diagnosis.incidents import incidents
from atalaia.diagnosis.language import LANGUAGES
from atalaia.diagnosis.load import DERIVED, METADATA, knowledge
from atalaia.diagnosis.message import parse, template

from .fakelogs import entry

ANYTHING = st.text(st.characters()) | st.text(st.sampled_from('ERROFATLNGS: \n"{}`\x1b\0\ud800…0173'))
KNOWN = st.sampled_from([f"{kind.severities[0]}:  {kind.regex.lstrip('^')}" for kind in knowledge()])


@given(
    st.lists(
        st.tuples(
            ANYTHING | KNOWN, ANYTHING, st.dictionaries(st.sampled_from(["pid", "user", "remote_host"]), ANYTHING)
        )
    )
)
def test_nothing_makes_classification_or_explanation_fail(rows):
    stored = [LogEntry(n, {"severity": severity}, line, more) for n, (line, severity, more) in enumerate(rows)]
    found = classify(stored)
    assert [o.entry for o in found] == stored
    for language in LANGUAGES:
        incidents(group(found), found, language, {"": 5432})


def test_parts_of_a_line():
    message = parse("ERROR:  deadlock detected\nDETAIL:  Process 1 waits.\nProcess 2 waits.\nSTATEMENT:  select\n  1")
    assert (message.severity, message.text) == ("ERROR", "deadlock detected")
    assert message.parts == {
        "DETAIL": "Process 1 waits.\nProcess 2 waits.",
        "STATEMENT": "select\n  1",
    }


@pytest.mark.parametrize(
    ("line", "severity", "text"),
    [
        ("2026-11-22 15:25:54.375 UTC [4664] FATAL:  no sockets", "FATAL", "no sockets"),
        ("no prefix at all", "WARNING", "no prefix at all"),
        ("DEBUG2:  detail", "DEBUG", "detail"),
        ("LOG:  ", "LOG", ""),
        ("ERROR:  says FATAL:  in the middle", "ERROR", "says FATAL:  in the middle"),
    ],
)
def test_first_line(line, severity, text):
    message = parse(line, "WARNING")
    assert (message.severity, message.text) == (severity, text)


def test_template_takes_out_what_varies():
    assert template('connection to "db1" from 10.0.0.1 took 12ms\nmore') == 'connection to "…" from … took …'


def test_unknown_messages_are_grouped_by_template():
    found = classify([entry(f'ERROR:  cube "c{n}" has {n} sides', n) for n in range(5)])
    (only,) = group(found)
    assert only.kind is None
    assert len(only.occurrences) == 5


def test_unknown_log_messages_are_nobodys_business():
    assert group(classify([entry("LOG:  checkpoint complete")])) == []


def test_severity_must_fit():
    (found,) = classify([entry("LOG:  division by zero", sqlstate="22012")])
    assert found.kind is None


@pytest.mark.parametrize("value", ['x"; DROP TABLE a; --', "$(reboot)", "a`b", "-x", "a b", "\x1b[2J", ""])
def test_a_value_cannot_break_out_of_a_command(value):
    filled = fill("Run `psql -U {user}` now", {"user": value}, "en")
    assert filled == "Run `psql -U <user>` now"
    assert fill("`psql -U {user}`", {"user": value}, "pt-BR") == "`psql -U <usuário>`"


def test_harmless_values_enter_commands_and_any_value_enters_prose():
    assert (
        fill("{user}: `psql -U {user} -p {port}`", {"user": "ana", "port": "5432"}, "en")
        == "ana: `psql -U ana -p 5432`"
    )
    assert fill("User {user}!", {"user": "a`b\x1b[2J\nc"}, "en") == "User a'b\N{REPLACEMENT CHARACTER}[2J c!"
    assert fill("{application} waits", {}, "en") == "An application without a name waits"


def test_visible_keeps_letters_and_cuts():
    assert visible("ação\tb\n\x07") == "ação\tb\n\N{REPLACEMENT CHARACTER}"
    assert visible("abcdef", 4) == "abc…"


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", knowledge(), ids=lambda kind: kind.id)
def test_placeholders_of_every_kind_resolve(kind, language):
    """With every value given, and with none, no brace and no empty gap is left."""
    full = dict.fromkeys([*kind.groups, *METADATA, *DERIVED], "v1")
    text = kind.texts[language]
    for values in (full, {"server": "postgres_a"}):
        for sentence in (text.title, text.cause, *text.remedy, text.many):
            filled = fill(sentence, values, language)
            assert "{" not in filled.replace("{}", "")
            assert "<>" not in filled
            assert (values is not full) or ("<" not in filled)
