"""Groups of log messages to incidents: what happened, how often, how important it is, why, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atalaia.diagnosis import startup_packet
from atalaia.diagnosis.classify import Occurrence
from atalaia.diagnosis.correlate import explained_by, first_error
from atalaia.diagnosis.fill import derived, fill, visible
from atalaia.diagnosis.groups import Group
from atalaia.diagnosis.language import Language, number, phrases, seconds
from atalaia.diagnosis.load import Importance, sqlstate_classes
from atalaia.diagnosis.startup_packet import Suspect
from atalaia.diagnosis.times import TimePattern, time_pattern

COUNTED = ("user", "database", "application", "remote_host")
_TOP = 5
_EXCERPTS = 3
_EXCERPT_LIMIT = 1_500
_VALUE_LIMIT = 120
_UNKNOWN_IMPORTANCE: Mapping[str, Importance] = {"PANIC": "emergency", "FATAL": "problem", "ERROR": "warning"}


@dataclass(frozen=True, slots=True)
class Excerpt:
    """A real log line (`ts` in ns since 1970) with its control characters made visible, cut at 1,500
    characters.
    """

    ts: int
    line: str


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that happened, in the diagnosis' language. `kind` is the knowledge's id, "" when it is not
    known.

    `role` is "primary", or "secondary" (a consequence) or "routine" (normal); `first` and `last` are ns since
    1970; `counts` has the most frequent values of user, database, application and remote_host with their
    numbers.
    """

    kind: str
    role: str
    server: str
    importance: Importance
    severity: str
    sqlstate: str
    title: str
    cause: str
    remedy: tuple[str, ...]
    notes: tuple[str, ...]
    suspects: tuple[Suspect, ...]
    fields: Mapping[str, str]
    first: int
    last: int
    count: int
    pattern: TimePattern
    counts: Mapping[str, tuple[tuple[str, int], ...]]
    excerpts: tuple[Excerpt, ...]

    @property
    def is_known(self) -> bool:
        """Whether the knowledge has an entry for it."""
        return bool(self.kind)


def incidents(
    groups: Sequence[Group], occurrences: Sequence[Occurrence], language: Language, port_of: Mapping[str, int]
) -> tuple[Incident, ...]:
    """An incident for each group, by importance, the primary ones first, then the most recent first."""
    made = [_incident(one, groups, occurrences, language, port_of) for one in groups]
    order = ("emergency", "problem", "warning", "notice")
    return tuple(sorted(made, key=lambda i: (order.index(i.importance), i.role != "primary", -i.last, i.title)))


def pattern_text(pattern: TimePattern, language: Language) -> str:
    """The time pattern in words."""
    values = {
        "period": seconds(pattern.period, language),
        "jitter": seconds(pattern.jitter, language),
        "count": number(pattern.count, language),
        "span": seconds(pattern.span, language),
    }
    return phrases(language)[f"pattern_{pattern.shape}"].format_map(values)


def _values(one: Group, port_of: Mapping[str, int]) -> dict[str, str]:
    values = one.common()
    values |= one.fields
    values["server"] = one.server
    if one.server in port_of:
        # A server that this environment runs listens on loopback unless told otherwise.
        values |= {"port": str(port_of[one.server]), "server_host": "127.0.0.1"}
    return values | derived(values)


