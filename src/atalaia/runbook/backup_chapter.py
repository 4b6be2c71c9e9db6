"""Chapter 2: how to back up, which backups there are and what proves them, how to restore."""

from __future__ import annotations

from atalaia.diagnosis.language import Language, number, seconds
from atalaia.runbook.facts import BackupFacts, RunbookFacts, Unknown
from atalaia.runbook.markdown import block, code, plain, table
from atalaia.runbook.texts import say, shown, shown_size, shown_time, texts, unknown

_SHOWN = 20
_CHECKSUM_SHOWN = 12


def backup_chapter(facts: RunbookFacts, language: Language) -> list[str]:
    """The chapter's paragraphs."""
    told = texts(language)
    repository = shown(facts.repository, language, as_code=True)
    return [
        f"## {told['chapter_backup']}",
        f"### {told['section_backup']}",
        say(language, "backup_lead", repository=repository),
        block(facts.commands.backup, "bash"),
        told["verify_lead"],
        block(facts.commands.verify, "bash"),
        f"### {told['section_backups']}",
        *_backups(facts, language),
        f"### {told['section_restore']}",
        block(facts.commands.restore, "bash"),
    ]


def _backups(facts: RunbookFacts, language: Language) -> list[str]:
    told = texts(language)
    if isinstance(facts.backups, Unknown):
        return [say(language, "backups_unknown", value=unknown(facts.backups, language))]
    paragraphs = []
    if facts.backups:
        newest = sorted(facts.backups, key=lambda backup: backup.taken, reverse=True)
        labels = ("backup", "server", "taken", "size", "state", "checksum", "restore")
        rows = [_row(backup, language) for backup in newest[:_SHOWN]]
        paragraphs.append(table([told[f"label_{label}"] for label in labels], rows))
        if len(newest) > _SHOWN:
            counts = {"shown": number(_SHOWN, language), "count": number(len(newest), language)}
            paragraphs.append(say(language, "backups_cut", **counts))
    else:
        paragraphs.append(told["no_backups"])
    proven = {backup.server for backup in facts.backups if backup.state == "verified"}
    servers = [service.name for service in facts.services if service.kind == "postgres"]
    return paragraphs + [say(language, "no_verified", server=plain(name)) for name in servers if name not in proven]


def _row(backup: BackupFacts, language: Language) -> list[str]:
    checksum = backup.checksum
    beginning = checksum if isinstance(checksum, Unknown) else checksum[:_CHECKSUM_SHOWN]
    took = backup.restore_seconds
    return [
        code(backup.name),
        code(backup.server),
        shown_time(backup.taken, language),
        shown_size(backup.size, language),
        texts(language)[f"state_{backup.state}"],
        shown(beginning, language, as_code=True),
        unknown(took, language) if isinstance(took, Unknown) else seconds(took, language),
    ]
