"""Whole diagnoses of small stories."""

import json

import pytest

from atalaia.diagnosis.render import ordinary, render_text, summary, to_json

from .fakelogs import NOON, SECOND, bad_start, entry, told

ABORTED = "ERROR:  current transaction is aborted, commands ignored until end of transaction block"


def test_nothing_unusual_says_what_was_looked_at():
    found, _ = told(entry("LOG:  checkpoint complete: wrote 3 buffers", 5))
    lines = summary(found)
    assert lines[0] == "Nothing unusual."
    assert "2024-08-07 12:00:00 UTC to 2024-08-09 12:00:00 UTC" in lines[1]
    assert "Lines read: 0 " in lines[1]
    assert to_json(found)["nothing_unusual"] is True


def test_silence_is_not_called_usual():
    found, _ = told(entry("LOG:  checkpoint complete"), servers=("postgres_a", "postgres_b"))
    assert found.silent == ("postgres_b",)
    assert not any(line.startswith("Nothing unusual") for line in summary(found))
    assert any("No line at all from postgres_b" in line for line in summary(found))
    empty, _ = told(language="pt-BR")
    assert any("Nenhuma linha de todos os servidores" in line for line in summary(empty))


def test_a_shutdown_explains_what_goes_with_it():
    found, _ = told(
        entry("LOG:  received fast shutdown request", 0),
        *(
            entry("FATAL:  terminating connection due to administrator command", 0.1 * n, sqlstate="57P01")
            for n in range(3)
        ),
        entry("FATAL:  the database system is shutting down", 1, sqlstate="57P03"),
        entry("LOG:  starting PostgreSQL 16.14 on x86_64", 4),
        entry("FATAL:  the database system is starting up", 5, sqlstate="57P03"),
    )
    assert found.unusual == ()
    assert summary(found)[0] == "Nothing unusual."
    assert any("goes with" in line for line in ordinary(found))


def test_terminated_without_a_shutdown_is_a_warning():
    found, _ = told(entry("FATAL:  terminating connection due to administrator command", sqlstate="57P01"))
    assert found.unusual[0].importance == "warning"


def test_not_ready_for_long_is_a_problem_and_for_a_moment_is_not():
    line = "FATAL:  the database system is starting up"
    short, _ = told(*(entry(line, n, sqlstate="57P03") for n in range(3)))
    long, _ = told(*(entry(line, 100 * n, sqlstate="57P03") for n in range(9)))
    assert short.unusual[0].importance == "notice"
    assert long.unusual[0].importance == "problem"


def test_an_aborted_transaction_shows_the_first_error_of_its_session():
    found, _ = told(
        entry('ERROR:  relation "orders" does not exist', 0, pid="7", session="s1", sqlstate="42P01", database="app"),
        entry("ERROR:  division by zero", 1, pid="8", session="s2", sqlstate="22012"),
        *(entry(ABORTED, 2 + n, pid="7", session="s1", sqlstate="25P02") for n in range(3)),
    )
    (aborted,) = [i for i in found.incidents if i.kind == "transaction_aborted"]
    assert aborted.role == "secondary"
    assert any('relation "orders" does not exist' in note for note in aborted.notes)
    assert 'relation "orders"' in aborted.excerpts[0].line
    assert "transaction_aborted" not in {i.kind for i in found.unusual}


def test_a_first_error_out_of_sight_is_said_to_be():
    found, _ = told(entry("ERROR:  current transaction is aborted, commands ignored", 0, pid="7", sqlstate="25P02"))
    assert any("lies before the period" in note for note in found.incidents[0].notes)


def test_hba_gives_the_exact_line_to_add():
    line = 'FATAL:  no pg_hba.conf entry for host "192.0.2.7", user "ana", database "app", no encryption'
    found, _ = told(entry(line, sqlstate="28000", remote_host="192.0.2.7"))
    assert any("`host app ana 192.0.2.7/32 scram-sha-256`" in step for step in found.unusual[0].remedy)
    evil = line.replace('"ana"', '"a;b"')
    found, _ = told(entry(evil, sqlstate="28000"))
    assert not any("a;b" in step for step in found.unusual[0].remedy)
    local = line.replace("192.0.2.7", "[local]")
    found, _ = told(entry(local, sqlstate="28000"))
    assert any("`local app ana scram-sha-256`" in step for step in found.unusual[0].remedy)


