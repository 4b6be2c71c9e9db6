"""What was read of a text -> findings, in the words of someone who has to restore it."""

from __future__ import annotations

import re
from pathlib import Path

from atalaia.backup.inspecting.findings import Effect, Finding, listed
from atalaia.backup.inspecting.normal import Normaliser, Recipe
from atalaia.backup.inspecting.survey import Survey
from atalaia.backup.inspecting.text import Ending, TextReader

_REPAIR = "`--repair OUT` writes a copy without it"
_DAY_FIRST = re.compile(r"(?<!\d)\d{1,2}[-_.]\d{1,2}[-_.]\d{4}(?!\d)")
# The first minor version of each major one whose psql knows \restrict (CVE-2025-8714).
RESTRICT_FROM = {13: 22, 14: 19, 15: 14, 16: 10, 17: 6}


def of_file(path: Path, mode: int, secrets: bool) -> list[Finding]:
    """What its name and its mode say."""
    found = []
    if mode & 0o077:
        what = "holds secrets and can be read" if secrets else "can be read"
        found.append(
            Finding("mode", Effect.WARNING, f"it {what} by other accounts (mode {mode:04o})", f"chmod 600 {path.name}")
        )
    if _DAY_FIRST.search(path.name):
        found.append(
            Finding(
                "name",
                Effect.NOTE,
                "its name has the day first: such names do not sort by time, and name no zone",
                "name dumps SERVER_2026-11-22T150000Z",
            )
        )
    return found


def of_lines(normal: Normaliser, recipe: Recipe, reader: TextReader) -> list[Finding]:
    """What a terminal, an editor or PowerShell did to it."""
    found = []
    if normal.mark.startswith("UTF-16"):
        found.append(
            Finding(
                "utf-16",
                Effect.REPAIR,
                f"it is {normal.mark}, as PowerShell's `>` writes: psql cannot read it",
                "`--repair OUT` turns it into UTF-8; next time use pg_dump's own `--file`",
            )
        )
        if recipe.page:
            what = f"letters beyond ASCII were misread as {recipe.page} on the way; the repair turns them back"
            found.append(Finding("code-page", Effect.REPAIR, what, "look at some names in the repaired copy"))
        elif normal.foreign:
            what = "PowerShell reads what programs write in the console's code page: compare some names with accents"
            found.append(Finding("code-page", Effect.WARNING, what))
    elif normal.mark:
        found.append(
            Finding("byte-order-mark", Effect.REPAIR, "it begins with a byte order mark", "`--repair OUT` takes it out")
        )
    if normal.stripped and not normal.bare:
        again = f"; {normal.doubled} line ends were CRLF in the data, and come out so" if normal.doubled else ""
        bodies = f", among them in the bodies of {reader.survey.functions} functions" if reader.survey.functions else ""
        rows = " Values of INSERT rows that have line ends are changed too." if reader.survey.inserts else ""
        found.append(
            Finding(
                "crlf",
                Effect.REPAIR,
                f"all {normal.stripped} line ends are CRLF{bodies}: a terminal (`docker exec -t`) or Windows did it"
                f".{rows}",
                "`--repair OUT` takes one CR from each, which undoes a terminal's work exactly"
                f"{again}. If an editor or git did it, CRs of the data before line ends are gone already",
            )
        )
    elif normal.stripped:
        found.append(
            Finding(
                "mixed-line-ends",
                Effect.REPAIR,
                f"{normal.stripped} of {normal.stripped + normal.bare} line ends are CRLF, "
                "also where a dump never has them",
                "`--repair OUT` takes the CR from each: which of them were data cannot be known",
            )
        )
    return found


def of_strays(reader: TextReader) -> list[Finding]:
    """What else stands in it."""
    found = []
    sure = [one for one in reader.strays if one.certain]
    doubtful = [one for one in reader.strays if not one.certain]
    if sure:
        count = "a message" if len(sure) == 1 else f"{len(sure)} messages"
        where = listed([f"{one.line}" for one in sure], 4)
        quoted = listed([f"«{one.text.splitlines()[0][:120]}»" for one in sure if one.text], 2)
        text = f"{count} of standard error stand in it, line {where}: {quoted}"
        found.append(Finding("stray", Effect.REPAIR, text, "`--repair OUT` takes them out"))
    if failed := [one for one in reader.strays if one.problem and one.certain]:
        what = f"pg_dump reported an error, line {failed[0].line}: {failed[0].text.splitlines()[0][:200]}"
        found.append(Finding("dump-error", Effect.PARTIAL, what, "it lacks what came after; make another"))
    if doubtful:
        where = listed([f"{one.line}" for one in doubtful], 4)
        what = f"what looks like messages of standard error stands within values, line {where}: it may be data"
        found.append(Finding("stray-doubtful", Effect.WARNING, what, "look at these lines; they are left as they are"))
    if foreign := reader.survey.foreign:
        what = f"text that is no SQL stands in it: {listed([f'«{text[:120]}»' for text in foreign], 2)}"
        found.append(Finding("foreign", Effect.REPAIR, what, _REPAIR))
    return found


