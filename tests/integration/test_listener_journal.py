"""The journal, by a real systemd-journald of its own (a namespace), where one can be started."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.integration.listeners_support import Opened, opened, opener_of, shown, wait_until

from atalaia.collector.listeners.journal import Journal, Settings
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.meters import Meters
from atalaia.environment.errors import InputError

JOURNALD = Path("/usr/lib/systemd/systemd-journald")


@dataclass
class Namespace:
    name: str
    directory: Path

    def send(self, **fields: str | bytes) -> None:
        """One entry, in journald's own protocol: a field that has newlines carries its length."""
        data = b""
        for name, value in fields.items():
            raw = value if isinstance(value, bytes) else value.encode()
            data += name.encode() + b"\n" + len(raw).to_bytes(8, "little") + raw + b"\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(data, f"/run/systemd/journal.{self.name}/socket")


@pytest.fixture(scope="module")
def journal() -> Iterator[Namespace]:
    machine = Path("/etc/machine-id")
    if os.getuid() or not JOURNALD.exists() or not machine.exists() or shutil.which("journalctl") is None:
        pytest.skip("a journald of our own needs root, systemd's programs and a machine id")
    name = f"atalaia{secrets.token_hex(4)}"
    directory = Path("/var/log/journal") / f"{machine.read_text().strip()}.{name}"
    daemon = subprocess.Popen([JOURNALD, name], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: Path(f"/run/systemd/journal.{name}/socket").exists() or daemon.poll() is not None)
        if daemon.poll() is not None:
            pytest.skip("systemd-journald does not start here")
        found = Namespace(name, directory)
        found.send(MESSAGE="first", PRIORITY="6")
        subprocess.run(["journalctl", f"--namespace={name}", "--sync"], check=False, timeout=20, capture_output=True)
        if not list(directory.glob("*.journal")):
            pytest.skip("systemd-journald keeps no files here")
        yield found
    finally:
        daemon.terminate()
        daemon.wait(10)
        shutil.rmtree(directory, ignore_errors=True)
        shutil.rmtree(f"/run/systemd/journal.{name}", ignore_errors=True)


def text_of(journal: Namespace, *more: str) -> str:
    return "\n".join([f"path: {journal.directory}", *more])


def test_entries_come_with_their_fields_as_labels_and_each_once(journal: Namespace, tmp_path: Path) -> None:
    relabel = shown(
        "__journal_syslog_identifier=tag", "__journal_priority_keyword=level", "__journal__transport=transport"
    )
    mine = f"MARK={secrets.token_hex(4)}"
    text = text_of(journal, f"matches: {mine}", "labels: {job: systemd}")
    field, _, value = mine.partition("=")
    with opened(tmp_path, "journal", text, relabel) as found:
        journal.send(**{field: value}, MESSAGE="one", PRIORITY="3", SYSLOG_IDENTIFIER="me")
        journal.send(**{field: value}, MESSAGE="two\nlines \xff".encode("latin-1"), PRIORITY="6")
        journal.send(MESSAGE="of others")
        journal.send(**{field: value}, NOTE="no message")
        assert found.wait_for(2) == ["one", "two\nlines \ufffd"]
        assert found.labels() == [
            {"job": "systemd", "tag": "me", "level": "error", "transport": "journal"},
            {"job": "systemd", "level": "info", "transport": "journal"},
        ]
        assert found.counted("promtail_journal_target_lines_total") == 2
        wait_until(lambda: found.counted("promtail_journal_target_parsing_errors_total", error="no_message") == 1)
    # While nobody listens the journal goes on; what is read already does not come again.
    for number in range(50):
        journal.send(**{field: value}, MESSAGE=f"meanwhile {number}")
    with opened(tmp_path, "journal", text, relabel) as found:
        lines = found.wait_for(52)
        assert lines[2:] == [f"meanwhile {number}" for number in range(50)]
        journal.send(**{field: value}, MESSAGE="last")
        assert found.wait_for(53)[-1] == "last"


def test_json_has_all_fields_and_long_ones_whole(journal: Namespace, tmp_path: Path) -> None:
    long = "x" * 20_000
    with opened(tmp_path, "journal", text_of(journal, "json: true", "matches: KIND=long")) as found:
        journal.send(KIND="long", MESSAGE=long, PRIORITY="6")
        (line,) = found.wait_for(1)
    fields = json.loads(line)
    assert (fields["MESSAGE"], fields["KIND"], fields["PRIORITY"]) == (long, "long", "6")
    assert not any(name.startswith("__") for name in fields)


def test_an_ended_journalctl_is_started_again(
    journal: Namespace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with opened(tmp_path, "journal", text_of(journal, "matches: KIND=again")) as found:
        journal.send(KIND="again", MESSAGE="before")
        found.wait_for(1)
        found.listener._process.kill()
        journal.send(KIND="again", MESSAGE="after")
        assert found.wait_for(2) == ["before", "after"]
    assert "journalctl_ended" in caplog.text


def test_max_age_counts_from_now_and_more_than_an_older_place(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "j")
    old = "s=1;i=2;b=3;m=4;t=60e766510d7c;x=5"  # 2003, by its microseconds
    now = 1795305600.0
    plain = Journal(Settings(), spool, Meters())
    asked = Journal(Settings(max_age=60.0, path=tmp_path, matches=("A=b",)), spool, Meters())
    assert plain.command(now)[-1] == f"--since=@{now - 7 * 3600:.6f}"
    spool.cursors["journal"] = old
    assert plain.command(now)[-1] == f"--after-cursor={old}"
    assert asked.command(now)[-3:] == [f"--directory={tmp_path}", f"--since=@{now - 60:.6f}", "A=b"]
    spool.close()


def test_what_cannot_work_is_refused_before_anything_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, reader = opener_of("journal", "{matches: 'unit ssh', nonsense: 1}")
    assert [problem.line for problem in reader.problems] == [1, 1, 1]
    with pytest.raises(InputError, match="is no folder"):
        Opened(tmp_path / "1", "journal", f"path: {tmp_path}/nowhere")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="no journalctl here"):
        Opened(tmp_path / "2", "journal", "{}")