def test_many_users_from_one_host_are_spraying():
    line = 'FATAL:  password authentication failed for user "u{}"'
    lines = [entry(line.format(n), n * 3.7, sqlstate="28P01", remote_host="203.0.113.9") for n in range(8)]
    found, _ = told(*lines)
    (incident,) = found.unusual
    assert any("8 different users" in note for note in incident.notes)
    few, _ = told(*lines[:2])
    assert few.unusual[0].notes == ()


def test_incidents_are_ordered_by_importance_then_recency():
    found, _ = told(
        entry("ERROR:  division by zero", 0, sqlstate="22012"),
        entry("ERROR:  deadlock detected", 50, sqlstate="40P01"),
        entry("PANIC:  something nobody ever saw", 1),
        entry('ERROR:  could not extend file "base/1": No space left on device', 2, sqlstate="53100"),
        entry("LOG:  archive command failed with exit code 1", 3),
    )
    assert [(i.importance, i.kind) for i in found.incidents] == [
        *[("emergency", "no_space"), ("emergency", ""), ("problem", "archive_failed")],
        *[("warning", "deadlock"), ("warning", "division_by_zero")],
    ]
    unknown = found.incidents[1]
    assert unknown.title == "Not known to Atalaia: something nobody ever saw"
    assert not unknown.is_known


def test_unknown_messages_tell_their_sqlstate_class():
    found, _ = told(entry("ERROR:  cannot take logarithm of zero", sqlstate="2201E"), language="pt-BR")
    assert "exceção de dados" in found.unusual[0].cause


def test_a_flood_of_unknown_messages_is_merged():
    words = [a + b for a in "abcdefgh" for b in "ijklmnop"]
    found, _ = told(*(entry(f"ERROR:  odd {word}", n) for n, word in enumerate(words)))
    assert len(found.incidents) == 31
    assert any("34 further messages" in i.title for i in found.incidents)
    assert sum(i.count for i in found.incidents) == 64


def test_a_limit_is_honest():
    found, _ = told(*(entry("ERROR:  division by zero", n, sqlstate="22012") for n in range(30)), limit=10)
    assert found.read == 10
    assert found.incidents[0].first == NOON + 20 * SECOND
    assert any("only the newest 10 were read, back to 2024-08-08 12:00:20" in note for note in found.notes)


def test_only_what_is_needed_is_asked():
    _, logs = told(entry("ERROR:  division by zero", sqlstate="22012"), servers=("postgres_a", "postgres.b"))
    assert (
        logs.asked[0] == '{job="postgres", server=~"postgres_a|postgres\\\\.b", severity=~"ERROR|FATAL|PANIC|WARNING"}'
    )
    assert "invalid length of startup packet" in logs.asked[1]
    assert len(logs.asked) == 4


def test_control_characters_never_reach_a_terminal():
    found, _ = told(entry('ERROR:  column "\x1b[2J" does not exist', sqlstate="42703", application="\x1b]0;x\x07"))
    assert "\x1b" not in render_text(found)
    assert "\x07" not in render_text(found)


@pytest.mark.parametrize("language", ["en", "pt-BR"])
def test_json_is_json(language):
    found, _ = told(
        *(bad_start(5 * n) for n in range(6)), entry("LOG:  starting PostgreSQL 16.14", 1), language=language
    )
    again = json.loads(json.dumps(to_json(found)))
    assert again["incidents"][0]["pattern"]["period"] == pytest.approx(5)
    assert again["incidents"][0]["counts"]["remote_host"] == {"127.0.0.1": 6}
    assert again["incidents"][0]["suspects"][0]["client"] == "http_check"
    assert again["nothing_unusual"] is False
