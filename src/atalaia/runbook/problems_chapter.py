"""Chapter 3: the problems that the logs really show, with their lines, and what to do about each."""

from __future__ import annotations

from atalaia.diagnosis.incidents import Incident, pattern_text
from atalaia.diagnosis.language import Language, moment, number, phrases
from atalaia.diagnosis.render import summary
from atalaia.runbook.facts import RunbookFacts, Unknown
from atalaia.runbook.markdown import block, plain, prose
from atalaia.runbook.texts import say, texts, unknown

# The document is read from end to end; everything else stands in the diagnosis itself.
_SHOWN = 12


def problems_chapter(facts: RunbookFacts, language: Language) -> list[str]:
    """The chapter's paragraphs."""
    told = texts(language)
    paragraphs = [f"## {told['chapter_problems']}", f"### {told['section_seen']}"]
    if isinstance(facts.diagnosis, Unknown):
        # Nobody knows whether there is something to solve either, so the reason stands in both sections.
        why = say(language, "problems_unknown", value=unknown(facts.diagnosis, language))
        return [*paragraphs, why, f"### {told['section_solutions']}", why]
    unusual = facts.diagnosis.unusual
    shown = unusual[:_SHOWN]
    paragraphs += [prose(line) for line in summary(facts.diagnosis)]
    for position, incident in enumerate(shown, 1):
        paragraphs += _seen(position, incident, language)
    if len(unusual) > len(shown):
        paragraphs.append(say(language, "problems_cut", count=number(len(unusual) - len(shown), language)))
    paragraphs.append(f"### {told['section_solutions']}")
    for position, incident in enumerate(shown, 1):
        paragraphs += _solution(position, incident, language)
    return paragraphs if shown else [*paragraphs, told["no_solutions"]]


def _heading(position: int, incident: Incident) -> str:
    return f"**{position}. {plain(incident.title)}**"


def _seen(position: int, incident: Incident, language: Language) -> list[str]:
    told = texts(language)
    first, last = moment(incident.first), moment(incident.last)
    values = {
        "server": plain(incident.server or phrases(language)["missing_other"]),
        "importance": phrases(language)[f"importance_{incident.importance}"],
        "count": number(incident.count, language),
        "when": first if first == last else say(language, "from_to", first=first, last=last),
        "pattern": pattern_text(incident.pattern, language),
    }
    key = "seen_fact_once" if incident.count == 1 else "seen_facts"
    sentences = " ".join(prose(sentence) for sentence in (incident.cause, *incident.notes))
    lines = [
        f"{moment(excerpt.ts)} {incident.server:<11} | {line}"
        for excerpt in incident.excerpts
        for line in excerpt.line.split("\n")
    ]
    return [_heading(position, incident), say(language, key, **values), sentences, told["logs"], block(lines)]


def _solution(position: int, incident: Incident, language: Language) -> list[str]:
    paragraphs = [_heading(position, incident)]
    if incident.suspects:
        clients = "; ".join(plain(suspect.name) for suspect in incident.suspects)
        paragraphs.append(say(language, "likely", clients=clients))
    steps = [f"{suspect.name}: {suspect.remedy}" for suspect in incident.suspects]
    listed = [f"{n}. {prose(step)}" for n, step in enumerate([*steps, *incident.remedy], 1)]
    return [*paragraphs, "\n".join(listed)]
