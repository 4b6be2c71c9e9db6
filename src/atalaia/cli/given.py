"""Settings of a section, given one by one as NAME=VALUE."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from atalaia.environment.errors import InputError

Section = TypeVar("Section", bound=BaseModel)


def settings_of(section: type[Section], option: str, given: Sequence[str], what: str, document: str) -> Section:
    """What the texts of an option give, defaults for the others. `what` they name. Raises InputError."""
    values = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or name not in section.model_fields:
            known = ", ".join(section.model_fields)
            raise InputError(f"{option} {text!r} is not NAME=VALUE of {what}", f"known here: {known}")
        values[name] = value
    try:
        return section.model_validate_strings(values)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        message = str(wrong["msg"]).removeprefix("Value error, ")
        raise InputError(f"{option} {wrong['loc'][0]}={wrong['input']}: {message}", f"see {document}") from error
