"""Inspects archives of pg_dump through the SQL text that pg_restore makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from atalaia.backup.inspecting import archive, judge, texts
from atalaia.backup.inspecting.archive import Damage, Unable
from atalaia.backup.inspecting.findings import Contents, Effect, Finding, listed
from atalaia.backup.inspecting.source import Source
from atalaia.backup.inspecting.text import TextReader
from atalaia.backup.model import Progress
from atalaia.postgres.binaries import Installation


@dataclass(frozen=True, slots=True)
class Archive:
    """An archive that was read to its end. `copy` gives the repaired archive, None when it is as pg_dump wrote it."""

    server_version: str
    client_version: str
    raw_size: int
    contents: Contents
    findings: tuple[Finding, ...]
    secrets: bool
    text: Callable[[], Iterator[bytes]] | None
    copy: Callable[[], Iterator[bytes]] | None
    changes: tuple[str, ...]
    wanted_roles: tuple[str, ...]


def inspect_folder(path: Path, progress: Progress) -> Archive:
    """Inspect the folder of a pg_dump -Fd."""
    versions = archive.versions(archive.header(path, "directory", b""))
    return _inspect(path, versions, None, None, [], progress)


def inspect_file(source: Source, form: str, head: bytes, progress: Progress) -> Archive:
    """Inspect the file of a pg_dump -Fc or -Ft."""
    damage = archive.examine(source)
    findings = list(_of_damage(damage))
    if source.broken:
        what = f"its compressed stream is cut off or damaged: {source.broken}"
        findings.append(Finding("compression", Effect.PARTIAL, what, "copy it anew from where it came"))
    elif source.compression:
        what = f"the archive is compressed once more ({source.compression}): pg_restore reads what it holds"
        findings.append(Finding("compressed-archive", Effect.REPAIR, what, "decompress it, or `--repair OUT` does"))
    first = head.replace(b"\r\n", b"\n") if damage.terminal else head
    versions = archive.versions(archive.header(source.path, form, first[damage.head :]))

    def repaired() -> Iterator[bytes]:
        return archive.repaired(source, damage) if damage.repairable else source.blocks()

    copy = repaired if damage.repairable or source.compression else None
    return _inspect(source.path, versions, copy, damage, findings, progress)


def _inspect(
    path: Path,
    versions: tuple[str, str],
    copy: Callable[[], Iterator[bytes]] | None,
    damage: Damage | None,
    findings: list[Finding],
    progress: Progress,
) -> Archive:
    unable = "no PostgreSQL installation was found"
    for installation in archive.installations(versions[1]):
        progress(f"reading {path} with pg_restore {installation.version}")
        try:
            reader, problem = _read(installation, path, copy)
        except Unable as error:
            unable = error.what
            continue
        ending = reader.finish()
        survey = reader.survey
        if problem:
            findings += _of_problem(problem, reader, damage)
        elif not ending.whole:
            findings.append(Finding("cut-off", Effect.PARTIAL, f"its text ends {ending.where}", "restore another"))
        if path.is_dir() and (lacking := archive.missing(path, installation)):
            what = f"{len(lacking)} of its files are missing: {listed(lacking)}"
            findings.append(Finding("missing-files", Effect.PARTIAL, what, "copy the folder anew from where it came"))
        shown = [finding for finding in judge.of_statements(survey, "archive") if finding.code != "restrict"]
        findings += [*shown, *texts.of_encoding(reader), *texts.of_roles(reader)]
        if not problem and damage and damage.repairable:
            findings.append(
                Finding(
                    "repair-verified",
                    Effect.NOTE,
                    "pg_restore reads the repaired archive to its end, checksums of compressed data included",
                )
            )
        return Archive(
            survey.server_version or versions[0],
            survey.client_version or versions[1],
            reader.size,
            texts.contents(reader),
            tuple(findings),
            bool(survey.secrets),
            partial(_text, installation, path, copy),
            copy,
            tuple(_changes(damage, copy)),
            tuple(survey.wanted_roles),
        )
    what = f"what is in it could not be read here: {unable}"
    findings.append(
        Finding("unread", Effect.UNKNOWN, what, "install the PostgreSQL version that made it, and try again")
    )
    return Archive(
        versions[0], versions[1], 0, Contents(), tuple(findings), False, None, copy, tuple(_changes(damage, copy)), ()
    )


def _read(installation: Installation, path: Path, copy: Callable[[], Iterator[bytes]] | None) -> tuple[TextReader, str]:
    with archive.script(installation, path, copy() if copy else None) as (blocks, outcome):
        reader = texts.read(blocks)
        return reader, outcome()


def _text(installation: Installation, path: Path, copy: Callable[[], Iterator[bytes]] | None) -> Iterator[bytes]:
    with archive.script(installation, path, copy() if copy else None) as (blocks, _):
        yield from blocks


def _of_damage(damage: Damage) -> Iterator[Finding]:
    if damage.terminal:
        yield Finding(
            "crlf",
            Effect.REPAIR,
            f"a terminal (`docker exec -t`) put a CR before each of its {damage.lines} bytes 10: "
            "pg_restore cannot read it",
            "`--repair OUT` takes them out again, which is exact",
        )
    elif damage.lines >= archive.ENOUGH and damage.ends * 10 > damage.lines * 9:
        yield Finding(
            "crlf",
            Effect.FATAL,
            f"{damage.ends} of its {damage.lines} bytes 10 follow a 13: something changed"
            " most line ends in a binary file, and not all",
            "restore another",
        )
    if damage.messages:
        shown = listed([f"«{text[:120]}»" for text in damage.messages], 2)
        failed = any("error: " in text for text in damage.messages)
        yield Finding(
            "stray",
            Effect.PARTIAL if failed else Effect.REPAIR,
            f"messages of standard error stand in it: {shown}",
            "`--repair OUT` takes them out",
        )
    if damage.replaced:
        yield Finding(
            "text-mode",
            Effect.FATAL,
            "an editor or PowerShell read it as text and replaced what it did not know: this cannot be undone",
            "make another, with pg_dump's own --file",
        )


def _of_problem(problem: str, reader: TextReader, damage: Damage | None) -> Iterator[Finding]:
    survey = reader.survey
    last = f", in or behind the table {survey.last_table}" if survey.last_table else ""
    effect = Effect.PARTIAL if survey.tables else Effect.FATAL
    remedy = f"restore another; pg_restore without --exit-on-error brings back what is before{last}"
    if damage and damage.repairable:
        remedy = "the repair could not make it readable: restore another"
    yield Finding("damaged", effect, f"pg_restore cannot read it to its end{last}: {problem}", remedy)


def _changes(damage: Damage | None, copy: object) -> Iterator[str]:
    if damage and damage.terminal:
        yield f"one CR taken out before each of {damage.lines} bytes 10"
    if damage and damage.messages:
        yield f"{len(damage.messages)} messages of standard error taken out"
    if copy and not (damage and damage.repairable):
        yield "decompressed"
