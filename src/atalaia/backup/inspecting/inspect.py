"""Inspects a file or a folder: what it is, what is in it, what is wrong with it, how it restores."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from atalaia.backup.inspecting import archives, commands, judge, recognise, repair, texts
from atalaia.backup.inspecting.findings import Contents, Effect, Finding, Report
from atalaia.backup.inspecting.source import Source
from atalaia.backup.inspecting.survey import Edit
from atalaia.backup.inspecting.texts import Text
from atalaia.backup.model import Progress, logfmt
from atalaia.environment.errors import InputError

_log = logging.getLogger("atalaia.backup")


@dataclass(frozen=True, slots=True)
class Inspected:
    """A report, and what can be done next. `text` gives the SQL text of the repaired dump, `copy` the repaired file.

    Both are None when nothing of it can be restored; `changes` says what the copy has changed.
    """

    report: Report
    text: Callable[[], Iterator[bytes]] | None = None
    copy: Callable[[], Iterator[bytes]] | None = None
    changes: tuple[str, ...] = ()
    wanted_roles: tuple[str, ...] = ()
    inserts: bool = False


def inspect(path: Path, progress: Progress) -> Inspected:
    """Inspect a dump. Raises InputError when there is no such file."""
    done = _folder(path, progress) if path.is_dir() else _file(path, progress)
    report = done.report
    _log.info(
        logfmt(
            "dump_inspected",
            path=report.path,
            verdict=report.verdict,
            form=report.form or "unknown",
            rows=report.contents.rows,
            findings=",".join(finding.code for finding in report.findings),
        )
    )
    return done


def write_repaired(inspected: Inspected, out: Path) -> int:
    """Write the repaired copy to a new file of mode 0600; its size in bytes.

    Raises InputError when nothing can be repaired, or `out` exists.
    """
    if inspected.copy is None:
        raise InputError(
            f"{inspected.report.path} cannot be repaired: it is {inspected.report.verdict}",
            "nothing was written; restore another dump",
        )
    size = repair.write(out, inspected.copy())
    _log.info(logfmt("dump_repaired", path=inspected.report.path, out=out, size=size))
    return size


def _file(path: Path, progress: Progress) -> Inspected:
    source = Source(path)
    head = source.head()
    form = recognise.form_of(head)
    empty = Report(str(path), form, "", source.compression, source.size, 0, "", "", Contents(), (), ())
    if form == "text":
        return _text(texts.inspect_text(source, progress), empty)
    if form:
        done = archives.inspect_file(source, form, head, progress)
        return _archive(done, empty, judge.of_file(path, source.mode, bool(done.secrets)))
    finding = recognise.other(head)
    if source.broken and not head:
        finding = Finding("compression", Effect.FATAL, f"it cannot be decompressed: {source.broken}", "copy it anew")
    return Inspected(replace(empty, findings=(finding, *judge.of_file(path, source.mode, False))))


def _text(text: Text, empty: Report) -> Inspected:
    survey = text.reader.survey
    findings = [*text.findings(), *judge.of_file(text.source.path, text.source.mode, bool(survey.secrets))]
    effect = max((finding.effect for finding in findings), default=Effect.NOTE)
    scope = survey.dumps[-1].scope if survey.dumps else "database"
    creates = scope == "database" and "-" not in survey.databases and bool(survey.databases)
    report = replace(
        empty,
        scope=scope,
        raw_size=text.reader.size,
        server_version=survey.server_version,
        client_version=survey.client_version,
        contents=texts.contents(text.reader),
        findings=tuple(_ordered(findings)),
        commands=commands.for_text(text.source.path, text.source.compression, scope, creates, effect),
    )
    several = len(survey.dumps) > 1 and any(dump.scope != "cluster" for dump in survey.dumps)
    if effect is Effect.FATAL or several:
        return Inspected(report)
    edits = text.edits()
    return Inspected(
        report,
        text.repaired,
        text.repaired,
        tuple(_changes(text, edits)),
        tuple(name for name in survey.wanted_roles if name not in survey.roles),
        survey.inserts,
    )


def _changes(text: Text, edits: list[Edit]) -> list[str]:
    said = []
    if text.normal.mark:
        said.append(f"{text.normal.mark} turned into UTF-8")
    if text.normal.stripped:
        what = f"one CR taken from each of {text.normal.stripped} line ends"
        said.append(what + (": CRs that were data cannot be told from others" if text.normal.bare else ""))
    if count := len(repair.cuts(text.reader)):
        said.append(f"{count} messages of standard error taken out")
    return said + repair.summary(edits)


def _folder(path: Path, progress: Progress) -> Inspected:
    empty = Report(str(path), "directory", "database", "", 0, 0, "", "", Contents(), (), ())
    if (path / "toc.dat").is_file():
        size = sum(file.stat().st_size for file in path.iterdir() if file.is_file())
        done = archives.inspect_folder(path, progress)
        mode = path.stat().st_mode & 0o777
        return _archive(done, replace(empty, size=size), judge.of_file(path, mode, bool(done.secrets)))
    if (path / "manifest.json").is_file():
        raise InputError(f"{path} is a backup of Atalaia's own", "`atalaia backup verify` proves it")
    if (path / "PG_VERSION").is_file() or (path / "backup_label").is_file():
        raise InputError(
            f"{path} is a server's data directory, not a dump",
            "pg_verifybackup checks a base backup that has a manifest",
        )
    raise InputError(
        f"{path} is a folder without toc.dat: no dump of pg_dump -Fd", "name the file of a dump, or such a folder"
    )


def _archive(done: archives.Archive, empty: Report, more: list[Finding]) -> Inspected:
    findings = [*done.findings, *more]
    effect = max((finding.effect for finding in findings), default=Effect.NOTE)
    report = replace(
        empty,
        scope="database",
        raw_size=done.raw_size,
        server_version=done.server_version,
        client_version=done.client_version,
        contents=done.contents,
        findings=tuple(_ordered(findings)),
        commands=commands.for_archive(Path(empty.path), effect),
    )
    if effect is Effect.FATAL:
        return Inspected(report)
    return Inspected(report, done.text, done.copy, done.changes, done.wanted_roles)


def _ordered(findings: list[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: -finding.effect)
