"""Wrong commands, keys, values, ports, passwords and queries: one clear message, exit code 2, no traceback."""

from __future__ import annotations

import os
import socket
from collections import Counter
from pathlib import Path

import pytest

from tests.scenario.support import Home, wait_for

COMMANDS = (
    (["frobnicate"], "frobnicate"),
    (["up", "--nonsense"], "--nonsense"),
    (["logs", "nobody"], "nobody"),
    (["psql", "nobody"], "nobody"),
    (["query", "{job="], "line 1, col 6"),
    (["query", '{job="x"} | nonsense_stage("'], "line 1"),
    (["query", '{job="x"}', "--since", "yesterday"], "--since"),
    (["query", '{job="x"}', "--from", "noon"], "--from"),
    (["query", '{job="x"}', "--url", "loki"], "--url"),
    (["backup", "now", "nobody"], "nobody"),
    (["backup", "frobnicate"], "frobnicate"),
    (["serve"], "--data"),
    (["serve", "--data", "d", "--listen", "nowhere:http"], "--listen"),
    (["serve", "--data", "d", "--listen", "0.0.0.0:3100"], "others can reach the store"),
    (["serve", "--data", "d", "--retention-age", "soon"], "soon"),
    (["collect"], "--config"),
    (["collect", "--config", "nothing.yaml"], "nothing.yaml"),
    (["up", "--file", "nothing.toml"], "nothing.toml"),
    (["diagnose", "--language", "tlh"], "tlh"),
    (["runbook"], "never started"),
    (["logs"], "never started"),
    (["psql", "postgres_a"], "never started"),
)


@pytest.mark.parametrize(("arguments", "names"), COMMANDS, ids=lambda v: " ".join(v) if isinstance(v, list) else "")
def test_wrong_commands(arguments: list[str], names: str, tmp_path: Path) -> None:
    made = Home(tmp_path)
    done = made.run(*arguments, code=2)
    assert names in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 6


def test_a_wrong_file_is_told_whole_and_nothing_starts(environment: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        (environment.folder / "atalaia.toml").write_text(
            '[servers.postgres_a]\nversion = "16"\nport = 99999\n[servers.Bad-Name]\n[loggs]\n[logs]\nport = true\n'
            '[runtime]\nkind = "docker"\n[servers.postgres_a.settings]\nlog_destination = "syslog"\n'
        )
        said = environment.run("up", code=2).stderr
        for where in (":2:", ":3:", ":5:", ":7:", ":9:", "log_destination", "loggs", "99999"):
            assert where in said, said
        port = taken.getsockname()[1]
        (environment.folder / "atalaia.toml").write_text(
            f"[servers.postgres_a]\nport = {port}\n[servers.postgres_b]\nport = {port}\n"
        )
        said = environment.run("up", code=2).stderr
        assert ":2:" in said
        assert ":4:" in said
        assert f"port {port}" in said
        assert "taken" in said
    assert not (environment.state / "servers").exists() or not list((environment.state / "servers").glob("*/data"))
    assert environment.status()["services"] == [] or all(s["pid"] is None for s in environment.status()["services"])


def test_a_wrong_password_is_told(environment: Home) -> None:
    environment.run("up")
    secret = environment.state / "secrets" / "postgres_a.password"
    right = secret.read_text()
    secret.write_text("wrong\n")
    for command in (["backup", "now", "postgres_a"], ["psql", "postgres_a", "-c", "SELECT 1"]):
        done = environment.run(*command, code=2)
        assert "password" in done.stderr
    environment.run("down")
    done = environment.run("up", code=2)
    assert "postgres_a" in done.stderr
    assert "password" in done.stderr
    assert environment.service("postgres_a")["state"] == "failed"
    assert environment.service("postgres_b")["state"] == "ready"
    secret.write_text(right)
    environment.run("up")
    assert environment.service("postgres_a")["state"] == "ready"
    environment.run("down")
    assert not (environment.state / "servers/postgres_a/data/postmaster.pid").exists()


def test_a_half_initialised_server_is_told_and_the_others_run(environment: Home) -> None:
    environment.run("up")
    environment.run("down")
    data = environment.state / "servers" / "postgres_b" / "data"
    (data / "PG_VERSION").unlink()
    done = environment.run("up", code=None)
    assert done.returncode in (1, 2)
    assert "postgres_b" in done.stderr
    assert str(data.resolve()) in done.stderr
    assert environment.service("postgres_a")["state"] == "ready"
    assert list(data.iterdir()), "what is there was not touched"


def test_odd_files_harm_nothing(environment: Home) -> None:
    """A line of 50 MB, NUL bytes, invalid UTF-8, a binary lastlog, an unreadable file: each is told once."""
    varlog = environment.varlog
    (varlog / "lastlog").write_bytes(bytes(300_000))
    (varlog / "nul.log").write_bytes(b"before\nwith \0 inside\nafter\n")
    (varlog / "latin.log").write_bytes("caf\xe9 1\n".encode("latin-1") + b"fine 2\n")
    with (varlog / "long.log").open("wb") as file:
        file.write(b"first\n" + b"x" * 50_000_000 + b"\nlast\n")
    os.symlink("/nowhere/at/all", varlog / "dangling.log")
    (varlog / "folder.log").mkdir()
    with (varlog / "plain.log").open("w") as file:
        file.writelines(f"plain {n}\n" for n in range(1000))
    environment.run("up")

    def lines(name: str) -> list[str]:
        return [e.line for e in environment.stored(f'{{filename="{varlog / name}"}}')]

    wait_for(lambda: len(lines("plain.log")) == 1000 and len(lines("long.log")) == 3, "all files are stored", 90)
    assert Counter(lines("plain.log")) == Counter(f"plain {n}" for n in range(1000))
    assert lines("nul.log") == ["before", "with \0 inside", "after"]
    assert lines("latin.log") == ["caf\ufffd 1", "fine 2"]
    first, cut, last = lines("long.log")
    assert (first, last) == ("first", "last")
    assert cut.startswith("xxxx")
    assert "50000000 bytes" in cut
    assert lines("lastlog") == []
    own = (environment.state / "log" / "collector.log").read_text()
    assert own.count("event=file_binary") == 1
    assert own.count("event=line_cut") + own.count("event=file_line_cut") == 1
    assert own.count("event=file_not_utf8") == 1
    environment.run("down")
    environment.run("up")
    wait_for(
        lambda: bool(environment.stored('{job="atalaia", service="collector"} |= "file_line_cut"')),
        "own logs are stored",
    )
    assert len(lines("long.log")) == 3