def _incident(
    one: Group,
    groups: Sequence[Group],
    occurrences: Sequence[Occurrence],
    language: Language,
    port_of: Mapping[str, int],
) -> Incident:
    pattern = time_pattern(one.times)
    values = _values(one, port_of)
    title, cause, remedy = _texts(one, values, language)
    importance, role, notes = _weight(one, pattern, groups, language, port_of)
    suspects: tuple[Suspect, ...] = ()
    if startup_packet.is_about_startup(one):
        story = startup_packet.story(one, pattern, groups, values, language)
        suspects = story.suspects
        inferred = phrases(language)["note_likely"].format_map({"pattern": pattern_text(pattern, language)})
        notes = (*notes, *story.notes, *([inferred] if suspects else []))
    excerpts = _chosen(one.occurrences)
    if one.kind is not None and one.kind.id == "transaction_aborted":
        cause_of_it = first_error(one.occurrences[0], occurrences)
        notes = (*notes, _first_error_note(one.occurrences[0], cause_of_it, language))
        excerpts = [*([cause_of_it] if cause_of_it else []), *excerpts]
    return Incident(
        kind=one.kind.id if one.kind else "",
        role=role,
        server=one.server,
        importance=importance,
        severity=one.occurrences[-1].message.severity,
        sqlstate=one.occurrences[-1].entry.metadata.get("sqlstate", ""),
        title=title,
        cause=cause,
        remedy=remedy,
        notes=(*notes, *_many_note(one, values, language)),
        suspects=suspects,
        fields={name: visible(value, _VALUE_LIMIT) for name, value in one.fields.items()},
        first=one.times[0],
        last=one.times[-1],
        count=len(one.occurrences),
        pattern=pattern,
        counts={name: _most(one, name) for name in COUNTED if one.counts(name)},
        excerpts=tuple(Excerpt(o.entry.ts, visible(o.entry.line, _EXCERPT_LIMIT)) for o in excerpts),
    )


def _texts(one: Group, values: Mapping[str, str], language: Language) -> tuple[str, str, tuple[str, ...]]:
    if one.kind is not None:
        text = one.kind.texts[language]
        remedy = tuple(fill(step, values, language) for step in text.remedy)
        return fill(text.title, values, language), fill(text.cause, values, language), remedy
    told = phrases(language)
    sample = one.occurrences[-1]
    sqlstate = sample.entry.metadata.get("sqlstate", "")
    name = sqlstate_classes().get(sqlstate[:2], {}).get(language, "")
    of_class = told["unknown_class"].format_map({"sqlstate": sqlstate, "name": name}) if name else ""
    cause = told["unknown_cause"].format_map({"severity": sample.message.severity, "class": of_class})
    if one.merged:
        counts = {"count": number(len(one.occurrences), language), "kinds": number(one.merged, language)}
        title = told["unknown_rest_title"].format_map(counts)
    else:
        title = told["unknown_title"].format_map({"template": visible(sample.template, 160)})
    return title, cause, (told["unknown_remedy"],)


def _weight(
    one: Group, pattern: TimePattern, groups: Sequence[Group], language: Language, port_of: Mapping[str, int]
) -> tuple[Importance, str, tuple[str, ...]]:
    if one.kind is None:
        return _UNKNOWN_IMPORTANCE.get(one.occurrences[-1].message.severity, "notice"), "primary", ()
    told = phrases(language)
    explanation = explained_by(one, groups)
    if explanation is not None and explanation.kind is not None:
        title = fill(explanation.kind.texts[language].title, _values(explanation, port_of), language)
        return "notice", "secondary", (fill(told["note_follows"], {"title": title}, language),)
    if one.kind.role == "secondary":
        return "notice", "secondary", (told["note_secondary"],)
    if one.kind.role == "routine":
        return "notice", "routine", ()
    if one.kind.normal_span and pattern.span <= one.kind.normal_span:
        span = {"span": seconds(pattern.span, language)}
        return "notice", "primary", (told["note_brief"].format_map(span),)
    return one.kind.importance, "primary", ()


def _many_note(one: Group, values: Mapping[str, str], language: Language) -> tuple[str, ...]:
    if one.kind is None or not one.kind.many_field:
        return ()
    different = len(one.counts(one.kind.many_field))
    if different < one.kind.many_at:
        return ()
    return (fill(one.kind.texts[language].many, {**values, "number": number(different, language)}, language),)


def _first_error_note(of: Occurrence, error: Occurrence | None, language: Language) -> str:
    key = "note_first_error" if error else "note_first_error_unseen"
    message = error.message.text.split("\n")[0] if error else ""
    return fill(phrases(language)[key], {"pid": of.pid, "message": message}, language)


def _most(one: Group, name: str) -> tuple[tuple[str, int], ...]:
    return tuple((visible(value, _VALUE_LIMIT), times) for value, times in one.counts(name).most_common(_TOP))


def _chosen(occurrences: Sequence[Occurrence]) -> list[Occurrence]:
    """The first one and the newest ones: the first shows how it began, the newest what it is like now."""
    if len(occurrences) <= _EXCERPTS:
        return list(occurrences)
    return [occurrences[0], *occurrences[1 - _EXCERPTS :]]
