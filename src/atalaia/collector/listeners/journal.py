"""`journal`: systemd's journal, through `journalctl --follow`, from the entry behind the last one that was spooled.

Fields: systemd.journal-fields(7); JSON: "Journal JSON Format" of systemd's documentation.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pyarrow as pa

from atalaia.collector.entries import Entries, LabelValue
from atalaia.collector.listeners.given import constant_labels, seconds
from atalaia.collector.listeners.listener import Opener
from atalaia.collector.listeners.records import placed
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.meters import Meters
from atalaia.environment.errors import InputError
from atalaia.environment.yamlfile import Node, Reader

log = logging.getLogger("atalaia.collector")
SOURCE = "journal"
_PRIORITIES = ("emerg", "alert", "crit", "error", "warning", "notice", "info", "debug")
_MATCH = re.compile(r"[A-Z0-9_]+=.*", re.DOTALL)
_READ = 1 << 18
_DEFAULT_AGE = 7 * 3600.0
_AGAIN = 1.0  # seconds before journalctl is started again
_STAMP = re.compile(r"(?:^|;)t=([0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Settings:
    """Promtail's settings of the target. `max_age` in seconds; None: not given."""

    max_age: float | None = None
    path: Path | None = None
    json: bool = False
    matches: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: str | None = None


def build(reader: Reader, node: Node, job: str) -> Opener | None:
    """See listener.Builder."""
    given = reader.mapping(node, "journal", {"max_age", "path", "json", "matches", "labels"})
    path = reader.text(given.get("path"), "journal.path")
    age = seconds(reader, given.get("max_age"), "journal.max_age", _DEFAULT_AGE) if given.get("max_age") else None
    matches = tuple((reader.text(given.get("matches"), "journal.matches") or "").split())
    for one in matches:
        if not _MATCH.fullmatch(one):
            remedy = "write FIELD=VALUE, such as _SYSTEMD_UNIT=ssh.service; several are separated by blanks"
            reader.problem(given["matches"], f"job {job!r}: journal.matches has {one!r}", remedy)
    settings = Settings(
        age,
        Path(path) if path else None,
        reader.flag(given.get("json"), "journal.json"),
        matches,
        constant_labels(reader, given.get("labels"), "journal.labels"),
    )
    return lambda spool, meters: Journal(settings, spool, meters)


