"""The templates in labels and annotations of alerts: Go's, with Prometheus' variables and functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from atalaia.environment.errors import AtalaiaError
from atalaia.logql.errors import LogQLError
from atalaia.logql.template.alerting import FUNCTIONS, Sample, sample
from atalaia.logql.template.data import LabelMap
from atalaia.logql.template.nodes import Template
from atalaia.logql.template.parse import TemplateError, parse
from atalaia.logql.template.run import run

_NAMES = frozenset({*FUNCTIONS, "query", "externalURL", "pathPrefix"})
# Prometheus puts the same in front of each template.
_VARIABLES = (
    "{{$labels := .Labels}}{{$externalLabels := .ExternalLabels}}{{$externalURL := .ExternalURL}}{{$value := .Value}}"
)
Ask = Callable[[str], list[tuple[Mapping[str, str], float]]]
"""Answers LogQL at the moment of the evaluation: series with their values."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What templates know beside their alert. `moment` in ns."""

    ask: Ask
    moment: int = 0
    url: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)


def template_problem(text: str) -> str | None:
    """Why a text is no template; None when it is one."""
    try:
        _parsed(text)
    except ValueError as error:
        return str(error)
    return None


def expanded(text: str, labels: Mapping[str, str], value: float, around: Surroundings) -> str:
    """What a template makes of an alert; where it fails, a text that says why, as in Prometheus."""
    if "{{" not in text:
        return text
    data: dict[str, Any] = {
        "Labels": LabelMap(labels),
        "ExternalLabels": LabelMap(around.labels),
        "ExternalURL": around.url,
        "Value": value,
    }

    def query(logql: str) -> list[Sample]:
        try:
            return [sample(found, number) for found, number in around.ask(logql)]
        except (AtalaiaError, LogQLError) as error:
            raise TemplateError(str(error)) from error

    own: Mapping[str, Callable[..., Any]] = {
        "query": query,
        "externalURL": lambda: around.url,
        "pathPrefix": lambda: "",
        "now": lambda: around.moment / 1e9,
    }
    try:
        made = run(_parsed(text), data, {**FUNCTIONS, **own})
        return made.encode(errors="replace").decode()  # half characters cannot be sent
    except TemplateError as error:
        return f"<error expanding template: {error}>"


@lru_cache(maxsize=1000)
def _parsed(text: str) -> Template:
    return parse(_VARIABLES + text, _NAMES)
