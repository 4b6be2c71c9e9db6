"""Dumps of real servers, damaged as people damage them, inspected, repaired and restored."""

from __future__ import annotations

import contextlib
import gzip
import json
import lzma
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import backup_sample
import pytest
from logs_support import wait_for

from atalaia.backup.inspecting import inspect as inspecting
from atalaia.backup.inspecting import prove as proving
from atalaia.backup.inspecting.findings import Report
from atalaia.backup.inspecting.inspect import Inspected
from atalaia.backup.service import quiet
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, environment_variables
from atalaia.postgres.temporary import temporary
from atalaia.postgres.tools import variables
from conftest import end, free_port

NewServer = Callable[..., Cluster]


def command(cluster: Cluster, *arguments: str) -> list[str]:
    return [str(cluster.installation.program(arguments[0])), *arguments[1:]]


def environment(cluster: Cluster) -> dict[str, str]:
    return variables(environment_variables(cluster))


def dumped(cluster: Cluster, *arguments: str) -> bytes:
    done = subprocess.run(command(cluster, *arguments), env=environment(cluster), capture_output=True, check=True)
    return done.stdout


def through_terminal(cluster: Cluster, *arguments: str) -> bytes:
    """Both outputs through a terminal with its usual settings (onlcr), as `docker exec -t … > file` writes them."""
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command(cluster, *arguments), env=environment(cluster), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    parts = []
    with contextlib.suppress(OSError):  # EIO: the last writer has closed it
        while part := os.read(ours, 65536):
            parts.append(part)
    os.close(ours)
    assert process.wait() == 0
    return b"".join(parts)


def inspected(path: Path, data: bytes) -> Inspected:
    path.write_bytes(data)
    return inspecting.inspect(path, quiet)


def codes(report: Report) -> set[str]:
    return {finding.code for finding in report.findings}


def repaired(one: Inspected) -> bytes:
    assert one.copy
    return b"".join(one.copy())


def without_tokens(text: bytes) -> bytes:
    r"""A dump without the random words of \restrict and without times."""
    return re.sub(rb"(?m)^(?:\\(?:un)?restrict|-- (?:Started|Completed) on) .*$", b"", text)


