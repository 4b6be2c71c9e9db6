"""Where alerts and recorded samples go: the section `[logs.alerts]` of atalaia.toml."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from atalaia.environment.section import Section


def _address(url: str) -> str:
    if not re.fullmatch(r"https?://[^/\s]+\S*", url):
        raise ValueError(f'{url!r} is not an address such as "http://127.0.0.1:9093"')
    if "@" in url.split("/")[2]:
        raise ValueError("a user or a password in an address: name a user and a password_file instead")
    return url.rstrip("/")


def _label_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError(f"{name!r} is not a label's name: letters, digits and _, no digit first")
    return name


HttpAddress = Annotated[str, AfterValidator(_address)]
LabelName = Annotated[str, AfterValidator(_label_name)]
Texts = Annotated[tuple[str, ...], BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)]
"""A text, or a list of them."""


class AlertsSettings(Section):
    """`[logs.alerts]`: Alertmanagers and a receiver of samples, with what lets us in there (docs/rules.md)."""

    urls: tuple[HttpAddress, ...] = ()
    user: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    ca: Path | None = None
    remote_write: HttpAddress | None = None
    remote_write_user: str | None = None
    remote_write_password_file: Path | None = None
    remote_write_token_file: Path | None = None
    remote_write_ca: Path | None = None
    external_url: HttpAddress | None = None
    labels: dict[LabelName, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _secrets(self) -> Self:
        for prefix in ("", "remote_write_"):
            user, password = getattr(self, f"{prefix}user"), getattr(self, f"{prefix}password_file")
            if (user is None) != (password is None):
                raise ValueError(f"{prefix}user and {prefix}password_file go together")
            if user is not None and getattr(self, f"{prefix}token_file") is not None:
                raise ValueError(f"give one of {prefix}user and {prefix}token_file")
        return self
