import re
import tomllib
from dataclasses import replace
from importlib import resources
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.diagnosis.language import LANGUAGES
from atalaia.runbook.facts import BackupFacts, Commands, ServiceState, StoreFacts, Unknown
from atalaia.runbook.markdown import block, code, plain, prose, table
from atalaia.runbook.texts import texts
from atalaia.runbook.write import write

from .samples import NOON, SECOND, diagnosis, facts, service


def headings(document):
    outside = re.sub(r"(?ms)^(`{3,}).*?^\1$", "", document)
    return re.findall(r"(?m)^#+ (.*)$", outside)


def test_chapters_are_those_of_the_seed_in_its_order():
    assert headings(write(facts("pt-BR"), "pt-BR")) == [
        "Instrumentação do Ambiente",
        *["1. Configuração Inicial", "1.1. Servidores PostgreSQL", "1.2. Coleta de Logs (no lugar do Promtail)"],
        *["1.3. Armazenamento de Logs (no lugar do Loki)", "1.4. Como Replicar do Zero"],
        *["2. Procedimentos de Backup", "2.1. Backup do PostgreSQL", "2.2. Últimos Backups", "2.3. Restauração"],
        *["3. Resolução de Problemas", "3.1. Mensagens de Erro Observadas", "3.2. Solução de Problemas"],
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_fact_is_told(language):
    given_facts = facts(language)
    document = write(given_facts, language)
    wanted = ["loja", "0.1.0", "2024-08-08 12:00:00 UTC", "/var/log/*log", "http://127.0.0.1:3100", "30d", "10GiB"]
    wanted += ["[servers.postgres_a]\nversion = 16\n```", "pronto" if language == "pt-BR" else "ready"]
    wanted += [".atalaia/store", ".atalaia/backups", "`abababababab`", "2024-08-08 11:58:30 UTC", "`::1`", "5434"]
    for one in given_facts.services:
        wanted += [one.name, str(one.data_directory), str(one.log_directory)]
    for commands in (given_facts.commands.rebuild, given_facts.commands.restore, given_facts.commands.renew):
        wanted += commands
    wanted += [
        "LOG:  invalid length of startup packet",
        "pg_isready",
        "HTTP",
        'LOG:  listening on IPv4 address "127.0.0.1"',
    ]
    assert [value for value in wanted if value not in document] == []


def test_values_follow_the_language():
    english, portuguese = write(facts("en"), "en"), write(facts("pt-BR"), "pt-BR")
    assert "1,234,567" in english
    assert "12.5 s" in english
    assert "1.234.567" in portuguese
    assert "12,5 s" in portuguese
    assert "45,0 MB" in portuguese
    assert "ainda não verificado" in portuguese


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_left_open(language):
    document = write(facts(language), language)
    assert not re.search(r"\{[a-z_]+\}|None|Unknown|\(\)", re.sub(r"(?s)```.*?```", "", document))
    assert not re.search(r"\|[ \t]+\|", document), "an empty cell"
    assert not re.search(r"(?m)^- [^:]+:\s*$", document.replace("- `", "- x: `"))


def test_texts_are_complete_in_every_language():
    file = resources.files("atalaia.runbook").joinpath("texts.toml").read_text(encoding="utf-8")
    for key, translations in tomllib.loads(file).items():
        assert set(translations) == set(LANGUAGES), key
        assert all(text.strip() for text in translations.values()), key
        names = {frozenset(re.findall(r"\{(\w+)\}", texts(language)[key])) for language in LANGUAGES}
        assert len(names) == 1, key


ALL = ("backups", "diagnosis", "repository", "configuration")


@pytest.mark.parametrize("state", get_args(ServiceState))
def test_every_state_has_its_words(state):
    document = write(facts("pt-BR", services=(service("postgres_a", state=state),)), "pt-BR")
    assert f"| {state} |" not in document


def test_unknown_values_say_why():
    why = Unknown("the server is stopped")
    silent = service("postgres_a", state=why, version=why, addresses=why, port=why, settings=why, started=why)
    store = StoreFacts(why, why, why, why, why, why, why, why)
    document = write(facts("en", services=(silent,), store=store, targets=(), **dict.fromkeys(ALL, why)), "en")
    assert document.count("not known, because the server is stopped") == 5 + 2 + 8 + 1 + 1 + 2 + 1
    assert "no other file" in document


def test_no_backup_and_no_proof_are_said_loudly():
    empty = write(facts("en", backups=()), "en")
    assert "**There is no backup yet.**" in empty
    assert empty.count("has been proven to restore") == 2
    some = write(facts("en"), "en")
    assert "No backup of postgres_b has been proven" in some
    assert "No backup of postgres_a" not in some


def test_many_backups_are_cut_and_counted():
    many = tuple(BackupFacts(f"b{n}", "postgres_a", NOON + n * SECOND, 1, "verified", "ab", 1.0) for n in range(25))
    document = write(facts("en", backups=many), "en")
    assert "The newest 20 of 25 backups" in document
    assert "`b24`" in document
    assert "`b4`" not in document


def test_nothing_seen_is_said_with_what_was_looked_at():
    quiet = replace(diagnosis("en"), incidents=())
    document = write(facts("en", diagnosis=quiet), "en")
    assert "Nothing unusual." in document
    assert "There is nothing to solve." in document


def test_another_language_in_the_diagnosis_is_refused():
    with pytest.raises(ValueError, match="the diagnosis is in en"):
        write(facts("en"), "pt-BR")


EVIL = "LOG:  could not accept SSL connection: ```\n# Owned\n| a | b |\n<script>alert(1)</script> `x` \x1b[2J"


def test_log_lines_cannot_become_markup():
    document = write(facts("en", diagnosis=diagnosis("en", EVIL)), "en")
    assert "# Owned" in document
    assert "Owned" not in headings(document)
    assert "\x1b" not in document
    assert "````" in document


def test_names_cannot_break_a_table():
    row = BackupFacts("b|1`2\nx", "post|gres", NOON, 1, "failed", "a|b", 1.0)
    document = write(facts("en", backups=(row,)), "en")
    (line,) = [line for line in document.split("\n") if "post" in line and "failed" in line]
    assert len(re.findall(r"(?<!\\)\|", line)) == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Unknown(" "), "blank"),
        (lambda: service(""), "blank"),
        (lambda: service("a", version=""), "blank"),
        (lambda: service("a", settings=(("x", ""),)), "blank"),
        (lambda: service("a", started=("",)), "blank"),
        (lambda: service("a", port=70000), "not a port"),
        (lambda: BackupFacts("b", "s", NOON, -1, "failed", "x", 1.0), "negative"),
        (lambda: Commands((), ("a",), ("a",), ("a",), ("a",)), "rebuild is empty"),
        (lambda: facts("en", generated=0), "not a time"),
        (lambda: facts("en", services=()), "at least one"),
        (lambda: facts("en", services=(service("a"), service("a"))), "every service once"),
        (lambda: facts("en", targets=("",)), "blank"),
    ],
)
def test_blank_and_wrong_facts_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@given(st.text())
def test_any_text_stays_one_cell_and_any_block_stays_closed(text):
    line = table(["a", "b"], [[plain(text), code(text or "-")]]).split("\n")
    assert len(line) == 3
    assert len(re.findall(r"(?<!\\)(?:\\\\)*\|", line[2])) == 3
    fence, *inside, last = block([text]).split("\n")
    assert fence == last
    assert fence not in inside


def test_prose_keeps_its_code_and_nothing_else():
    assert plain("postgres_a _x_ a__b") == "postgres_a \\_x\\_ a\\_\\_b"
    assert prose("Use `a_b|c` and *not* <b>") == "Use `a_b|c` and \\*not\\* \\<b\\>"
    assert code("a``b`") == "``` a``b` ```"
