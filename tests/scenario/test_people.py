"""What people read: the diagnosis of the seed's error, and a document that agrees with what runs."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.scenario.support import Home, wait_for
from tests.scenario.workload import http_request, wrong_password

SERVERS = ("postgres_a", "postgres_b")


def test_diagnose_names_an_http_client(environment: Home) -> None:
    environment.run("up")
    assert "127.0.0.1" not in environment.run("diagnose").stdout.split("Normal or secondary")[0]
    http_request(environment.ports()["postgres_a"])
    wait_for(lambda: bool(environment.stored('{server="postgres_a"} |= "invalid length"')), "the message is stored")
    said = environment.run("diagnose").stdout
    assert "127.0.0.1" in said
    assert "HTTP" in said
    assert "pg_isready" in said
    assert "invalid length of startup packet" in said
    portuguese = environment.run("diagnose", "postgres_a", "--language", "pt-BR").stdout
    assert "127.0.0.1" in portuguese
    assert "HTTP" in portuguese
    data = json.loads(environment.run("diagnose", "--json").stdout)
    assert any(i["server"] == "postgres_a" and i["count"] == 1 for i in data["incidents"])


def _cells(document: str, first: str) -> list[str]:
    row = next(line for line in document.splitlines() if line.startswith(f"| `{first}` |"))
    return [cell.strip().strip("`") for cell in row.strip("|").split("|")]


def test_the_runbook_agrees_with_what_runs(environment: Home) -> None:
    (environment.folder / "atalaia.toml").write_text(
        '[servers.postgres_a]\nversion = 16\nsettings = { work_mem = "13MB" }\n[servers.postgres_b]\nversion = 16\n'
        '[collection]\ntargets = ["varlog/*log"]\n[logs]\nretention_age = "45d"\n'
    )
    environment.run("up")
    environment.run("backup", "now", "postgres_b")
    backup = json.loads(environment.run("backup", "list", "--json").stdout)[0]
    http_request(environment.ports()["postgres_b"])
    wrong_password(environment, "postgres_a")
    wait_for(
        lambda: len(environment.stored('{job="postgres"} |~ "invalid length|password auth"')) == 2, "both are stored"
    )
    services = {s["name"]: s for s in environment.status()["services"]}
    for language in ("pt-BR", "en"):
        document = environment.run("runbook", "--language", language).stdout
        assert not re.search(r"\bNone\b|Unknown\(|\{\w+\}|\| +\|", document)
        for server in SERVERS:
            with environment.connect(server) as connection:

                def shown(name: str, connection=connection) -> str:  # type: ignore[no-untyped-def]
                    return str(connection.execute(f"SHOW {name}").fetchone()[0])

                cells = _cells(document, server)
                assert cells[3] == shown("server_version").split()[0]
                assert cells[4] == shown("port") == str(environment.ports()[server])
                assert {cells[5], cells[6]} == set(shown("listen_addresses").split(","))
                data = shown("data_directory")
                assert Path(data) == (environment.folder / f".atalaia/servers/{server}/data").resolve()
                assert f"`.atalaia/servers/{server}/data`" in document
                assert Path(shown("log_directory")) == (environment.folder / f".atalaia/servers/{server}/log").resolve()
                assert f"`.atalaia/servers/{server}/log`" in document
                if server == "postgres_a":
                    assert shown("work_mem") == "13MB"
        assert "work_mem" in document
        assert "13MB" in document
        assert _cells(document, "store")[4] == str(environment.ports()["store"])
        assert f"http://127.0.0.1:{environment.ports()['store']}" in document
        assert "45d" in document
        assert "10GiB" in document
        assert services["store"]["version"] == _cells(document, "store")[3]
        row = next(line for line in document.splitlines() if backup["id"] in line and line.startswith("|"))
        assert "postgres_b" in row
        assert backup["sha256"][:8] in row
        assert backup["state"] == "verified"
        assert re.search(r"\*\*?verified|verified|verificado", row)
        assert (environment.folder / ".atalaia/backups" / backup["folder"] / "manifest.json").is_file()
        assert "`.atalaia/backups`" in document
        assert "`varlog/*log`" in document
        # The excerpts are lines that are really stored.
        assert "invalid length of startup packet" in document
        assert 'password authentication failed for user "postgres"' in document
        written = {line for e in environment.stored('{job=~"postgres|atalaia"}') for line in e.line.split("\n")}
        blocks = re.findall(r"```\n(.*?)```", document, re.S)
        lines = [line for block in blocks for line in block.splitlines() if re.match(r"(LOG|FATAL|ERROR):|ts=", line)]
        assert len(lines) >= 8
        assert all(line in written for line in lines)
        text = (environment.folder / "atalaia.toml").read_text()
        assert text in document
