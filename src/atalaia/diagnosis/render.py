"""A diagnosis for people and for programs: sections to print in any way, plain text, and JSON values."""

from __future__ import annotations

import re
import textwrap
from dataclasses import asdict, dataclass
from typing import Any

from atalaia.diagnosis.diagnose import Diagnosis
from atalaia.diagnosis.incidents import COUNTED, Excerpt, Incident, pattern_text
from atalaia.diagnosis.language import Language, moment, number, phrases
from atalaia.diagnosis.load import IMPORTANCE

_COMMAND = re.compile(r"`[^`]*`")
_NO_BREAK = "\N{NO-BREAK SPACE}"


@dataclass(frozen=True, slots=True)
class Section:
    """One incident, ready to print: `facts` are labels with their values, `likely` and `steps` are lists in
    order.
    """

    heading: str
    importance: str
    facts: tuple[tuple[str, str], ...]
    cause: str
    notes: tuple[str, ...]
    likely: tuple[str, ...]
    steps: tuple[str, ...]
    excerpts: tuple[Excerpt, ...]


def summary(diagnosis: Diagnosis) -> tuple[str, ...]:
    """The sentences before the sections: how many incidents, or that there was nothing, and what was looked
    at.
    """
    language = diagnosis.language
    told = phrases(language)
    unusual = diagnosis.unusual
    lines = []
    if unusual:
        counts = []
        for importance in IMPORTANCE:
            if times := sum(incident.importance == importance for incident in unusual):
                counts.append(f"{number(times, language)} × {told[f'importance_{importance}']}")
        key = "summary_one" if len(unusual) == 1 else "summary"
        lines.append(told[key].format_map({"count": number(len(unusual), language), "counts": ", ".join(counts)}))
    elif diagnosis.newest is not None and not diagnosis.silent:
        # Without a line nothing may be called usual; the note says so instead.
        lines.append(told["nothing"])
    looked = {
        "servers": ", ".join(diagnosis.servers) if diagnosis.servers else told["all_servers"],
        "start": moment(diagnosis.start),
        "end": moment(diagnosis.end),
        "count": number(diagnosis.read, language),
    }
    lines.append(told["looked_at"].format_map(looked))
    if diagnosis.newest is not None:
        lines.append(told["newest"].format_map({"when": moment(diagnosis.newest)}))
    return (*lines, *diagnosis.notes)


def sections(diagnosis: Diagnosis) -> tuple[Section, ...]:
    """A section for each incident out of the ordinary, in the diagnosis' order."""
    return tuple(_section(incident, diagnosis.language) for incident in diagnosis.unusual)


def ordinary(diagnosis: Diagnosis) -> tuple[str, ...]:
    """A line for each incident that is routine or the consequence of another."""
    language = diagnosis.language
    lines = []
    for incident in diagnosis.incidents:
        if incident.role != "primary":
            times = f"{number(incident.count, language)} ×"
            lines.append(
                " · ".join([_when(incident, language), times, " ".join([f"{incident.title}.", *incident.notes])])
            )
    return tuple(lines)


def render_text(diagnosis: Diagnosis, width: int = 100) -> str:
    """The whole diagnosis as plain text, wrapped at `width` columns; log lines are not wrapped."""
    told = phrases(diagnosis.language)
    blocks = ["\n".join(wrapped for line in summary(diagnosis) for wrapped in _wrapped(line, "", width))]
    for section in sections(diagnosis):
        lines = [f"[{section.importance}] {section.heading}"]
        lines += [f"    {label}: {value}" for label, value in section.facts]
        lines += _wrapped(f"{told['label_cause']}: {section.cause}", "    ", width)
        for note in section.notes:
            lines += _wrapped(note, "    - ", width)
        for label, items in ((told["label_likely"], section.likely), (told["label_remedy"], section.steps)):
            if items:
                lines.append(f"    {label}:")
            for position, item in enumerate(items, 1):
                lines += _wrapped(item, f"      {position}. ", width)
        lines.append(f"    {told['label_excerpts']}:")
        for excerpt in section.excerpts:
            lines += [
                f"      {moment(excerpt.ts)}",
                *(f"        {line}" for line in excerpt.line.split("\n")),
            ]
        blocks.append("\n".join(lines))
    if others := ordinary(diagnosis):
        blocks.append(
            "\n".join([f"{told['label_normal']}:", *(line for o in others for line in _wrapped(o, "    - ", width))])
        )
    return "\n\n".join(blocks) + "\n"


def to_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Numbers, strings, lists and tables only; times are ns since 1970, with an RFC 3339 text beside the
    period's.
    """
    value = asdict(diagnosis)
    for incident, plain in zip(diagnosis.incidents, value["incidents"], strict=True):
        plain["known"] = incident.is_known
        plain["pattern"]["text"] = pattern_text(incident.pattern, diagnosis.language)
        plain["counts"] = {name: dict(pairs) for name, pairs in incident.counts.items()}
    value["nothing_unusual"] = not diagnosis.unusual and diagnosis.newest is not None and not diagnosis.silent
    plain_value: dict[str, Any] = _plain(value)
    return plain_value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def _section(incident: Incident, language: Language) -> Section:
    told = phrases(language)
    facts = [
        (told["label_server"], incident.server or told["missing_other"]),
        (told["label_times"], _when(incident, language)),
        (told["label_count"], number(incident.count, language)),
        (told["label_pattern"], pattern_text(incident.pattern, language)),
    ]
    for name in COUNTED:
        if pairs := incident.counts.get(name):
            shown = ", ".join(f"{value} ({number(times, language)})" for value, times in pairs)
            facts.append((told[f"label_{name}"], shown))
    return Section(
        heading=incident.title,
        importance=told[f"importance_{incident.importance}"],
        facts=tuple(facts),
        cause=incident.cause,
        notes=incident.notes,
        likely=tuple(f"{suspect.name}. {suspect.why}." for suspect in incident.suspects),
        steps=(*(f"{suspect.name}: {suspect.remedy}" for suspect in incident.suspects), *incident.remedy),
        excerpts=incident.excerpts,
    )


def _when(incident: Incident, language: Language) -> str:
    first, last = moment(incident.first), moment(incident.last)
    return first if first == last else phrases(language)["until"].format_map({"first": first, "last": last})


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    # A command between backquotes is copied from the screen, so it stays on one line, however long.
    whole = _COMMAND.sub(lambda match: match[0].replace(" ", _NO_BREAK), text)
    lines = textwrap.wrap(
        whole,
        width,
        initial_indent=indent,
        subsequent_indent=" " * len(indent),
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]