@pytest.mark.parametrize("major", [15, 16, 18])
def test_the_seeds_command_repaired_restores_everything(new_server: NewServer, folder: Path, major: int) -> None:
    server = new_server(major=major)
    if major == 15:  # the system's has no extension vector, which the sample needs last
        fill_without_vector(server)
    else:
        backup_sample.fill(server, 100)
    before = backup_sample.everything(server)
    path = folder / "dump_08-08-2024_23_11_43.sql"
    one = inspected(path, through_terminal(server, "pg_dumpall", "-c", "-v"))
    assert one.report.verdict == "restorable after repair"
    assert {"crlf", "stray", "drops", "secrets", "mode", "name"} <= codes(one.report)
    assert one.report.server_version.startswith(f"{major}.")
    out = folder / "repaired.sql"
    inspecting.write_repaired(one, out)
    again = inspecting.inspect(out, quiet)
    assert again.report.restorable
    assert {"secrets"} <= codes(again.report) <= {"secrets", "restrict", "extensions"}
    (folder / "new").mkdir(mode=0o711)
    (folder / "new").chmod(0o711)
    with temporary(server.installation, server.account, folder / "new") as cluster:
        done = subprocess.run(
            [*command(cluster, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", out],
            env=environment(cluster), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert backup_sample.everything(cluster) == before


def fill_without_vector(server: Cluster) -> None:
    kept = [statement for statement in backup_sample._OBJECTS if "vector" not in statement]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backup_sample, "_OBJECTS", kept)
        backup_sample.fill(server, 100)


@pytest.fixture(scope="module")
def filled(pristine: Callable[[int], Cluster], open_folder: Path) -> Iterator[Cluster]:
    """One server for all tests of this module, none of which changes its databases."""
    original = pristine(16)
    with tempfile.TemporaryDirectory(dir=open_folder) as name:
        folder = Path(name)
        folder.chmod(0o711)
        subprocess.run(["cp", "-a", original.directory, folder / "filled"], check=True)
        shutil.copy(original.password_file, folder / "password")
        cluster = replace(
            original, name="filled", directory=folder / "filled", port=free_port(), password_file=folder / "password"
        )
        try:
            control.wait_ready(cluster, control.start(cluster))
            backup_sample.fill(cluster, 300)
            yield cluster
        finally:
            end(cluster)


def test_messages_in_a_file_do_not_change_what_comes_out(filled: Cluster, folder: Path) -> None:
    """`> file 2>&1`: standard output by blocks of 4096 bytes, messages between them, anywhere in a line."""
    expected = dumped(filled, "pg_dump", "-v", "Upper")
    path = folder / "dump.sql"
    with open(path, "wb") as file:
        subprocess.run(
            command(filled, "pg_dump", "-v", "Upper"), env=environment(filled), stdout=file, stderr=file, check=True
        )
    one = inspecting.inspect(path, quiet)
    assert "stray" in codes(one.report)
    assert without_tokens(repaired(one)) == without_tokens(expected)
    assert proving.prove(one, quiet).problem == ""


def test_archives_through_a_terminal_come_back_byte_by_byte(filled: Cluster, folder: Path) -> None:
    for flags in (("-Fc",), ("-Fc", "-Z0"), ("-Ft",)):
        damaged = through_terminal(filled, "pg_dump", *flags, "Upper")
        one = inspected(folder / "dump", damaged)
        assert one.report.verdict == "restorable after repair", one.report.findings
        assert "crlf" in codes(one.report)
        assert repaired(one) == damaged.replace(b"\r\n", b"\n")
        assert one.report.contents.rows > 600
    assert proving.prove(one, quiet).problem == ""


def test_messages_in_an_archive_are_taken_out(filled: Cluster, folder: Path) -> None:
    whole = dumped(filled, "pg_dump", "-Fc", "Upper")
    said = b"pg_dump: warning: there are circular foreign-key constraints on this table:\npg_dump: detail: items\n"
    middle = len(whole) // 2
    for data in (said + whole, (said + whole).replace(b"\n", b"\r\n"), whole[:middle] + said + whole[middle:]):
        one = inspected(folder / "dump", data)
        assert "stray" in codes(one.report)
        assert repaired(one) == whole
        assert "repair-verified" in codes(one.report)


def test_whole_archives_are_restorable_and_cut_ones_are_not(filled: Cluster, folder: Path) -> None:
    whole = dumped(filled, "pg_dump", "-Fc", "Upper")
    one = inspected(folder / "dump", whole)
    assert one.report.restorable
    assert one.report.form == "custom"
    for share in (0.02, 0.3, 0.6, 0.95):
        assert not inspected(folder / "dump", whole[: int(len(whole) * share)]).report.restorable
    packed = inspected(folder / "dump.gz", gzip.compress(whole))
    assert packed.report.verdict == "restorable after repair"
    assert repaired(packed) == whole
    directory = folder / "directory"
    subprocess.run(
        command(filled, "pg_dump", "-Fd", f"--file={directory}", "Upper"), env=environment(filled), check=True
    )
    one = inspecting.inspect(directory, quiet)
    assert (one.report.form, one.report.restorable) == ("directory", True)
    assert proving.prove(one, quiet).problem == ""
    max(directory.glob("[0-9]*.dat.gz"), key=lambda path: path.stat().st_size).unlink()
    one = inspecting.inspect(directory, quiet)
    assert not one.report.restorable
    assert "missing-files" in codes(one.report)
    assert any("TABLE DATA shop items" in finding.what for finding in one.report.findings)


def test_an_archive_that_no_pg_restore_here_reads_is_not_called_restorable(filled: Cluster, folder: Path) -> None:
    whole = dumped(filled, "pg_dump", "-Fc", "Upper")
    report = inspected(folder / "dump", whole[:6] + b"\x63" + whole[7:]).report  # of the archive format 1.99
    assert not report.restorable
    assert report.verdict.startswith("not read here")
    assert "unread" in codes(report)
    assert "unsupported version (1.99)" in next(one.what for one in report.findings if one.code == "unread")
    assert not any("repaired" in line for line in report.commands)


def test_compressed_texts_whole_and_cut_off(filled: Cluster, folder: Path) -> None:
    text = dumped(filled, "pg_dump", "--inserts", "-c", "--if-exists", "Upper")
    zstd = subprocess.run(["zstd", "-q"], input=text, capture_output=True, check=True).stdout
    for ending, data in (("gz", gzip.compress(text)), ("xz", lzma.compress(text)), ("zst", zstd)):
        one = inspected(folder / f"dump.sql.{ending}", data)
        assert one.report.verdict == "restorable after repair"  # it drops
        assert one.report.compression == ending
        assert one.report.contents.rows > 600
        cut = inspected(folder / f"cut.sql.{ending}", data[: len(data) // 2])
        assert "compression" in codes(cut.report), ending
        # What zstd gives of a half is nothing when all of it is one block.
        assert cut.report.verdict == "restorable in part" if "cut-off" in codes(cut.report) else "not restorable"
    assert proving.prove(one, quiet).problem == ""


def test_a_dump_whose_server_died_is_restorable_in_part(filled: Cluster, folder: Path) -> None:
    with connect(filled, autocommit=True) as connection:
        connection.execute("CREATE DATABASE dying")
    with connect(filled, "dying", autocommit=True) as connection:
        connection.execute("CREATE TABLE here AS SELECT 1 AS a")
        connection.execute("CREATE TABLE zz_large AS SELECT i, repeat('x', 500) AS t FROM generate_series(1, 100000) i")
    ours, theirs = os.openpty()
    process = subprocess.Popen(
        command(filled, "pg_dump", "dying"), env=environment(filled), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    parts: list[bytes] = []
    ended = threading.Event()

    def read() -> None:
        with contextlib.suppress(OSError):
            while part := os.read(ours, 65536):
                parts.append(part)
                if sum(map(len, parts)) > 10_000_000 and not ended.is_set():
                    ended.set()
                    with connect(filled, autocommit=True) as connection:
                        connection.execute(
                            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pg_dump'"
                        )

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(60)
    os.close(ours)
    assert process.wait() == 1
    one = inspected(folder / "dump.sql", b"".join(parts))
    assert one.report.verdict == "restorable in part"
    assert {"crlf", "stray", "dump-error", "cut-off"} <= codes(one.report)
    kept = {table.name: table.rows for table in one.report.contents.tables}
    assert kept["public.here"] == 1
    assert 0 < kept["public.zz_large"] < 100_000
    out = folder / "repaired.sql"
    inspecting.write_repaired(one, out)
    with connect(filled, autocommit=True) as connection:
        connection.execute("CREATE DATABASE part TEMPLATE template0")
    done = subprocess.run(
        [*command(filled, "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", "part", "-f", out],
        env=environment(filled), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with connect(filled, "part") as connection:
        row = connection.execute("SELECT count(*) FROM zz_large").fetchone()
    assert row == (kept["public.zz_large"],)
    with connect(filled, autocommit=True) as connection:
        connection.execute("DROP DATABASE dying")
        connection.execute("DROP DATABASE part")


def test_powershell_wrote_it(filled: Cluster, folder: Path) -> None:
    """`pg_dump … > file` in PowerShell 5: bytes read in the console's code page, written as UTF-16 with CRLF."""
    text = dumped(filled, "pg_dump", "--schema=public", "café ☕")
    misread = text.decode("cp850").replace("\n", "\r\n").encode("utf-16")
    one = inspected(folder / "dump.sql", misread)
    assert one.report.verdict == "restorable after repair"
    assert {"utf-16", "code-page", "crlf"} <= codes(one.report)
    assert repaired(one) == text.replace(b"CREATE SCHEMA public;", b"CREATE SCHEMA IF NOT EXISTS public;")


def test_the_command(filled: Cluster, folder: Path) -> None:
    path = folder / "dump.sql"
    path.write_bytes(through_terminal(filled, "pg_dumpall", "-c"))
    out = folder / "repaired.sql"
    atalaia = [sys.executable, "-m", "atalaia", "backup", "inspect"]
    done = subprocess.run([*atalaia, path], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 1
    assert "restorable after repair" in done.stdout
    assert "DROPS the databases" in done.stdout
    done = subprocess.run(
        [*atalaia, path, "--repair", out, "--prove", "--json"], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["proof"]["passed"]
    assert said["proof"]["rows"] == said["rows"]
    assert said["repaired"]["size"] == out.stat().st_size
    done = subprocess.run([*atalaia, path, "--repair", out], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 2
    assert "exists already" in done.stderr
    done = subprocess.run([*atalaia, "missing.sql"], capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 2
    assert "cannot be read" in done.stderr


def test_what_a_killed_proof_leaves_is_removed_by_the_next(filled: Cluster, folder: Path) -> None:
    path = folder / "dump"
    path.write_bytes(dumped(filled, "pg_dump", "-Fc", "Upper"))
    (temp := folder / "tmp").mkdir(mode=0o711)
    folder.chmod(0o711)  # the servers' account passes through it
    prove = [sys.executable, "-m", "atalaia", "backup", "inspect", path, "--prove"]
    process = subprocess.Popen(prove, env=os.environ | {"TMPDIR": str(temp)}, stdout=subprocess.DEVNULL, cwd=folder)
    try:
        wait_for(lambda: list(temp.glob("atalaia-prove-*/server-*/**/postmaster.pid")), what="its server")
    finally:
        process.kill()
        process.wait()
    assert list(temp.glob("atalaia-prove-*"))
    subprocess.run(prove, env=os.environ | {"TMPDIR": str(temp)}, stdout=subprocess.DEVNULL, cwd=folder, check=True)
    assert not list(temp.glob("atalaia-prove-*"))
