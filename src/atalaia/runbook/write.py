"""The whole document, in the order of the one it replaces: configuration, backups, problems, how it is kept
current.
"""

from __future__ import annotations

from atalaia.diagnosis.language import Language, moment
from atalaia.runbook.backup_chapter import backup_chapter
from atalaia.runbook.facts import RunbookFacts, Unknown
from atalaia.runbook.markdown import block, code, plain
from atalaia.runbook.problems_chapter import problems_chapter
from atalaia.runbook.setup_chapter import setup_chapter
from atalaia.runbook.texts import say, texts


def write(facts: RunbookFacts, language: Language = "pt-BR") -> str:
    """The document as Markdown, ending in a newline. The same facts give the same text.

    Raises ValueError when the diagnosis in `facts` speaks another language.
    """
    if not isinstance(facts.diagnosis, Unknown) and facts.diagnosis.language != language:
        raise ValueError(f"the diagnosis is in {facts.diagnosis.language}, the document in {language}")
    told = texts(language)
    services = ", ".join(code(service.name) for service in facts.services)
    paragraphs = [
        f"# {told['title']}",
        say(language, "intro", environment=plain(facts.environment), services=services),
        say(language, "generated", version=plain(facts.version), when=moment(facts.generated)),
        *setup_chapter(facts, language),
        *backup_chapter(facts, language),
        *problems_chapter(facts, language),
        "---",
        told["closing"],
        block(facts.commands.renew, "bash"),
    ]
    return "\n\n".join(paragraphs) + "\n"
