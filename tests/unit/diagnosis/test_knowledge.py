import json
import re
import tomllib
from importlib import resources
from pathlib import Path

import pytest

from atalaia.client.entries import LogEntry
from atalaia.diagnosis import queries
from atalaia.diagnosis.classify import classify
from atalaia.diagnosis.language import LANGUAGES, phrases
from atalaia.diagnosis.load import knowledge, load

MESSAGES = json.loads((Path(__file__).parent / "messages.json").read_text(encoding="utf-8"))
# The forty-four rows of the project's facts on PostgreSQL messages, and the kinds that stand for them.
FACTS = {
    "startup_packet_length",
    "startup_packet_incomplete",
    "protocol_unsupported",
    "startup_no_user",
    "unencrypted_after_ssl",
    "ssl_direct_without_alpn",
    "ssl_not_accepted",
    "hba_no_entry",
    "password_failed",
    "role_missing",
    "database_missing",
    "too_many_clients",
    "server_not_ready",
    "client_connection_lost",
    "eof_in_transaction",
    "terminated_by_admin",
    "idle_in_transaction_timeout",
    "statement_timeout",
    "cancelled_by_user",
    "lock_timeout",
    "deadlock",
    "lock_wait",
    "serialization_failure",
    "duplicate_key",
    "foreign_key",
    "not_null",
    "check_constraint",
    "syntax_error",
    "relation_missing",
    "column_missing",
    "function_missing",
    "permission_denied",
    "invalid_input",
    "value_too_long",
    "invalid_encoding",
    "transaction_aborted",
    "temporary_file",
    "checkpoints_too_frequent",
    "archive_failed",
    "archive_failing",
    "process_signalled",
    "unclean_stop",
    "wal_end_found",
    "no_space",
    "out_of_memory",
    "port_taken",
    "lock_file_exists",
    "page_damaged",
    "file_missing",
    "restart_needed",
    "configuration_errors",
    "wal_segment_removed",
    "recovery_conflict",
    "wraparound_near",
    "wraparound_reached",
    "autovacuum_cancelled",
    "directory_permissions",
    "directory_incompatible",
}


def as_entry(row: dict[str, str], with_sqlstate: bool = True) -> LogEntry:
    parts = [f"{row['severity']}:  {row['message']}"]
    parts += [f"{name.upper()}:  {row[name]}" for name in ("detail", "hint", "context", "statement") if name in row]
    metadata = {"sqlstate": row["sqlstate"]} if with_sqlstate and row["sqlstate"] else {}
    labels = {"job": "postgres", "server": "postgres_a", "severity": row["severity"]}
    return LogEntry(0, labels, "\n".join(parts), metadata)


@pytest.mark.parametrize("row", MESSAGES, ids=lambda row: f"{row['kind'] or 'unknown'}-{row['message'][:30]}")
def test_each_message_is_of_its_kind(row):
    (found,) = classify([as_entry(row)])
    assert (found.kind.id if found.kind else "") == row["kind"]


@pytest.mark.parametrize("row", MESSAGES, ids=lambda row: f"{row['kind'] or 'unknown'}-{row['message'][:30]}")
def test_pattern_matches_no_other_kind(row):
    """Among the patterns whose severity and SQLSTATE fit, only the message's own matches (order decides nothing)."""
    (found,) = classify([as_entry(row)])
    matching = {
        kind.id
        for kind in knowledge()
        if row["severity"] in kind.severities
        and (not kind.sqlstate or row["sqlstate"] in kind.sqlstate or not (row["sqlstate"] or kind.needs_sqlstate))
        and re.search(kind.regex, found.message.text)
    }
    assert matching == ({row["kind"]} if row["kind"] else set())


def test_without_sqlstate_no_message_gets_a_wrong_kind():
    rows = [row for row in MESSAGES if row["kind"] != "raised_by_code"]
    found = classify([as_entry(row, with_sqlstate=False) for row in rows])
    wrong = {
        (row["message"], o.kind.id)
        for row, o in zip(rows, found, strict=True)
        if o.kind and row["kind"] and o.kind.id != row["kind"]
    }
    assert wrong == set()


def test_every_kind_has_a_real_text():
    assert {kind.id for kind in knowledge()} - {row["kind"] for row in MESSAGES} == set()


def test_facts_and_the_next_tier_are_covered():
    assert {kind.id for kind in knowledge()} >= FACTS
    assert len(knowledge()) >= 120


@pytest.mark.parametrize("row", [r for r in MESSAGES if r["severity"] == "LOG"], ids=lambda r: r["message"][:40])
def test_log_messages_are_asked_for(row):
    """What is LOG only comes when the line filter finds it; `acquired` needs no report of its own."""
    pattern = queries.log_of_interest(None).split("`")[1]
    if re.search(r"^process \d+ acquired", row["message"]):
        return
    assert re.search(pattern, as_entry(row).line)


def test_phrases_are_complete_in_every_language():
    text = resources.files("atalaia.diagnosis.knowledge").joinpath("phrases.toml").read_text(encoding="utf-8")
    for key, translations in tomllib.loads(text).items():
        assert set(translations) == set(LANGUAGES), key
        names = {frozenset(re.findall(r"\{(\w+)\}", phrases(language)[key])) for language in LANGUAGES}
        assert len(names) == 1, key
        assert all(translations.values()), key


def sound() -> dict[str, object]:
    text = {"title": "On {server}", "cause": "Because.", "remedy": ["Do."]}
    return {
        "id": "a", "regex": "^a", "severities": ["ERROR"], "importance": "warning", "en": text, "pt-BR": dict(text)
    }  # fmt: skip


def test_sound_knowledge_is_accepted():
    assert [kind.id for kind in load([sound()])] == ["a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"regex": "("}, "not RE2"),
        ({"regex": "(?=a)"}, "not RE2"),
        ({"severities": ["LOG"]}, "need `find`"),
        ({"severities": ["LOG"], "find": "`"}, "backquotes"),
        ({"severities": ["OOPS"]}, "unknown severity"),
        ({"severities": []}, "no severity"),
        ({"sqlstate": ["8P01"]}, "not a SQLSTATE"),
        ({"by": ["nobody"]}, "unknown field"),
        ({"follows": ["b"]}, "follows the unknown"),
        ({"importance": "huge"}, "importance"),
        ({"colour": "red"}, "colour"),
        ({"pt-BR": {"title": "", "cause": "x", "remedy": ["x"]}}, "empty text"),
        ({"pt-BR": {"title": "Em {server}", "cause": "x", "remedy": []}}, "empty text"),
        ({"pt-BR": {"title": "Em {servidor}", "cause": "x", "remedy": ["x"]}}, "unknown placeholder"),
        ({"pt-BR": {"title": "Aqui", "cause": "x", "remedy": ["x"]}}, "different placeholders"),
        ({"pt-BR": {"title": "Em {server}", "cause": "x", "remedy": ["x", "y"]}}, "different numbers"),
    ],
)
def test_faulty_knowledge_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        load([sound() | change])


def test_missing_language_and_double_id_are_refused():
    half = sound()
    del half["pt-BR"]
    with pytest.raises(ValueError, match="wanted"):
        load([half])
    with pytest.raises(ValueError, match="twice"):
        load([sound(), sound()])