def of_ending(reader: TextReader, ending: Ending, broken: str) -> list[Finding]:
    """Whether it is whole."""
    found = []
    survey = reader.survey
    if broken:
        found.append(
            Finding(
                "compression",
                Effect.PARTIAL,
                f"its compressed stream is cut off or damaged: {broken}",
                "copy it anew from where it came",
            )
        )
    if ending.closing:
        what = "its closing line is cut off, and nothing else: all data is there"
        found.append(Finding("closing-line", Effect.WARNING, what, "`--repair OUT` completes the line"))
    elif reader.stuck >= 0:
        found.append(
            Finding("quote", Effect.FATAL, ending.where, "it is damaged there; `--repair OUT` keeps what is before")
        )
    elif not ending.whole:
        what = (
            f"it is cut off {ending.where}. What would follow is lost: further rows and tables, and, as they "
            "stand last, primary keys, indexes, foreign keys and triggers"
        )
        remedy = "restore another; `--repair OUT` writes a copy of what is whole, marked as such"
        found.append(
            Finding("cut-off", Effect.PARTIAL if survey.databases or survey.roles else Effect.FATAL, what, remedy)
        )
    if ending.trailing:
        what = f"behind its closing line stands: «{ending.trailing[:160]}»"
        found.append(Finding("trailing", Effect.REPAIR, what, _REPAIR))
    if len(survey.dumps) > 1:
        first = ", ".join(f"{dump.scope}{'' if dump.closed else ' (cut off)'}" for dump in survey.dumps[:6])
        what = f"{len(survey.dumps)} dumps stand in it one after the other: {first}"
        remedy = (
            "`--repair OUT` keeps the last"
            if all(dump.scope == "cluster" for dump in survey.dumps)
            else "they may be of different databases: split it by hand, at the lines `-- PostgreSQL database dump`"
        )
        found.append(Finding("several", Effect.REPAIR, what, remedy))
    return found


def of_statements(survey: Survey, source: str) -> list[Finding]:
    """What its statements would do, need and betray."""
    found = []
    dropped = survey.dropped
    if databases := dropped.get("DATABASE"):
        what = f"restored, it DROPS the databases {listed(databases)}"
        if roles := dropped.get("ROLE"):
            what += (
                f" and the roles {listed(roles)}; with ON_ERROR_STOP it stops at `DROP ROLE` of the role that restores"
            )
            what += ", when the databases are gone already"
        found.append(
            Finding("drops", Effect.REPAIR, what, _REPAIR + "; never restore this one into a server with data")
        )
    elif dropped:
        count = sum(map(len, dropped.values()))
        kinds = listed(sorted(what.lower() + "s" for what in dropped))
        what = f"restored, it DROPS {count} objects ({kinds}) before it makes them anew"
        found.append(
            Finding("drops", Effect.REPAIR, what, _REPAIR + "; into a new, empty database it fails at the first")
        )
    for what, count in sorted(survey.secrets.items()):
        found.append(
            Finding(
                "secrets", Effect.WARNING, f"it holds {what} ({count})", "keep it like a password: mode 0600, encrypted"
            )
        )
    if survey.restricted:
        needed = ", ".join(f"{major}.{minor}" for major, minor in sorted(RESTRICT_FROM.items()) if major >= 15)
        what = f"it has \\restrict, which only newer psql know ({needed}, 18 or later)"
        found.append(Finding("restrict", Effect.NOTE, what, "restore with such a psql"))
    odd = sorted(survey.encodings - {"UTF8"})
    if "SQL_ASCII" in odd:
        what = "its database was SQL_ASCII: which encoding its texts are in is not known"
        found.append(
            Finding("encoding", Effect.WARNING, what, "restore into a database made with ENCODING 'SQL_ASCII'")
        )
    elif odd:
        found.append(Finding("encoding", Effect.NOTE, f"its texts are in {', '.join(odd)}; psql converts them"))
    if survey.scs_off:
        what = (
            "it was made with standard_conforming_strings off: backslashes in its texts escape, which is not read here"
        )
        found.append(Finding("strings", Effect.WARNING, what, "prove it: `--prove`"))
    if survey.tablespaces:
        what = f"it makes the tablespaces {listed(survey.tablespaces)}: their directories must exist, empty"
        found.append(Finding("tablespaces", Effect.WARNING, what, "`grep 'CREATE TABLESPACE' FILE` shows them"))
    if extensions := [name for name in survey.extensions if name != "plpgsql"]:
        what = f"it needs the extensions {listed(extensions)}"
        found.append(Finding("extensions", Effect.NOTE, what, "install them before it is restored"))
    if not survey.server_version and source == "text":
        found.append(Finding("version", Effect.NOTE, "it does not say of which server version it is"))
    return found