class Journal:
    """One thread that reads what journalctl prints. Each record carries its cursor."""

    def __init__(self, settings: Settings, spool: Spool, meters: Meters) -> None:
        self._settings, self._spool, self._meters = settings, spool, meters
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"journal {spool.job}", daemon=True)
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self._state = "waiting"

    def start(self) -> None:
        """See Listener."""
        if shutil.which("journalctl") is None:
            remedy = "collect on the host itself, or install systemd's journalctl where the collector runs"
            raise InputError(f"job {self._spool.job!r} reads the journal, and there is no journalctl here", remedy)
        if self._settings.path is not None and not self._settings.path.is_dir():
            what = f"job {self._spool.job!r}: journal.path {self._settings.path} is no folder"
            raise InputError(what, "give the folder that has the journal's files, such as /var/log/journal")
        self._thread.start()

    def stop(self) -> None:
        """See Listener."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                self._process.terminate()
        if self._thread.is_alive():
            self._thread.join()
        self._spool.sync()

    def targets(self) -> Sequence[Mapping[str, str]]:
        """See Listener."""
        place = {"__path__": str(self._settings.path)} if self._settings.path else {}
        return [{**self._settings.labels, **place, "state": self._state}]

    def command(self, now: float) -> list[str]:
        """How journalctl is called, `now` in seconds since 1970."""
        settings = self._settings
        words = ["journalctl", "--follow", "--no-tail", "--output=json", "--all", "--quiet", "--no-pager"]
        if settings.path is not None:
            words.append(f"--directory={settings.path}")
        if settings.namespace is not None:
            words.append(f"--namespace={settings.namespace}")
        cursor = self._spool.cursors.get(SOURCE)
        oldest = now - (settings.max_age if settings.max_age is not None else _DEFAULT_AGE)
        # A max_age that was written counts more than the place where we stood; its default does not.
        if cursor is not None and (settings.max_age is None or _moment(cursor) >= oldest):
            words.append(f"--after-cursor={cursor}")
        else:
            words.append(f"--since=@{oldest:.6f}")
        return [*words, *settings.matches]

    def _run(self) -> None:
        while not self._stopping.is_set():
            with self._lock:
                if self._stopping.is_set():
                    return
                self._process = subprocess.Popen(
                    self.command(time.time()), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
                )
            self._state = "following"
            errors = threading.Thread(target=self._tell_errors, args=(self._process,), daemon=True)
            errors.start()
            try:
                self._follow(self._process)
            finally:
                self._process.kill()
                status = self._process.wait()
                errors.join()
            self._state = "waiting"
            if not self._stopping.is_set():
                log.warning("event=journalctl_ended job=%r status=%d", self._spool.job, status)
                self._stopping.wait(_AGAIN)

    def _tell_errors(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as stream:
            for line in stream:
                log.warning(
                    "event=journalctl job=%r message=%r", self._spool.job, line.decode(errors="replace").strip()
                )

    def _follow(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        rest: list[bytes] = []
        with process.stdout as stream:
            while not self._stopping.is_set():
                data = stream.read1(_READ)  # type: ignore[attr-defined]  # a BufferedReader, says subprocess
                if not data:
                    return
                rest.append(data)
                if b"\n" not in data:
                    continue
                block = b"".join(rest)
                end = block.rfind(b"\n") + 1
                rest = [block[end:]]
                if not self._keep(block[:end]):
                    return

    def _keep(self, block: bytes) -> bool:
        found = [record for line in block.split(b"\n") if line and (record := self._record(line)) is not None]
        if not found:
            return True
        entries = Entries(
            pa.array([self._line(record) for record in found], pa.utf8()),
            pa.array([int(record["__REALTIME_TIMESTAMP"]) * 1000 for record in found]).to_numpy(),
            self._labels(found),
        )
        table = placed(pa.Table.from_batches([entries.record_batch()]), SOURCE, [r["__CURSOR"] for r in found])
        while not self._spool.append(table, patience=0.5):
            if self._stopping.is_set():
                return False
        self._meters.count("promtail_journal_target_lines_total", len(found))
        return True

    def _record(self, line: bytes) -> dict[str, str] | None:
        try:
            found = {key: _text(value) for key, value in orjson.loads(line).items() if value is not None}
            int(found["__REALTIME_TIMESTAMP"]), found["__CURSOR"]
        except (orjson.JSONDecodeError, AttributeError, KeyError, ValueError):
            self._meters.count("promtail_journal_target_parsing_errors_total", error="not_an_entry")
            return None
        if "MESSAGE" not in found and not self._settings.json:
            self._meters.count("promtail_journal_target_parsing_errors_total", error="no_message")
            return None
        return found

    def _line(self, record: Mapping[str, str]) -> str:
        if not self._settings.json:
            return record["MESSAGE"]
        # The addresses of an entry are no fields of it.
        fields = {key: value for key, value in record.items() if not key.startswith("__")}
        return orjson.dumps(fields, option=orjson.OPT_SORT_KEYS).decode()

    def _labels(self, found: list[dict[str, str]]) -> dict[str, LabelValue]:
        labels: dict[str, LabelValue] = {}
        for key in dict.fromkeys(key for record in found for key in record if not key.startswith("__")):
            name = f"__journal_{key.lower()}"
            values = [record.get(key) for record in found]
            if self._spool.reads(name):
                labels[name] = pa.array(values, pa.utf8())
            if key == "PRIORITY" and self._spool.reads(f"{name}_keyword"):
                labels[f"{name}_keyword"] = pa.array([_keyword(value) for value in values], pa.utf8())
        return {**labels, **self._settings.labels}


def _text(value: object) -> str:
    """A field's value: text, bytes that are not (a list of numbers), or the last of several."""
    if isinstance(value, list):
        if value and all(isinstance(one, int) for one in value):
            return bytes(value).decode("utf-8", "replace")
        return _text(value[-1]) if value else ""
    return str(value)


def _keyword(priority: str | None) -> str | None:
    if priority is not None and priority in "01234567" and len(priority) == 1:
        return _PRIORITIES[int(priority)]
    return priority


def _moment(cursor: str) -> float:
    """The time of a cursor's entry in seconds, which is one of its parts; 0 where it has none."""
    found = _STAMP.search(cursor)
    return int(found[1], 16) / 1e6 if found else 0.0
