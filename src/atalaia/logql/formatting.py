"""Stages that change a line or labels, for one entry: decolorize, drop, keep, label_format, line_format."""

from __future__ import annotations

import re
from collections.abc import Callable

from .entry import Entry
from .errors import BadTemplate
from .extract import DETAILS, ERROR
from .literals import quote
from .select import matcher_test
from .template.data import LabelMap
from .template.functions import FUNCTIONS
from .template.gotimes import Moment
from .template.nodes import Template as TemplateTree
from .template.parse import TemplateError, parse
from .template.reads import plain
from .template.run import run as run_template
from .tree import Drop, Keep, LabelFormat, LineFormat, Rename, Template

# The escape sequences of terminals (ECMA-48), as most tools strip them.
COLOURS = (
    "[\x1b\x9b][\\[\\]()#;?]*(?:(?:(?:[a-zA-Z0-9]*(?:;[a-zA-Z0-9]*)*)?\x07)"
    "|(?:(?:[0-9]{1,4}(?:;[0-9]{0,4})*)?[0-9A-PRZcf-ntqry=><~]))"
)
_COLOURS = re.compile(COLOURS)
Step = Callable[[Entry], bool]
TEMPLATE_ERROR = "TemplateFormatErr"
_NAMES = frozenset({*FUNCTIONS, "__line__", "__timestamp__"})


def decolorized(line: str) -> str:
    """A line without the escape sequences that colour it."""
    return _COLOURS.sub("", line)


def _chosen(stage: Drop | Keep) -> Callable[[str, str], bool]:
    """Whether a stage names a label, or the label with this value."""
    names = {item for item in stage.items if isinstance(item, str)}
    matchers = [(item.name, matcher_test(item)) for item in stage.items if not isinstance(item, str)]
    return lambda name, value: name in names or any(name == other and test(value) for other, test in matchers)


def drop(stage: Drop) -> Step:
    """The stage `drop`; an error can be dropped like a label."""
    chosen = _chosen(stage)

    def run(entry: Entry) -> bool:
        entry.remove([name for name, value in entry.all().items() if chosen(name, value)])
        return True

    return run


def keep(stage: Keep) -> Step:
    """The stage `keep`; errors are always kept."""
    chosen = _chosen(stage)

    def run(entry: Entry) -> bool:
        entry.remove(
            [name for name, value in entry.all().items() if name not in (ERROR, DETAILS) and not chosen(name, value)]
        )
        return True

    return run


def label_format(stage: LabelFormat) -> Step:
    """The stage `label_format`. Templates see the labels as they are before the first of them."""
    made = [(a, compiled(a.template) if isinstance(a, Template) else None) for a in stage.assignments]

    def run(entry: Entry) -> bool:
        data: LabelMap | None = None
        for assignment, text in made:
            if isinstance(assignment, Rename):
                entry.rename(assignment.source, assignment.name)
            elif text is not None:
                data = LabelMap(entry.all()) if data is None else data
                try:
                    entry.set(assignment.name, text(entry, data))
                except TemplateError as error:
                    entry.fault = {ERROR: TEMPLATE_ERROR, DETAILS: str(error)}
        return True

    return run


def line_format(stage: LineFormat) -> Step:
    """The stage `line_format`; an entry that the template fails for keeps its line."""
    text = compiled(stage.template)

    def run(entry: Entry) -> bool:
        try:
            entry.line = text(entry, LabelMap(entry.all()))
        except TemplateError as error:
            entry.fault = {ERROR: TEMPLATE_ERROR, DETAILS: str(error)}
        return True

    return run


def compiled(template: str) -> Callable[[Entry, LabelMap], str]:
    """A template as a function, which raises TemplateError. Raises LogQLError for what is no template."""
    tree = _parsed(template)
    if (parts := plain(tree)) is not None:
        return lambda _, data: "".join([data.get(name, "") if is_label else name for name, is_label in parts])

    def text(entry: Entry, data: LabelMap) -> str:
        own = {"__line__": lambda: entry.line, "__timestamp__": lambda: Moment(entry.ts)}
        return run_template(tree, data, {**FUNCTIONS, **own})

    return text


def fields(template: str) -> list[tuple[str, bool]] | None:
    """Texts, and names of labels with True, of a template that has nothing else. Raises LogQLError for no template."""
    return plain(_parsed(template))


def _parsed(template: str) -> TemplateTree:
    try:
        return parse(template, _NAMES)
    except ValueError as error:
        raise BadTemplate(f"invalid template {quote(template[:200])}: {error}") from error
